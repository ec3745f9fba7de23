"""The files of a run, read so that memory stays small and what a crash has torn is left out."""

from __future__ import annotations

import csv
import io
import json
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]

_STEP = re.compile(rb'\{"step": (\d+)[,}]')  # how every line of ours begins; spares parsing most of a large file


def read_columns(path: Path, keep: Callable[[str], bool]) -> dict[str, Column]:
    """Columns of a CSV file as numbers.

    Args:
        path: The file; a last line without its end, which a crash leaves, is not read.
        keep: Which columns, by name.

    Returns:
        [rows] float64 by name, NaN where a cell is empty or no number. A file without a whole header gives {}.
    """
    text = path.read_bytes().decode("utf-8", "replace")
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
    header = next(reader, [])
    places = {name: place for place, name in enumerate(header) if keep(name)}
    columns = {name: array("d") for name in places}
    for row in reader:
        if len(row) == len(header):
            for name, place in places.items():
                columns[name].append(_number(row[place]))
    return {name: np.array(column, dtype=np.float64) for name, column in columns.items()}


def read_objects(path: Path, after: int = -1) -> Iterator[dict[str, Any]]:
    """Objects of a JSONL file, one at a time; none where there is no file.

    A line without its end and one that is no JSON object are passed over: a crash leaves such.

    Args:
        path: The file.
        after: Objects of this ``step`` and below are passed over, too.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or ((match := _STEP.match(line)) and int(match[1]) <= after):
                continue
            found = _object(line)
            if found is not None and float(found.get("step") or 0) > after:
                yield found


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _number(text: str) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
