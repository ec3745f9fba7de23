r"""AV-Counting's white-box score: are the things that were counted found when and where they are?

A thing is an interval (start, end) in seconds, or a box on a frame. Things of a kind are a cluster; of events and of
objects there is one cluster, of attributes one for each value.

Reference:
    AV-Reasoner, arXiv 2506.05328, and ``eval/white_box_evaluation.py`` of its repository. The paper multiplies location
    and count; the code takes the square root of that, and its figures are what is published.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from avatar.benchmarks.rules.matching import best_pairs

Interval = tuple[float, float]
Box = Sequence[float]  # x, y of one corner, x, y of the opposite one
Framed = tuple[int, Box]  # which frame, from 0, and where on it


def score_clusters(gold: Sequence[Any], said: Sequence[Any], score: Callable[[Any, Any], float]) -> float:
    r"""The mean over gold clusters of the score with the cluster that each is paired with, paired as is best for all.

    .. math:: WCS = \frac{1}{K} \max_\pi \sum_k s(g_k, p_{\pi(k)})

    A gold cluster that goes without a partner counts 0; said ones too many cost nothing here.

    Args:
        gold: K clusters, at least one.
        said: The clusters of the reply.
        score: Of a gold cluster and a said one, 0 to 1.

    Raises:
        ValueError: A score is no finite number, as with coordinates that are none.
    """
    table = [[score(one, other) for other in said] for one in gold]
    if not all(math.isfinite(value) for row in table for value in row):
        raise ValueError("a coordinate is no finite number")
    return sum(table[k][m] for k, m in best_pairs(table)) / len(gold)


def score_intervals(gold: Sequence[Interval], said: Sequence[Interval]) -> float:
    r"""Mean over gold intervals of the best overlap, times how near the number is; the root of it.

    .. math:: s = \sqrt{\bar{m} \max(0, 1 - |n_p - n_g| / n_g)}, \quad
        \bar{m} = \frac{1}{n_g} \sum_g \max_p tIoU(g, p)

    One said interval may be the best for several gold ones.
    """
    located = sum(max([overlap(one, other) for other in said] or [0.0]) for one in gold) / len(gold)
    return math.sqrt(located * _nearness(len(gold), len(said)))


def score_boxes(gold: Sequence[Framed], said: Sequence[Framed]) -> float:
    r"""Mean over all frames that either names of the same score, with boxes paired off greedily.

    .. math:: s = \frac{1}{|F|} \sum_{f \in F} \sqrt{\bar{m}_f \max(0, 1 - |n_{p,f} - n_{g,f}| / \max(n_{g,f}, 1))}

    The pair that overlaps most is taken first; a frame without a gold box counts 0.
    """
    frames = {frame for frame, _ in (*gold, *said)}
    total = 0.0
    for frame in frames:
        wanted = [box for at, box in gold if at == frame]
        found = [box for at, box in said if at == frame]
        located = greedy_overlap(wanted, found) / len(wanted) if wanted else 0.0
        total += math.sqrt(located * _nearness(len(wanted), len(found)))
    return total / max(len(frames), 1)


def greedy_overlap(gold: Sequence[Box], said: Sequence[Box]) -> float:
    """The summed overlap of pairs, the largest taken first, each box in one pair at most."""
    pairs = sorted((-box_overlap(g, s), i, k) for i, g in enumerate(gold) for k, s in enumerate(said))
    used_gold, used_said, total = set(), set(), 0.0
    for negative, i, k in pairs:
        if i not in used_gold and k not in used_said:
            used_gold.add(i)
            used_said.add(k)
            total -= negative
    return total


def overlap(a: Interval, b: Interval) -> float:
    """What two intervals share, as a part of what reaches from the first start to the last end; 0 where that is 0."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    whole = max(a[1], b[1]) - min(a[0], b[0])
    return shared / whole if whole > 0 else 0.0


def box_overlap(a: Box, b: Box) -> float:
    """Shared area by joint area, 0 where that is 0; corners may be given in any order."""
    (left, top, right, bottom), (left_b, top_b, right_b, bottom_b) = _upright(a), _upright(b)
    width = max(0, min(right, right_b) - max(left, left_b))
    height = max(0, min(bottom, bottom_b) - max(top, top_b))
    shared = width * height
    joint = (right - left) * (bottom - top) + (right_b - left_b) * (bottom_b - top_b) - shared
    return shared / joint if joint > 0 else 0.0


def _upright(box: Box) -> tuple[float, float, float, float]:
    x, y, x_other, y_other = box
    return min(x, x_other), min(y, y_other), max(x, x_other), max(y, y_other)


def _nearness(num_gold: int, num_said: int) -> float:
    return max(0.0, 1.0 - abs(num_said - num_gold) / max(num_gold, 1))
