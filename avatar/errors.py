"""What can go wrong on the user's side. The command line prints the message of these and no traceback."""

from __future__ import annotations


class AvatarError(Exception):
    """Root of all errors whose message alone tells the user what to do."""


class ConfigError(AvatarError, ValueError):
    """An argument or a configuration is wrong; found before any compute is spent."""


class DataError(AvatarError):
    """A shard, a record or a clip is missing or broken; the message names it.

    Args:
        message: What was wrong, where, what was wanted, and the way out.
        cause: A few words that are the same for all failures of a kind; what was skipped is counted by it.
    """

    def __init__(self, message: str, cause: str = "broken record") -> None:
        super().__init__(message)
        self.cause = cause


class CheckpointError(AvatarError):
    """A checkpoint or a model folder is missing, broken, or of another model."""
