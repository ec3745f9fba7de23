"""The file of hints while it is written: one line at a time, each safe as soon as it is there."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from avatar.data.hints import Hints
from avatar.data.skipped import Failure
from avatar.errors import ConfigError


class Before:
    """The hints that were there before a run.

    Args:
        path: Their file; there may be none.
        how: How the hints of this run come about.

    Raises:
        DataError: A line of it is no hint.
    """

    def __init__(self, path: Path, how: Mapping[str, Any]) -> None:
        self.path, self.how = path, dict(how)
        self.hints = Hints(path) if path.exists() else None

    def has(self, key: str, overwrite: bool = False) -> bool:
        """Whether there was a hint of ``key``; with ``overwrite``, one that came about as those of this run."""
        found = self.hints.get(key) if self.hints else None
        if found is None or not overwrite:
            return found is not None
        return {name: found.get(name) for name in self.how} == self.how


class Journal:
    """Adds hints to a file, and names what failed in another, ``NAME.failed.jsonl``, which is of the last run alone.

    A last line that was cut off by a kill is taken away first.

    Args:
        path: The file; made if there is none.
        how: How the hints of this run come about; stands in each line.

    Attributes:
        before: What was there.

    Raises:
        ConfigError: It cannot be written, or another process writes it.
        DataError: A line of it is no hint.
    """

    def __init__(self, path: Path, how: Mapping[str, Any]) -> None:
        self.path, self.how = path, dict(how)
        self.log = path.with_name(f"{path.stem}.failed.jsonl")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
        except OSError as error:
            raise ConfigError(
                f"{path}: the hints cannot be written there ({error.strerror}); give another place with --out"
            ) from None
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{self.path} is being written by another process; wait for it, or stop it") from None
        self.before, end = Before(self.path, self.how), 0
        if self.before.hints is not None:
            end = self.before.hints.whole
        self._file.truncate(end)
        self._file.seek(max(0, end - 1))
        if self._file.read(1) not in (b"", b"\n"):  # written by hand
            self._file.write(b"\n")
        self.log.unlink(missing_ok=True)

    def add(self, key: str, hint: str) -> None:
        """Write one down."""
        line = json.dumps({"key": key, "hint": hint, **self.how}, ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def fail(self, failure: Failure) -> None:
        """Name a record that has none."""
        with self.log.open("ab") as log:
            log.write(json.dumps(failure.__dict__, ensure_ascii=False).encode(errors="replace") + b"\n")

    def close(self) -> None:
        """Let go of it."""
        self._file.close()
