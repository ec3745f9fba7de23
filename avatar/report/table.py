"""The arms side by side, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

from avatar.report.arms import Arm, Runs
from avatar.report.figures.seconds import mean_seconds
from avatar.report.runs import ACCURACY, Run


def rows_of(runs: Runs) -> list[dict[str, Any]]:
    """One row an arm: means over its runs, None where no run has a figure.

    ``completions_to`` is the mean over the runs that reached a target, beside how many did.
    """
    return [_row(arm, runs.targets) for arm in runs.arms]


def cells(runs: Runs) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text; ``-`` where there is nothing."""
    header = ["arm", "runs", "last", "best", *(f"to {target:.2f}" for target in runs.targets)]
    return [*header, "seconds", "a step"], [_texts(row) for row in rows_of(runs)]


def table_of(runs: Runs) -> Table:
    """For the screen."""
    header, body = cells(runs)
    table = Table(title="Validation accuracy and what it took")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in body:
        table.add_row(*map(Text, row))  # Text: brackets in a label would be markup
    return table


def _row(arm: Arm, targets: Sequence[float]) -> dict[str, Any]:
    seconds = mean_seconds(arm)
    return {
        "arm": arm.label,
        "runs": len(arm.runs),
        "last_accuracy": _mean(arm, lambda run: run.last_accuracy),
        "best_accuracy": _mean(arm, _best),
        "completions_to": {f"{target:g}": _reached(arm, target) for target in targets},
        "seconds": _mean(arm, lambda run: sum(run.seconds.values()) * run.timed_steps or None),
        "seconds_per_step": sum(seconds.values()) or None,
    }


def _reached(arm: Arm, target: float) -> dict[str, Any]:
    found = [x for run in arm.runs if (x := run.completions_to(target)) is not None]
    return {"mean": fmean(found) if found else None, "reached": len(found)}


def _best(run: Run) -> float | None:
    return float(max(run.points(ACCURACY)[1], default=0.0)) if run.last_accuracy is not None else None


def _mean(arm: Arm, figure: Callable[[Run], float | None]) -> float | None:
    found = [value for run in arm.runs if (value := figure(run)) is not None]
    return fmean(found) if found else None


def _texts(row: dict[str, Any]) -> list[str]:
    spent = [_text(row["seconds"], ",.0f"), _text(row["seconds_per_step"], ".3g")]
    reached = [_text(r["mean"], ",.0f") + _of(r["reached"], row["runs"]) for r in row["completions_to"].values()]
    accuracy = [_text(row[key], ".3f") for key in ("last_accuracy", "best_accuracy")]
    return [row["arm"], str(row["runs"]), *accuracy, *reached, *spent]


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _of(reached: int, total: int) -> str:
    """How many runs a mean is of, where it is not of all and not of none."""
    return f" ({reached} of {total})" if 0 < reached < total else ""
