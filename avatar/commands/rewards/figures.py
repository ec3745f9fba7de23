"""What the scores of many completions come to: distributions, disagreements, differences, the worst cases.

NaN stands for a reward that is not valid, and is left out everywhere. Shapes: N completions.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar.commands.rewards.scoring import Scores, Values

BINS = 8
SAME = 1e-5  # stored rewards have six digits


def distribution(values: Values) -> dict[str, Any]:
    """How one reward is spread: number, mean, deviation (ddof 1), quartiles, shares of 0 and of 1, histogram.

    The histogram has eight bins over 0 to 1, or over what there is where that goes beyond; its last bin is closed.
    Without any valid value there is only the number, 0.
    """
    valid = values[~np.isnan(values)]
    if not len(valid):
        return {"valid": 0}
    low, high = min(0.0, float(valid.min())), max(1.0, float(valid.max()))
    quartiles = np.quantile(valid, [0.0, 0.25, 0.5, 0.75, 1.0])
    return {
        "valid": len(valid),
        "mean": float(valid.mean()),
        "sd": float(valid.std(ddof=1)) if len(valid) > 1 else 0.0,
        **{name: float(q) for name, q in zip(("min", "q25", "median", "q75", "max"), quartiles, strict=True)},
        "share_0": float((np.abs(valid) < SAME).mean()),
        "share_1": float((np.abs(valid - 1) < SAME).mean()),
        "histogram": {"low": low, "high": high, "counts": np.histogram(valid, BINS, (low, high))[0].tolist()},
    }


def zero_spread(total: Values, group: NDArray[np.int64]) -> tuple[int, int]:
    """Groups that teach nothing (fewer than two valid sums, or all of them equal), and all groups."""
    names, of = np.unique(group, return_inverse=True)
    valid = ~np.isnan(total)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(low, of[valid], total[valid])
    np.maximum.at(high, of[valid], total[valid])
    return int((~(high > low)).sum()), len(names)


def percentiles(values: Values) -> Values:
    r"""Place of each value among all, 0 to 1; equal values share the middle of their places, NaN stays NaN.

    .. math:: p_i = (\operatorname{rank}_i - 1/2) / n
    """
    places = np.full(len(values), np.nan)
    valid = ~np.isnan(values)
    if valid.any():
        _, of, counts = np.unique(values[valid], return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        places[valid] = ((2 * ends - counts) / 2 / len(of))[of]
    return places


def rank_correlation(a: Values, b: Values) -> float | None:
    """Spearman's, over what both have; None where either is the same throughout."""
    both = ~np.isnan(a) & ~np.isnan(b)
    if both.sum() < 2:
        return None
    x, y = percentiles(a[both]), percentiles(b[both])
    if x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def disagreements(scores: Scores) -> list[dict[str, Any]]:
    """For each pair of rewards: rank correlation, and how many lie in the upper half by one and the lower by the other.

    A value that shares its place with so many that they reach over the middle is in neither half.
    """
    found = []
    for one, other in combinations(scores.leaves, 2):
        a, b = scores.parts[one], scores.parts[other]
        x, y = percentiles(a), percentiles(b)
        found.append(
            {
                "one": one,
                "other": other,
                "rank_correlation": rank_correlation(a, b),
                "one_high_other_low": int(((x > 0.5) & (y < 0.5)).sum()),
                "one_low_other_high": int(((x < 0.5) & (y > 0.5)).sum()),
            }
        )
    return found


def differences(scores: Scores) -> list[dict[str, Any]]:
    """For each column that the file held before: how many it held, how many changed, and the biggest change."""
    found = []
    for name, old in scores.stored.items():
        change = np.abs(scores.columns()[name] - old)
        known = ~np.isnan(change)
        if not known.any():
            continue
        place = int(np.nanargmax(change))
        found.append(
            {
                "reward": name,
                "stored": int(known.sum()),
                "changed": int((change[known] > SAME).sum()),
                "biggest": float(change[place]),
                "place": place,
                "before": float(old[place]),
                "now": float(scores.columns()[name][place]),
            }
        )
    return found


def worst_places(scores: Scores) -> dict[str, list[int]]:
    """Places of the worst cases, the worst first: paid though wrong, unpaid though right, rewards most at odds."""
    paid, total = ~np.isnan(scores.total), scores.total
    wrong = np.flatnonzero(paid & (scores.right < SAME))
    right = np.flatnonzero(paid & (scores.right > 1 - SAME))
    found = {
        "highest reward with accuracy 0": wrong[np.argsort(-total[wrong], kind="stable")],
        "lowest reward with accuracy 1": right[np.argsort(total[right], kind="stable")],
    }
    gap = np.zeros(len(total))
    for one, other in combinations(scores.leaves, 2):
        gap = np.fmax(gap, np.abs(percentiles(scores.parts[one]) - percentiles(scores.parts[other])))
    odd = np.flatnonzero(gap > 0.5 - SAME)  # half of all completions lie between the two places
    found["rewards most at odds"] = odd[np.argsort(-gap[odd], kind="stable")]
    return {name: places.tolist() for name, places in found.items()}
