"""A progress bar that does not disturb what is timed."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import Progress


class LateBar:
    """A progress bar that appears when the work has taken two seconds, and never draws by itself while it is timed.

    Args:
        description: Of the work.
        total: Of its parts.
    """

    def __init__(self, description: str, total: float) -> None:
        self._bar = Progress(auto_refresh=False, transient=True, console=Console(stderr=True))
        self._task = self._bar.add_task(description, total=total)
        self._done, self._due = 0.0, time.monotonic() + 2

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def advance(self, parts: float = 1) -> None:
        """So much more is done."""
        self._done += parts
        if time.monotonic() >= self._due:
            self._bar.start()
            self._bar.update(self._task, completed=self._done, refresh=True)
            self._due = time.monotonic() + 0.2
