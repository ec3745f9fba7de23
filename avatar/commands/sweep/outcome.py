"""What a run came to, from the files that it wrote."""

from __future__ import annotations

import csv
from collections import defaultdict
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
FIRST = 200  # completions that tell where a run starts
Curve = Sequence[Sequence[float]]  # (x, y) in rising x


def outcome(folder: Path) -> dict[str, Any]:
    """The learning curve of a run, what it ended at, and what it took.

    Returns:
        ``curve``: [new completions, validation accuracy] of every validation, the one before the first step included;
        ``seconds``: of training up to each of them, without validations and without start; ``accuracy``: the last;
        ``mean_accuracy``: see :func:`area`; ``by_kind``: of the last validation; ``completions``, ``steps``,
        ``seconds_per_step``, ``cpu_per_step`` (processor time); ``means``: of readings over the steps; ``start``: mean accuracy reward of the first 200
        completions, or None.

    Raises:
        DataError: There are no validations to make a curve of.
    """
    rows, (spent, cpu) = _rows(folder / "metrics.csv"), _spent(folder / "timings.csv")
    curve, seconds, by_kind, generated, total = [], [], {}, 0.0, 0.0
    columns: defaultdict[str, list[float]] = defaultdict(list)
    early: list[float] = []
    for row in rows:
        generated = float(row.get("completions/generated") or generated)
        total += spent.get(row["step"], 0.0)
        for key in KEPT:
            if row.get(key):
                columns[key].append(float(row[key]))
        if row.get("reward/accuracy") and generated <= FIRST:
            early.append(float(row["reward/accuracy"]))
        if row.get("val/accuracy"):
            curve.append([generated, round(float(row["val/accuracy"]), 6)])
            seconds.append(round(total, 3))
            by_kind = {k.removeprefix("val/accuracy/"): float(v) for k, v in row.items() if _is_kind(k) and v}
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
        "by_kind": by_kind,
        "completions": int(generated),
        "steps": steps,
        "seconds_per_step": round(total / max(1, steps), 5),
        "cpu_per_step": round(cpu / max(1, steps), 5),
        "start": round(sum(early) / len(early), 6) if early else None,
        "means": {key: round(sum(values) / len(values), 6) for key, values in columns.items()},
    }


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
    seen = [float(row["val/accuracy"]) for row in rows if row.get("val/accuracy")]
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


def _is_kind(key: str) -> bool:
    return key.startswith("val/accuracy/")
