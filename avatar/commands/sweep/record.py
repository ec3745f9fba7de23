"""What is known of a cell, as a file that is whole or not there: ``cell.json`` in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from avatar.commands.folders import differences
from avatar.commands.sweep.axes import Point
from avatar.commands.sweep.cells import Cell
from avatar.errors import ConfigError
from avatar.modules.logs import replace_text

Status = Literal["running", "stopped", "failed", "finished"]


@dataclass
class Record:
    """What ``cell.json`` holds.

    Attributes:
        name: Of the cell.
        point: Where in the grid it lies.
        settings: All arguments that it was run with.
        inputs: The model that it started from and the data that it read, by content.
        status: How it stands; one that says ``running`` while nobody is at work was cut off.
        error: Why it failed.
        attempts: How often it was started or taken up again.
        seconds: Of all attempts.
        kept: Whether it was not run here, but came from a file, see :mod:`avatar.commands.sweep.kept`.
        result: Its curve and its figures once it is finished, see :func:`avatar.commands.sweep.outcome.outcome`.
    """

    name: str
    point: Point
    settings: dict[str, Any]
    inputs: dict[str, str]
    status: Status = "running"
    error: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    kept: bool = False
    result: dict[str, Any] | None = None
    version: int = field(default=1)

    def save(self, folder: Path) -> None:
        """Write it, in one piece."""
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / "cell.json", json.dumps(asdict(self), indent=1) + "\n")


def read_record(folder: Path) -> Record | None:
    """What was written of a cell; None if it was never begun.

    Raises:
        ConfigError: The file is not one of ours.
    """
    path = folder / "cell.json"
    if not path.exists():
        return None
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not what `avatar sweep` writes ({error}); move the folder away") from None


def new_record(cell: Cell) -> Record:
    """Of a cell that begins now."""
    return Record(cell.name, cell.point, cell.settings, cell.inputs)


def check_records(cells: Sequence[Cell]) -> dict[str, Record]:
    """What has been done of each cell, refused where it would be done otherwise now.

    Raises:
        ConfigError: Settings, data or starting model of a cell have changed, or its folder holds another run.
    """
    records = {}
    for cell in cells:
        record = read_record(cell.folder)
        if record is None:
            if cell.folder.exists() and any(cell.folder.iterdir()):
                raise ConfigError(f"{cell.folder} holds a run that `avatar sweep` did not begin. {_WAY_OUT}")
            continue
        if changes := differences(record.settings, cell.settings):
            lines = "".join(f"\n  {change}" for change in changes[:8])
            raise ConfigError(f"cell {cell.name} was run with other settings; then -> now:{lines}\n{_WAY_OUT}")
        changed = [path for path, was in record.inputs.items() if cell.inputs.get(path) != was]
        if changed and not record.kept:  # weights of a start trained elsewhere are never the same to the bit
            raise ConfigError(f"cell {cell.name}: what lies in {changed[0]} has changed since. {_WAY_OUT}")
        records[cell.name] = record
    return records


_WAY_OUT = "Give another --out, or pass --restart, which sets this sweep aside and begins anew"
