"""AVATAR: reinforcement learning to see, hear and reason over video."""

__version__ = "0.1.0"
