"""Decoding after shared prompts: one copy of a prompt's keys and values serves all that is written after it.

Shapes: N rows that are being written, B prompts, H heads, K key-value heads, D head size, t tokens written so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from avatar.models.prefix import PrefillPlan, put_together
from avatar.models.shelves import read_prompts
from avatar.models.spans import attend_batch

ROOM = 64  # tokens that a new store of written keys and values has room for; it doubles when they are used up


class DecodePlan:
    """One new token a row, which sees its prompt and what its row has written.

    Args:
        prefill: Has read the prompts.
        nums: [B] rows after each.
    """

    kept: Tensor | None = None

    def __init__(self, prefill: PrefillPlan, nums: Sequence[int]) -> None:
        self._nums, self._written = list(nums), 0
        self._keys: list[Tensor] = []  # of each layer [N, K, room, D]
        self._values: list[Tensor] = []
        self._prompts = read_prompts(prefill)
        self._prompts.regroup(self._nums)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """[N, H, 1, D], [N, K, 1, D], [N, K, 1, D] to [N, 1, H, D]."""
        keys, values = self._store(layer, k, v)
        query = q[:, :, 0]  # [N, H, D]; the heads that share keys ask their own row together, as if they were tokens
        own, own_lse = (
            x.flatten(1, 2) for x in attend_batch(query.unflatten(1, (k.shape[1], -1)), keys, values, scale)
        )
        of_prompt, of_prompt_lse = self._prompts.ask(layer, query, scale)
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
        self._prompts.regroup(self._nums)

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
