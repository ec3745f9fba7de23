"""Single columns of a ``metrics.csv``: a curve, a mean, when a target was reached."""

from __future__ import annotations

import csv
from pathlib import Path


def read_curve(metrics: Path, x: str, y: str) -> list[tuple[float, float]]:
    """(x, y) of each row of a ``metrics.csv`` that has ``y``; an empty x is 0, a column that is not there gives []."""
    with metrics.open(newline="", encoding="utf-8") as file:
        return [(float(row.get(x) or 0), float(row[y])) for row in csv.DictReader(file) if row.get(y)]


def mean_of(metrics: Path, key: str) -> float | None:
    """Mean of a column over the rows that have it; None where none has."""
    values = [y for _, y in read_curve(metrics, "step", key)]
    return round(sum(values) / len(values), 6) if values else None


def completions_to(metrics: Path, target: float) -> int | None:
    """Completions generated when validation accuracy first reached ``target``; None if it never did."""
    reached = (x for x, y in read_curve(metrics, "completions/generated", "val/accuracy") if y >= target)
    first = next(reached, None)
    return None if first is None else int(first)
