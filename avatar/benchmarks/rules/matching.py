"""The best way to pair off rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

Costs = Sequence[Sequence[float]]


def best_pairs(scores: Costs) -> list[tuple[int, int]]:
    """Pairs of a row and a column, each of these in one pair at most, that have the largest sum of scores.

    All of the rows are paired, or all of the columns where these are fewer; none where there are none.

    Args:
        scores: K rows of M finite numbers each.

    Returns:
        min(K, M) pairs (row, column), in the order of the rows.

    Reference:
        Kuhn, The Hungarian method for the assignment problem, 1955; with shortest paths as in Jonker and Volgenant,
        1987. The time is at most as K^2 M.
    """
    if not scores or not scores[0]:
        return []
    if len(scores) > len(scores[0]):
        return sorted((row, column) for column, row in best_pairs(list(zip(*scores, strict=True))))
    costs = [[-score for score in row] for row in scores]
    row_of: list[int | None] = [None] * len(costs[0])
    heights, depths = [0.0] * len(costs), [0.0] * len(costs[0])  # no cost is below the sum of its row's and column's
    for row in range(len(costs)):
        _add(row, costs, row_of, heights, depths)
    return sorted((row, column) for column, row in enumerate(row_of) if row is not None)


def _add(row: int, costs: Costs, row_of: list[int | None], heights: list[float], depths: list[float]) -> None:
    """Pair off one more row, along the cheapest path of rows that move on to other columns."""
    far, before = [float("inf")] * len(depths), [-1] * len(depths)
    reached: list[int] = []  # columns whose rows may move on
    mover, column = row, -1
    while True:
        for other in range(len(depths)):
            slack = costs[mover][other] - heights[mover] - depths[other]
            if other not in reached and slack < far[other]:
                far[other], before[other] = slack, column
        column = min((other for other in range(len(depths)) if other not in reached), key=far.__getitem__)
        step = far[column]
        heights[row] += step
        for other in range(len(depths)):
            holder = row_of[other]
            if other in reached and holder is not None:
                heights[holder], depths[other] = heights[holder] + step, depths[other] - step
            else:
                far[other] -= step
        if row_of[column] is None:
            break
        reached.append(column)
        mover = row_of[column] or 0
    while column >= 0:
        row_of[column], column = (row_of[before[column]] if before[column] >= 0 else row), before[column]
