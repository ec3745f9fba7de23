"""One run, as little of it as the figures need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatar.errors import DataError
from avatar.modules.health import ADVANTAGE_LABELS, STALENESS_LABELS
from avatar.replay import TIERS
from avatar.report.files import Column, read_columns, read_objects
from avatar.report.settings import accuracy_key, read_settings
from avatar.report.sweeps import Place

GENERATED, ACCURACY = "completions/generated", "val/accuracy"
KEPT = {
    *("step", GENERATED, ACCURACY, "completion/length", "ess/fresh", "ess/replayed"),
    *(f"replay/occupancy_{tier}" for tier in TIERS),
}
BINS = {"fresh": len(ADVANTAGE_LABELS), "replayed": len(ADVANTAGE_LABELS), "staleness": len(STALENESS_LABELS)}
LATE = 0.25  # the last share of a run's steps, whose replies are looked at


@dataclass(frozen=True)
class Run:
    """What is kept of a run.

    Attributes:
        place: Where it was found.
        settings: What it was told, by dotted key; empty where it is not known.
        metrics: [rows] by column, NaN where a row has none.
        seconds: Mean seconds a step by phase (``encode``, ``generate`` ...); empty without ``timings.csv``.
        timed_steps: Rows of ``timings.csv`` that have a phase.
        histograms: Counts over the whole run by ``fresh``, ``replayed`` and ``staleness``; empty without health.jsonl.
        lengths: [n] tokens of the unhinted fresh completions of its last quarter of steps.
        rewards: [n] their accuracy rewards.
    """

    place: Place
    settings: Mapping[str, Any]
    metrics: Mapping[str, Column]
    seconds: Mapping[str, float]
    timed_steps: int
    histograms: Mapping[str, Column]
    lengths: Column
    rewards: Column

    def points(self, y: str, x: str = GENERATED) -> tuple[Column, Column]:
        """(x, y) [n] each where the run has ``y``; an empty x is 0. By rising x, the last of equal ones; n may be 0."""
        if y not in self.metrics:
            return np.empty(0), np.empty(0)
        ys = self.metrics[y]
        xs = np.nan_to_num(self.metrics.get(x, np.zeros_like(ys)))
        known = dict(sorted(zip(xs[~np.isnan(ys)], ys[~np.isnan(ys)], strict=True), key=lambda point: point[0]))
        return np.array(list(known), dtype=np.float64), np.array(list(known.values()), dtype=np.float64)

    @property
    def last_accuracy(self) -> float | None:
        """Of the last validation; None without one."""
        ys = self.points(ACCURACY)[1]
        return float(ys[-1]) if len(ys) else None

    @property
    def mean_accuracy(self) -> float | None:
        """Area under the learning curve by its width in completions; None without a validation.

        With a single validation it is that one.
        """
        xs, ys = self.points(ACCURACY)
        if len(ys) < 2:
            return self.last_accuracy
        return float(np.trapezoid(ys, xs) / (xs[-1] - xs[0]))

    @property
    def mean_length(self) -> float | None:
        """Tokens of a completion, over the whole run; None where it is not known."""
        lengths = self.metrics.get("completion/length", np.empty(0))
        known = lengths[~np.isnan(lengths)]
        return float(known.mean()) if len(known) else None

    def completions_to(self, target: float) -> int | None:
        """Completions generated at the first validation of at least ``target``; None if there was none."""
        xs, ys = self.points(ACCURACY)
        reached = xs[ys >= target]
        return int(reached[0]) if len(reached) else None


def read_run(place: Place) -> Run:
    """Read the files of a run, each once.

    Raises:
        DataError: It is no run of reinforcement learning, or a file of it cannot be read.
    """
    if place.trouble:
        raise DataError(place.trouble)
    folder = place.folder
    try:
        settings = place.settings or _settings(folder / "config.yaml")
        metrics = read_columns(folder / "metrics.csv", lambda name: name in KEPT)
        _check(settings, metrics)
        seconds, timed_steps = _seconds(folder / "timings.csv")
        last = np.nanmax(metrics.get("step", np.zeros(1)))
        lengths, rewards = _replies(folder / "completions.jsonl", math.floor(last * (1 - LATE)), accuracy_key(settings))
        histograms = _histograms(folder / "health.jsonl")
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"its files are not as `avatar fit` writes them: {error}") from None
    return Run(place, settings, metrics, seconds, timed_steps, histograms, lengths, rewards)


def _check(settings: Mapping[str, Any], metrics: Mapping[str, Column]) -> None:
    if GENERATED in metrics and not np.isnan(metrics[GENERATED]).all():
        return
    if str(settings.get("model.class_path", "")).endswith("SFTModule"):
        raise DataError("a cold start, which generates no completions")
    raise DataError("metrics.csv counts no generated completions: it made no step of reinforcement learning")


def _settings(file: Path) -> Mapping[str, Any]:
    return read_settings(file) if file.is_file() else {}


def _seconds(file: Path) -> tuple[dict[str, float], int]:
    """Mean seconds by phase, over all timed steps, a phase that a step lacks counted as 0; and how many steps."""
    if not file.is_file():
        return {}, 0
    columns = read_columns(file, lambda name: name.startswith("time/"))
    steps = max((int((~np.isnan(column)).sum()) for column in columns.values()), default=0)
    means = {name.removeprefix("time/"): float(np.nansum(column)) / max(1, steps) for name, column in columns.items()}
    return (means if steps else {}), steps


def _replies(file: Path, after: int, key: str) -> tuple[Column, Column]:
    """Lengths and rewards of the unhinted completions after a step; those that could not be judged are left out."""
    pairs = [
        (float(row["length"]), float(row[key]))
        for row in read_objects(file, after)
        if not row.get("hinted") and isinstance(row.get(key), int | float) and "length" in row
    ]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


def _histograms(file: Path) -> dict[str, Column]:
    """Sums over the lines; those of other bins, which another version may have written, are left out."""
    sums = {name: np.zeros(size) for name, size in BINS.items()}
    for line in read_objects(file):
        for name, total in sums.items():
            counts = line.get(f"histogram/{name}")
            if isinstance(counts, list) and len(counts) == len(total):
                total += np.array(counts, dtype=np.float64)
    return {name: total for name, total in sums.items() if total.any()}
