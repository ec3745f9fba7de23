"""What a reward should not pay for: attacks, the questions they are tried on, and the trial."""
