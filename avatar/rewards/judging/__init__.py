"""What the judge is sent, and what it is spared."""
