"""Means and deviations of groups that lie in one row, of any size and in any order."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Groups:
    """N values seen as groups.

    Attributes:
        index: [N] int, which group each value belongs to, counted from 0.
        size: [groups] int.
        centred: [N], each value less the mean of its group; exactly 0 in a group of equal values.
        deviation: [groups], sample deviation (ddof 1); exactly 0 for equal values and for a group of one.
    """

    index: Tensor
    size: Tensor
    centred: Tensor
    deviation: Tensor


def split_groups(values: Tensor, group: Tensor) -> Groups:
    """Centre values and measure their spread, group by group.

    Args:
        values: [N].
        group: [N] int, an id for each value; ids need not be consecutive.

    Raises:
        ValueError: values and group differ in shape, or values is not one-dimensional or not finite.
    """
    if values.ndim != 1 or values.shape != group.shape:
        raise ValueError(f"rewards and group must both be [N], got {tuple(values.shape)} and {tuple(group.shape)}")
    if not values.isfinite().all():
        raise ValueError("rewards must be finite; mark completions without a reward as not valid instead")
    _, index, size = group.unique(return_inverse=True, return_counts=True)
    total = values.new_zeros(len(size))
    centred = values - (total.index_add(0, index, values) / size)[index]  # [N]
    equal = _spread(values, index, len(size)) == 0  # [groups]; rounding in the mean must not look like a signal
    centred = centred.masked_fill(equal[index], 0.0)
    deviation = (total.index_add(0, index, centred**2) / (size - 1).clamp(min=1)).sqrt()
    return Groups(index, size, centred, deviation)


def _spread(values: Tensor, index: Tensor, num_groups: int) -> Tensor:
    """Largest less smallest value of each group, [groups]."""
    empty = values.new_zeros(num_groups)
    largest = empty.scatter_reduce(0, index, values, "amax", include_self=False)
    return largest - empty.scatter_reduce(0, index, values, "amin", include_self=False)
