"""A cell as it is handed to another process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avatar.commands.sweep.axes import Point
from avatar.commands.sweep.cells import Cell
from avatar.commands.sweep.record import Record, read_record


@dataclass(frozen=True)
class Order:
    """What a worker needs to know of a cell; see :class:`avatar.commands.sweep.cells.Cell`.

    Attributes:
        name: Of the cell.
        point: Where in the grid it lies.
        folder: Its run folder.
        args: Of ``avatar fit``.
        settings: All arguments and their values.
        inputs: Model and data by content.
        data: Its data section: cells that share it share what they have decoded.
        keep_checkpoints: Whether it keeps checkpoints and exported model when it has finished.
    """

    name: str
    point: Point
    folder: str
    args: list[str]
    settings: dict[str, Any]
    inputs: dict[str, str]
    data: str
    keep_checkpoints: bool

    def line(self) -> str:
        """As a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def order_of(cell: Cell, keep_checkpoints: bool) -> Order:
    """What a worker needs to know of a cell."""
    return Order(
        cell.name, cell.point, str(cell.folder), cell.args, cell.settings, cell.inputs, cell.data, keep_checkpoints
    )


def mark_failed(order: Order, error: str) -> None:
    """Write down that a cell has failed whose process could not say so itself."""
    folder = Path(order.folder)
    record = read_record(folder) or Record(order.name, order.point, order.settings, order.inputs)
    record.status, record.error = "failed", error
    record.save(folder)
