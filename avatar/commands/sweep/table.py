"""The table of a sweep: each row against the baseline, run by run, with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar.benchmarks.figures.bootstrap import middle, redraw
from avatar.commands.sweep.axes import Point, matches
from avatar.commands.sweep.outcome import reached
from avatar.commands.sweep.record import Record, read_record
from avatar.errors import ConfigError

NUM_RESAMPLES = 10_000
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes:
        mean: None where there is no run.
        interval: 95 %, by bootstrap over runs; None for fewer than two.
    """

    mean: float | None
    interval: Interval | None = None

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out; of a ratio, see :func:`leaves_out`."""
        return leaves_out(self.interval, 0.0)


def leaves_out(interval: Interval | None, value: float) -> bool:
    """Whether there is an interval and ``value`` lies outside it."""
    return interval is not None and not interval[0] <= value <= interval[1]


@dataclass(frozen=True)
class Row:
    """Runs that differ only in what means are taken over.

    Attributes:
        point: What they share.
        records: Those that have finished.
        num: How many there are to be.
    """

    point: Point
    records: list[Record]
    num: int


def read_sweep(folder: Path) -> dict[str, Any]:
    """``sweep.json`` of a sweep.

    Raises:
        ConfigError: There is none.
    """
    path = folder / "sweep.json"
    if not path.is_file():
        raise ConfigError(f"{folder} is no sweep: there is no sweep.json in it")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def read_cells(folder: Path, names: Sequence[str]) -> list[Record]:
    """Those that were begun."""
    return [record for name in names if (record := read_record(folder / "cells" / name))]


def rows_of(sweep: dict[str, Any], records: Sequence[Record]) -> list[Row]:
    """By the labels of all axes but those that means are taken over, in the order of the grid."""
    compared = [axis["name"] for axis in sweep["axes"] if axis["name"] not in sweep["over"]]
    repeats = 1
    for axis in sweep["axes"]:
        repeats *= len(axis["labels"]) if axis["name"] in sweep["over"] else 1
    rows: dict[str, Row] = {}
    for record in records:
        point = {name: record.point[name] for name in compared}
        row = rows.setdefault(json.dumps(point), Row(point, [], repeats))
        if record.result and record.status == "finished":
            row.records.append(record)
    places = {axis["name"]: axis["labels"] for axis in sweep["axes"]}
    return sorted(rows.values(), key=lambda row: [places[name].index(label) for name, label in row.point.items()])


def summarize(sweep: dict[str, Any], records: Sequence[Record]) -> list[dict[str, Any]]:
    r"""One entry a row: means over its runs, and differences to the baseline over the runs that both have.

    A run that never reaches a target counts with all that it was given: its completions are then a lower bound, and
    ``reached`` says how many runs got there. Ratios are of such means. Intervals draw runs with replacement, the same
    ones for row and baseline (10,000 draws, percentiles); with few runs they are somewhat too narrow.

    Args:
        sweep: As :func:`read_sweep` gives it.
        records: Of its cells.
    """
    rows = rows_of(sweep, records)
    entries = []
    for row in rows:
        base = _baseline_of(row, rows, sweep.get("baseline"))
        entries.append(_entry(row, base, sweep["targets"]))
    return entries


def _baseline_of(row: Row, rows: Sequence[Row], baseline: Point | None) -> Row | None:
    """The row with the baseline's labels, and its own on all other axes."""
    wanted = {**row.point, **baseline} if baseline else None
    found = [other for other in rows if wanted and matches(other.point, wanted)]
    return found[0] if found and found[0] is not row else None


def _entry(row: Row, base: Row | None, targets: Sequence[float]) -> dict[str, Any]:
    entry: dict[str, Any] = {"point": row.point, "runs": len(row.records), "of": row.num}
    entry["cpu_per_completion"] = _mean({key: cost for key, r in _results(row).items() if (cost := _cost(r))})
    for name in ("accuracy", "mean_accuracy"):
        entry[name] = _mean({key: float(result[name]) for key, result in _results(row).items()})
        if base:
            entry[f"{name}_difference"] = _difference(row, base, name)
    entry["targets"] = {str(target): _to_target(row, base, target) for target in targets}
    return entry


def _to_target(row: Row, base: Row | None, target: float) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for unit in ("completions", "seconds"):
        values = {key: to_target(result, target, unit) for key, result in _results(row).items()}
        entry["reached"] = sum(got for _, got in values.values())
        entry[unit] = _mean({key: value for key, (value, _) in values.items()})
        if base:
            others = {key: to_target(result, target, unit)[0] for key, result in _results(base).items()}
            entry[f"{unit}_ratio"] = _ratio({key: value for key, (value, _) in values.items()}, others)
    return entry


def to_target(result: dict[str, Any], target: float, unit: str) -> tuple[float, bool]:
    """(completions or training seconds until ``target`` was first reached, True); else (all that there were, False)."""
    xs = result["seconds"] if unit == "seconds" else [x for x, _ in result["curve"]]
    found = reached(result["curve"], target, xs)
    return (xs[-1], False) if found is None else (found, True)


def _cost(result: dict[str, Any]) -> float:
    """Processor seconds of training for each new completion; 0 where they were not taken down."""
    return float(result.get("cpu_per_step", 0.0)) * int(result["steps"]) / max(1, int(result["completions"]))


def _results(row: Row) -> dict[str, dict[str, Any]]:
    """By what tells the repeats apart."""
    return {_repeat(record, row): record.result for record in row.records if record.result}


def _repeat(record: Record, row: Row) -> str:
    return json.dumps({name: label for name, label in record.point.items() if name not in row.point}, sort_keys=True)


def _tensors(*columns: dict[str, float]) -> tuple[list[str], list[Tensor]]:
    """Values of the repeats that all columns have."""
    common = sorted(set.intersection(*(set(column) for column in columns)))
    return common, [torch.tensor([column[key] for key in common], dtype=torch.float64) for column in columns]


def _mean(values: dict[str, float]) -> Estimate:
    keys, (x,) = _tensors(values)
    return _estimate(keys, lambda w: (w * x).sum(-1) / w.sum(-1))


def _difference(row: Row, base: Row, name: str) -> Estimate:
    keys, (x, y) = _tensors(*({key: r[name] for key, r in _results(side).items()} for side in (row, base)))
    return _estimate(keys, lambda w: (w * (x - y)).sum(-1) / w.sum(-1))


def _ratio(values: dict[str, float], others: dict[str, float]) -> Estimate:
    keys, (x, y) = _tensors(values, others)
    return _estimate(keys, lambda w: (w * x).sum(-1) / (w * y).sum(-1))


def _estimate(keys: Sequence[str], figure: Any) -> Estimate:
    if not keys:
        return Estimate(None)
    mean = round(float(figure(torch.ones(len(keys), dtype=torch.float64))), 6)
    if len(keys) < 2:
        return Estimate(mean)
    draws = torch.cat([figure(weights) for weights in redraw(keys, NUM_RESAMPLES)])
    ends = middle(draws)
    return Estimate(mean, None if ends is None else (round(ends[0], 6), round(ends[1], 6)))
