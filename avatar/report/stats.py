"""Means over runs and how far they would move if other seeds had been drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from avatar.benchmarks.figures.bootstrap import redraw
from avatar.report.files import Column

LEVEL = 0.95
MOST_POINTS = 200  # of a drawn curve
Curve = tuple[Column, Column]  # x [n], rising, and y [n]


@dataclass(frozen=True)
class Band:
    """A mean over R runs, at K places.

    Attributes:
        x: [K]; completions generated, or steps.
        mean: [K].
        low: [K], lower end of the 95 % interval of the mean; None for a single run.
        high: [K], likewise.
        num_runs: R.
    """

    x: Column
    mean: Column
    low: Column | None
    high: Column | None
    num_runs: int


def draws_of_means(values: Column, seed: int = 0) -> Column:
    """Means of R runs, drawn R at a time with replacement, [draws, K].

    Args:
        values: [R, K]; a NaN takes no part in the mean at its place, and a draw that has only such is NaN there.
        seed: The same draws for the same seed and R.
    """
    weights = torch.cat(list(redraw([f"{run:09d}" for run in range(len(values))], seed=seed))).numpy()  # [draws, R]
    known = ~np.isnan(values)
    total, count = weights @ np.where(known, values, 0.0), weights @ known
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def interval(draws: Column) -> tuple[Column, Column]:
    """Between which two values the middle 95 % of [draws, K] lie, [K] each; NaN where no draw is a number."""
    ends = np.full((2, draws.shape[1]), np.nan)
    known = ~np.isnan(draws).all(axis=0)
    tail = (1 - LEVEL) / 2
    ends[:, known] = np.nanquantile(draws[:, known], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of at least one run, and the ends of its 95 % interval: NaN for a single run."""
    column = np.array(values, dtype=np.float64)[:, None]
    if len(column) < 2:
        return float(column.mean()), float("nan"), float("nan")
    low, high = interval(draws_of_means(column))
    return float(column.mean()), float(low[0]), float(high[0])


def band_of(curves: Sequence[Curve]) -> Band | None:
    """The mean curve of several runs, interpolated linearly on a grid, with its interval.

    The grid is every x of every run within the range that all have in common, thinned to ``MOST_POINTS``. A curve
    without a point takes no part; without any, or without a common range, there is no band.
    """
    curves = [curve for curve in curves if len(curve[0])]
    if not curves:
        return None
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    if len(grid) > MOST_POINTS:
        grid = np.linspace(start, end, MOST_POINTS)
    if not len(grid):
        return None
    values = np.stack([np.interp(grid, x, y) for x, y in curves])  # [R, K]
    if len(curves) < 2:
        return Band(grid, values[0], None, None, 1)
    low, high = interval(draws_of_means(values))
    return Band(grid, values.mean(axis=0), low, high, len(curves))


def smooth(curve: Curve, window: int) -> Curve:
    """Means of y over the last ``window`` points, fewer at the start."""
    x, y = curve
    sums = np.concatenate([np.zeros(1), np.cumsum(y)])
    ends = np.arange(1, len(y) + 1)
    starts = np.maximum(0, ends - window)
    return x, (sums[ends] - sums[starts]) / (ends - starts)
