"""Prompts that were read, as those that are written after them ask them: one copy of their keys and values.

Shapes: N rows that are being written, B prompts, H heads, K key-value heads, D head size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from avatar.models.prefix import PrefillPlan
from avatar.models.spans import Rows, Spans, attend, attend_batch, has_flash, size_class


class ReadPrompts(ABC):
    """What the rows that are written ask of their prompts."""

    @abstractmethod
    def ask(self, layer: int, q: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """What [N, H, D] queries get from their prompts, [N, H, D], and its log-sum-exp, [N, H]."""

    @abstractmethod
    def regroup(self, nums: Sequence[int]) -> None:
        """[B] rows are written after each prompt from now on; one that none is written after may be dropped."""


def read_prompts(prefill: PrefillPlan) -> ReadPrompts:
    """As the kernels at hand take them."""
    return PackedPrompts(prefill) if has_flash(prefill.keys[0]) else ShelvedPrompts(prefill)


class PackedPrompts(ReadPrompts):
    """Side by side as they were read, for kernels that take sequences of any lengths."""

    def __init__(self, prefill: PrefillPlan) -> None:
        self._prefill = prefill

    def ask(self, layer: int, q: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """See :class:`ReadPrompts`."""
        return attend(q, self._prefill.keys[layer], self._prefill.values[layer], self._spans, scale)

    def regroup(self, nums: Sequence[int]) -> None:
        """See :class:`ReadPrompts`."""
        self._spans = Spans(nums, self._prefill.prompts, False, self._prefill.keys[0].device)


@dataclass
class Shelf:
    """Prompts of like length as one batch.

    Attributes:
        members: Which prompts.
        keys: [n, K, M, D] of each layer, zeros at the end of the shorter ones.
        values: Likewise.
        mask: [n, 1, 1, M], -inf on those zeros; None where there are none.
        rows: Which rows are written after its prompts, as a batch.
    """

    members: list[int]
    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor | None
    rows: Rows | None = None


class ShelvedPrompts(ReadPrompts):
    """By size, each size a padded batch: what kernels take that know batches alone."""

    def __init__(self, prefill: PrefillPlan) -> None:
        self._shelves = _sorted(prefill)

    def ask(self, layer: int, q: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """See :class:`ReadPrompts`."""
        out, lse = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
        for shelf in self._shelves:
            assert shelf.rows is not None
            keys, values = shelf.keys[layer], shelf.values[layer]
            queries = shelf.rows.take(q).unflatten(1, (keys.shape[1], -1))  # [n, K, H / K, rows, D]
            part, part_lse = attend_batch(queries.flatten(2, 3), keys, values, scale, mask=shelf.mask)
            part, part_lse = (x.unflatten(2, queries.shape[2:4]).flatten(1, 2) for x in (part, part_lse))
            if len(self._shelves) == 1 and shelf.rows.slice is not None:
                return part.transpose(1, 2).flatten(0, 1), part_lse.transpose(1, 2).flatten(0, 1)
            shelf.rows.put(out, part)
            shelf.rows.put(lse, part_lse)
        return out, lse

    def regroup(self, nums: Sequence[int]) -> None:
        """See :class:`ReadPrompts`."""
        starts = [0, *accumulate(nums)]
        for shelf in self._shelves:
            left = [i for i, b in enumerate(shelf.members) if nums[b]]
            if len(left) < len(shelf.members):
                _cut(shelf, left)
            if left:
                rows = [nums[b] for b in shelf.members]
                shelf.rows = Rows([starts[b] for b in shelf.members], rows, shelf.keys[0].device)
        self._shelves = [shelf for shelf in self._shelves if shelf.members]


def _sorted(prefill: PrefillPlan) -> list[Shelf]:
    """The prompts by size."""
    starts, sizes = [0, *accumulate(prefill.prompts)], defaultdict(list)
    for b, length in enumerate(prefill.prompts):
        sizes[size_class(length)].append(b)
    return [_shelf(prefill, members, starts) for members in sizes.values()]


def _shelf(prefill: PrefillPlan, members: list[int], starts: Sequence[int]) -> Shelf:
    lengths, some = [prefill.prompts[b] for b in members], prefill.keys[0]
    rows = Rows([starts[b] for b in members], lengths, some.device)
    beyond = torch.arange(rows.longest, device=some.device) >= torch.tensor(lengths, device=some.device)[:, None]
    mask = torch.zeros(beyond.shape, device=some.device, dtype=some.dtype).masked_fill_(beyond, -torch.inf)
    keys, values = ([rows.take(x) for x in layers] for layers in (prefill.keys, prefill.values))
    return Shelf(members, keys, values, mask[:, None, None] if beyond.any() else None)


def _cut(shelf: Shelf, left: list[int]) -> None:
    shelf.members = [shelf.members[i] for i in left]
    shelf.keys, shelf.values = [k[left] for k in shelf.keys], [v[left] for v in shelf.values]
    shelf.mask = None if shelf.mask is None else shelf.mask[left]
