"""Decoding after shared prompts: one copy of a prompt's keys and values serves all that is written after it.

Shapes: N rows that are being written, B prompts, H heads, K key-value heads, D head size, t tokens written so far.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from avatar.models.prefix import PrefillPlan, put_together
from avatar.models.spans import Rows, Spans, attend, attend_batch, has_flash, size_class

ROOM = 64  # tokens that a new store of written keys and values has room for; it doubles when they are used up


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


class DecodePlan:
    """One new token a row, which sees its prompt and what its row has written.

    Args:
        prefill: Has read the prompts.
        nums: [B] rows after each.
    """

    kept: Tensor | None = None

    def __init__(self, prefill: PrefillPlan, nums: Sequence[int]) -> None:
        self._prompts, self._nums, self._written = prefill.prompts, list(nums), 0
        self._keys: list[Tensor] = []  # of each layer [N, K, room, D]
        self._values: list[Tensor] = []
        self._device = prefill.keys[0].device
        self._packed = prefill if has_flash(prefill.keys[0]) else None  # those kernels take prompts as they lie
        self._shelves = [] if self._packed else _sorted(prefill)
        self._regroup()

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """[N, H, 1, D], [N, K, 1, D], [N, K, 1, D] to [N, 1, H, D]."""
        keys, values = self._store(layer, k, v)
        query = q[:, :, 0]  # [N, H, D]; the heads that share keys ask their own row together, as if they were tokens
        own, own_lse = (
            x.flatten(1, 2) for x in attend_batch(query.unflatten(1, (k.shape[1], -1)), keys, values, scale)
        )
        of_prompt, of_prompt_lse = self._ask_prompts(layer, query, scale)
        return put_together(own, own_lse, of_prompt, of_prompt_lse)[0][:, None]

    @contextmanager
    def next_token(self) -> Iterator[None]:
        """Inside, all layers read one more token."""
        yield
        self._written += 1

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        whose = torch.arange(len(self._nums)).repeat_interleave(torch.tensor(self._nums))[rows.cpu()]
        self._nums = whose.bincount(minlength=len(self._nums)).tolist()
        self._keys = [keys[rows] for keys in self._keys]
        self._values = [values[rows] for values in self._values]
        self._regroup()

    def _store(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [N, K, t + 1, D] of the row, the new ones included."""
        for store, new in ((self._keys, k), (self._values, v)):
            if layer == len(store):
                store.append(new.new_empty(*new.shape[:2], ROOM, new.shape[-1]))
            if self._written == store[layer].shape[2]:
                store[layer] = torch.cat([store[layer], torch.empty_like(store[layer])], 2)
            store[layer][:, :, self._written] = new[:, :, 0]
        end = self._written + 1
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def _ask_prompts(self, layer: int, q: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """[N, H, D] and [N, H]."""
        if self._packed:
            return attend(q, self._packed.keys[layer], self._packed.values[layer], self._spans, scale)
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

    def _regroup(self) -> None:
        """Find the rows of each prompt again; a prompt that none is written after is dropped."""
        self._spans = Spans(self._nums, self._prompts, False, self._device)
        starts = [0, *accumulate(self._nums)]
        for shelf in self._shelves:
            left = [i for i, b in enumerate(shelf.members) if self._nums[b]]
            if len(left) < len(shelf.members):
                _cut(shelf, left)
            if left:
                nums = [self._nums[b] for b in shelf.members]
                shelf.rows = Rows([starts[b] for b in shelf.members], nums, self._device)
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
