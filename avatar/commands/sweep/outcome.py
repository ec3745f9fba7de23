"""What a run came to, from the files that it wrote."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from avatar.errors import DataError

# Readings that are kept as means over the steps.
KEPT = (
    "advantage/zero_spread_share", "replay/hit_rate", "replay/staleness_mean", "hint/share", "ess/fresh",
    "ess/replayed", "kl/fresh", "entropy/fresh", "grad_norm", "completion/length", "completion/truncated_share",
)  # fmt: skip
GENERATED, ACCURACY = "completions/generated", "val/accuracy"
FIRST = 200  # completions that tell where a run starts
Rows = Sequence[dict[str, str]]
Curve = Sequence[Sequence[float]]  # (x, y) in rising x


def outcome(folder: Path) -> dict[str, Any]:
    """The learning curve of a run, what it ended at, and what it took.

    Returns:
        ``curve``: [new completions, validation accuracy] of every validation, the one before the first step included;
        a run that generates none, as a cold start, has its steps there;
        ``seconds``: of training up to each of them, without validations and without start; ``accuracy``: the last;
        ``mean_accuracy``: see :func:`area`; ``by_kind``: of the last validation; ``completions``, ``steps``;
        ``seconds_per_step``, ``cpu_per_step`` (processor time); ``means``: of readings over the steps; ``start``: mean
        accuracy reward of the first 200 completions, or None.

    Raises:
        DataError: There are no validations to make a curve of.
    """
    rows, (spent, cpu) = _rows(folder / "metrics.csv"), _spent(folder / "timings.csv")
    curve, seconds = _curve(rows, spent)
    if len(curve) < 2:
        raise DataError(
            f"{folder}: fewer than two validations; give the config data.val and trainer.val_check_interval"
        )
    steps = int(float(rows[-1]["step"]))
    return {
        "curve": curve,
        "seconds": seconds,
        "accuracy": curve[-1][1],
        "mean_accuracy": round(area(curve), 6),
        "by_kind": _by_kind(rows),
        "completions": int(max(_column(rows, GENERATED), default=0)),
        "steps": steps,
        "seconds_per_step": round(sum(spent.values()) / max(1, steps), 5),
        "cpu_per_step": round(cpu / max(1, steps), 5),
        "start": _mean(_column([row for row in rows if float(row.get(GENERATED) or 0) <= FIRST], "reward/accuracy")),
        "means": {key: _mean(values) for key in KEPT if (values := _column(rows, key))},
    }


def _curve(rows: Rows, spent: dict[str, float]) -> tuple[list[list[float]], list[float]]:
    """(x, accuracy) of every validation, and the seconds of training up to it."""
    x = GENERATED if any(row.get(GENERATED) for row in rows) else "step"
    curve, seconds, at, total = [], [], 0.0, 0.0
    for row in rows:
        at, total = float(row.get(x) or at), total + spent.get(row["step"], 0.0)
        if row.get(ACCURACY):
            curve.append([at, round(float(row[ACCURACY]), 6)])
            seconds.append(round(total, 3))
    return curve, seconds


def _by_kind(rows: Rows) -> dict[str, float]:
    """Of the last validation."""
    last = next(row for row in reversed(rows) if row.get(ACCURACY))
    return {k.removeprefix(f"{ACCURACY}/"): float(v) for k, v in last.items() if k.startswith(f"{ACCURACY}/") and v}


def _column(rows: Rows, key: str) -> list[float]:
    return [float(row[key]) for row in rows if row.get(key)]


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None


def area(curve: Curve) -> float:
    r"""The mean height of a curve, by trapezes: :math:`\int y\,dx / (x_n - x_0)`.

    One number for how fast and how high, which noise in a single validation moves little.
    """
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve)) / (curve[-1][0] - curve[0][0])


def reached(curve: Curve, target: float, xs: Sequence[float] | None = None) -> float | None:
    """Where a curve first reaches ``target``, on the line between two points; None where it never does.

    Args:
        curve: (x, y) in rising x.
        target: Height.
        xs: Other values of x to answer in, one a point: seconds for completions.
    """
    xs = [point[0] for point in curve] if xs is None else xs
    if curve[0][1] >= target:
        return xs[0]
    for i, ((_, low), (_, high)) in enumerate(pairwise(curve)):
        if high >= target:
            return xs[i] + (xs[i + 1] - xs[i]) * (target - low) / (high - low)
    return None


def last_validation(folder: Path) -> tuple[int, float | None]:
    """(steps made, last accuracy) of a run that may be under way."""
    if not (folder / "metrics.csv").exists():
        return 0, None
    rows = _rows(folder / "metrics.csv")
    seen = [float(row[ACCURACY]) for row in rows if row.get(ACCURACY)]
    return int(float(rows[-1]["step"])) if rows else 0, seen[-1] if seen else None


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise DataError(f"{path} is not there: the run has logged nothing")
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("step")]


def _spent(path: Path) -> tuple[dict[str, float], float]:
    """Seconds of each step, and processor time of all; nothing where none were taken down."""
    rows = _rows(path) if path.exists() else []
    spent = {row["step"]: sum(float(v) for k, v in row.items() if k.startswith("time/") and v) for row in rows}
    return spent, sum(float(row.get("cpu/step") or 0) for row in rows)
