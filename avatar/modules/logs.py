"""Files that grow row by row and survive a resume: metrics.csv, timings.csv, completions.jsonl."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


def set_aside(path: Path) -> None:
    """Rename an existing file to ``name.1.ext`` (or the next free number), so that a new run does not lose it."""
    if not path.exists():
        return
    number = 1
    while (aside := path.with_suffix(f".{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)


def replace_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a crash leaves the old or the new content, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="")
    os.replace(partial, path)


def is_due(before: int, now: int, every: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]: a batch may take several steps; 0 is never."""
    return every > 0 and now // every > before // every


class StepTable:
    """A CSV file with one row a step; values that come later for the same step join its row.

    Every call is flushed. A column that turns up later is added to the header, with empty cells above.

    Args:
        path: The file. What an earlier run left there is set aside, unless ``keep_until`` is given.
        keep_until: Go on with the file and keep its rows up to this step, as a resumed run does.
    """

    def __init__(self, path: Path, keep_until: int | None = None) -> None:
        self.path, self.columns = path, ["step"]
        self._row: dict[str, str] = {}
        self._start_of_row = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        if keep_until is None:
            set_aside(path)
        elif path.exists():
            self._cut(keep_until)

    def _cut(self, keep_until: int) -> None:
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            self.columns = list(reader.fieldnames or self.columns)
            rows = [
                row for row in reader if row["step"] and None not in row.values() and int(row["step"]) <= keep_until
            ]
        self._row = rows.pop() if rows else {}
        self._rewrite(rows)

    def write(self, step: int, values: dict[str, str]) -> None:
        """Put ``values`` into the row of ``step``, which is the last row or a new one."""
        if self._row.get("step") != str(step):
            self._row = {"step": str(step)}
            self._start_of_row = self.path.stat().st_size if self.path.exists() else 0
        self._row |= values
        new = [name for name in values if name not in self.columns]
        if new or not self.path.exists():
            self.columns += new
            self._rewrite(self._rows_above())
            return
        with self.path.open("r+", encoding="utf-8", newline="") as file:
            file.truncate(self._start_of_row)
            file.seek(self._start_of_row)
            file.write(self._format([self._row]))

    def _rows_above(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if row["step"] != self._row["step"]]

    def _rewrite(self, rows: Iterable[dict[str, str]]) -> None:
        above = self._format([dict(zip(self.columns, self.columns, strict=True)), *rows])
        self._start_of_row = len(above.encode())
        replace_text(self.path, above + (self._format([self._row]) if self._row else ""))

    def _format(self, rows: Iterable[dict[str, str]]) -> str:
        buffer = io.StringIO()
        csv.DictWriter(buffer, self.columns, restval="", lineterminator="\n").writerows(rows)
        return buffer.getvalue()


class StepLines:
    """A JSONL file whose objects carry their ``step``; :class:`StepTable` for rows that share a step.

    Args:
        path: The file. What an earlier run left there is set aside, unless ``keep_until`` is given.
        keep_until: Go on with the file and keep its lines up to this step.
    """

    def __init__(self, path: Path, keep_until: int | None = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if keep_until is None:
            set_aside(path)
        elif path.exists():
            whole = path.read_text(encoding="utf-8").split("\n")[:-1]  # and not at the line separators of a completion
            replace_text(path, "".join(f"{line}\n" for line in whole if json.loads(line)["step"] <= keep_until))

    def write(self, objects: Iterable[dict[str, Any]]) -> None:
        """Append and flush."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects))


def is_measured(name: str) -> bool:
    """Whether a metric is a reading of the machine, which no two runs share."""
    return name.startswith(("time/", "cpu/", "memory/", "encode/"))


class RunLogger(Logger):
    """Writes metrics to ``metrics.csv`` and wall times and memory to ``timings.csv`` in the run folder.

    Metrics of a seeded CPU run are the same to the byte; readings of the machine lie apart for that reason. On resume
    the files are cut to the checkpoint's step and go on.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.resume_step: int | None = None
        self._tables: tuple[StepTable, StepTable] | None = None

    @property
    def name(self) -> str:
        """Empty: the run folder is not nested further."""
        return ""

    @property
    def version(self) -> str:
        """Empty, likewise."""
        return ""

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    save_dir = log_dir

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration is saved whole, as config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write one row's worth of values."""
        if self._tables is None:
            files = (self.folder / "metrics.csv", self.folder / "timings.csv")
            self._tables = (StepTable(files[0], self.resume_step), StepTable(files[1], self.resume_step))
        rows: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for name, value in metrics.items():
            if name != "epoch":
                rows[is_measured(name)][name] = f"{value:.8g}"
        for table, row in zip(self._tables, rows, strict=True):
            if row:
                table.write(step or 0, row)
