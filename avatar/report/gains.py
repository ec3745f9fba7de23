"""Accuracy of replies by how long they are, and what one arm gains over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avatar.report.arms import Arm, seed_key
from avatar.report.files import Column
from avatar.report.runs import Run
from avatar.report.stats import draws_of_means, interval

MOST_BINS = 4


@dataclass(frozen=True)
class Bins:
    """Ranges of lengths that hold about as many replies each.

    Attributes:
        inner: [bins - 1], where the next bin starts, in tokens.
        labels: [bins], shortest and longest reply of each.
    """

    inner: Column
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Gain:
    """Of one arm over its baseline, by bin.

    Attributes:
        mean: [bins], in shares; NaN where one of the two has no reply.
        low: [bins], lower end of its 95 % interval; NaN where one of the two arms has a single run.
        high: [bins], likewise.
        num: [bins], replies of the arm.
        num_baseline: [bins], of its baseline.
        paired: Whether runs of both were drawn together, seed by seed.
    """

    mean: Column
    low: Column
    high: Column
    num: Column
    num_baseline: Column
    paired: bool


def bins_of(lengths: Column) -> Bins:
    """Quantile bins of at least one length; fewer than ``MOST_BINS`` where many replies are equally long."""
    cuts = np.quantile(lengths, np.linspace(0, 1, MOST_BINS + 1)[1:-1], method="higher")
    inner = np.unique(cuts[cuts > lengths.min()])
    place = np.searchsorted(inner, lengths, side="right")
    members = [lengths[place == i] for i in range(len(inner) + 1)]
    return Bins(inner, tuple(_range(int(each.min()), int(each.max())) for each in members))


def accuracies(runs: Sequence[Run], bins: Bins) -> tuple[Column, Column]:
    """Mean reward, NaN without a reply, and number of replies, [R, bins] each."""
    counts = np.zeros((len(runs), len(bins.labels)))
    sums = np.zeros_like(counts)
    for i, run in enumerate(runs):
        place = np.searchsorted(bins.inner, run.lengths, side="right")
        np.add.at(counts[i], place, 1)
        np.add.at(sums[i], place, run.rewards)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0), counts


def gain_of(arm: Arm, baseline: Arm, bins: Bins) -> Gain:
    """The difference of two means over runs, with its bootstrap interval over runs.

    Arms with the same seeds are drawn seed by seed, so what both owe to a seed falls out of the difference.
    """
    mine, num = accuracies(arm.runs, bins)
    theirs, num_baseline = accuracies(baseline.runs, bins)
    keys = [seed_key(run) for run in arm.runs]
    paired = all(keys) and keys == [seed_key(run) for run in baseline.runs]
    low = high = np.full(len(bins.labels), np.nan)
    if min(len(mine), len(theirs)) > 1:
        low, high = interval(draws_of_means(mine) - draws_of_means(theirs, seed=0 if paired else 1))
    return Gain(_means(mine) - _means(theirs), low, high, num.sum(axis=0), num_baseline.sum(axis=0), paired)


def _means(values: Column) -> Column:
    """[bins] of [R, bins], over the runs that have a reply; NaN where none has."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"
