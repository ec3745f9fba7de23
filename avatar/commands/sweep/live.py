"""What a sweep shows while it runs: a row an arm, and the cells under way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from avatar.commands.sweep.axes import name_of
from avatar.commands.sweep.cells import Cell
from avatar.commands.sweep.options import Sweep
from avatar.commands.sweep.outcome import last_validation
from avatar.commands.sweep.record import Record, read_record

MOST_ROWS = 30


class Board:
    """Keeps the table up to date on a terminal; elsewhere it prints a line for every cell that has ended.

    Args:
        sweep: Whose rows are shown.
        cells: All of them.
        records: Of those that were begun before.
        console: To show it on.
    """

    def __init__(self, sweep: Sweep, cells: Sequence[Cell], records: dict[str, Record], console: Console) -> None:
        self.sweep, self.cells, self.console = sweep, cells, console
        self.records = dict(records)
        self.began, self.before = time.time(), self._num("finished")
        self._open: set[str] = set()
        self._live: Live | None = None

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self._live = Live(self.table([]), console=self.console, refresh_per_second=2, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self.tick([])
        if self._live:
            self._live.__exit__(None, None, None)

    def tick(self, running: Sequence[str]) -> None:
        """Take in what has ended since the last call, and show it."""
        for cell in self.cells:
            if cell.name in self._open - set(running):
                self._take(cell)
        self._open = set(running)
        if self._live:
            self._live.update(self.table(running))

    def _take(self, cell: Cell) -> None:
        record = read_record(cell.folder)
        if record is None:
            return
        self.records[cell.name] = record
        if not self._live:
            done = f"{self._num('finished')} of {len(self.cells)} finished"
            self.console.print(Text(f"{cell.name}: {_ending(record)} ({done}{self._left()})"), soft_wrap=True)

    def _num(self, status: str) -> int:
        return sum(record.status == status for record in self.records.values())

    def _left(self) -> str:
        """About how long the rest will take, from what was finished by this command."""
        finished = self._num("finished") - self.before
        if not finished:
            return ""
        seconds = (
            (time.time() - self.began) / finished * (len(self.cells) - self._num("finished") - self._num("failed"))
        )
        return f", about {seconds / 60:.0f} min left" if seconds > 60 else ", less than a minute left"

    def table(self, running: Sequence[str]) -> Group:
        """Rows with counts and means so far, and a line for each cell under way."""
        head = Table(title=self.sweep.options.title or str(self.sweep.options.folder), title_justify="left")
        names = self.sweep.compared or ["all"]
        for name in names:
            head.add_column(name)
        for name in ("finished", "running", "failed", "accuracy", "mean acc."):
            head.add_column(name, justify="right")
        rows = self._rows(running)
        for row in rows[:MOST_ROWS]:
            head.add_row(*row)
        parts = [head]
        if len(rows) > MOST_ROWS:
            parts.append(Text(f"and {len(rows) - MOST_ROWS} more rows"))  # type: ignore[arg-type]
        total = f"{self._num('finished')} of {len(self.cells)} finished, {self._num('failed')} failed"
        return Group(*parts, self._under_way(running), Text(f"{total}{self._left()}", style="bold"))

    def _rows(self, running: Sequence[str]) -> list[list[str]]:
        groups: dict[str, list[Cell]] = {}
        for cell in self.cells:
            point = {name: cell.point[name] for name in self.sweep.compared}
            groups.setdefault(name_of(point), []).append(cell)
        return [self._row(cells, running) for cells in groups.values()]

    def _row(self, cells: Sequence[Cell], running: Sequence[str]) -> list[str]:
        records = [record for cell in cells if (record := self.records.get(cell.name))]
        results = [record.result for record in records if record.status == "finished" and record.result]
        means = [
            sum(r[key] for r in results) / len(results) if results else None for key in ("accuracy", "mean_accuracy")
        ]
        failed = sum(record.status == "failed" and record.name not in running for record in records)
        return [
            *([cells[0].point[name] for name in self.sweep.compared] or ["all"]),
            f"{len(results)} of {len(cells)}",
            str(sum(cell.name in running for cell in cells) or ""),
            f"[red]{failed}[/red]" if failed else "",
            *("" if mean is None else f"{mean:.3f}" for mean in means),
        ]

    def _under_way(self, running: Sequence[str]) -> Table:
        table = Table.grid(padding=(0, 2))
        for cell in self.cells:
            if cell.name in running:
                steps, accuracy = last_validation(Path(cell.folder))
                bar = ProgressBar(total=max(1, cell.max_steps), completed=steps, width=24)
                seen = "" if accuracy is None else f"accuracy {accuracy:.3f}"
                table.add_row(cell.name, bar, f"{steps:,} of {cell.max_steps:,} steps", seen)
        return table


def _ending(record: Record) -> str:
    if record.status == "finished" and record.result:
        return f"accuracy {record.result['accuracy']:.3f}, {record.seconds:.0f} s"
    return f"{record.status}{': ' + record.error if record.error else ''}"
