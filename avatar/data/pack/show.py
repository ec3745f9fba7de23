"""What the user sees of a pack: a bar while it runs, and a table when it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

EVERY = 256  # rows between two looks at the clock while the source is read


class Bar:
    """A bar with clips/s and the number of records in quarantine.

    Args:
        console: Where to draw it.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[quarantined]} in quarantine"),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("reading", total=None, rate="", quarantined=0)
        self._quarantined = self._clips = self._rows = 0
        self._since = time.monotonic()

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def row(self) -> None:
        """A record of the source was read."""
        self._rows += 1
        if self._rows % EVERY == 0:
            self._progress.update(self._task, completed=self._rows)

    def quarantine(self, number: int) -> None:
        """So many more records are in quarantine."""
        self._quarantined += number
        self._progress.update(self._task, quarantined=self._quarantined)

    def start(self, total: int, done: int) -> None:
        """The source is read; of its samples so many are done already."""
        self._since = time.monotonic()
        self._progress.update(self._task, description="packing", total=total, completed=done)

    def sample(self, num_clips: int) -> None:
        """A sample with so many files is done."""
        self._clips += num_clips
        rate = self._clips / max(time.monotonic() - self._since, 1e-9)
        self._progress.update(self._task, advance=1, rate=f"{rate:.1f} clips/s")


def print_summary(console: Console, folder: str, manifest: Mapping[str, Any]) -> None:
    """Counts of a pack, and why what is not in it is not in it."""
    counts, hours, causes = manifest["counts"], manifest["hours"], manifest["quarantined"]
    size = sum(shard["bytes"] for shard in manifest["shards"])
    rows: list[tuple[str, Any]] = [
        ("records", f"{counts['records']} of {counts['in_source']}"),
        *((f"  {name}", num) for name, num in counts["problem_types"].items()),
        ("samples", counts["samples"]),
        *((f"  {name}", num) for name, num in manifest["streams"].items()),
        *((name, _clock(num)) for name, num in hours.items()),
        *((f"video {name} sound", num) for name, num in counts["sound"].items()),
        ("shards", f"{len(manifest['shards'])}, {size / 2**20:.1f} MB"),
        *([("left out", counts["left_out"])] if counts["left_out"] else []),
        ("in quarantine", counts["quarantined"]),
        *((f"  {cause}", num) for cause, num in causes.items()),
    ]
    table = Table(title=Text(folder, "table.title"), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(Text(name), Text(str(value)))
    console.print(table)
    if counts["quarantined"]:
        console.print(Text(f"why each is not in it: {folder}/quarantine.jsonl"), soft_wrap=True)


def _clock(hours: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(hours * 3600), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} h"
