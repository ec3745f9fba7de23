"""The text model as transformers has it, on padded rows: slower, for models that shared prefixes do not fit.

Every row carries its own copy of its prompt. Shapes as in ``text.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from avatar.models.prefix import why_not_shared
from avatar.models.text import Decoder, Embedded, SharedText, TextPass


def text_pass(text_model: Any) -> TextPass:
    """The fast way where it fits the model; else the plain one, with a warning that says why."""
    reason = why_not_shared(text_model)
    if reason is None:
        return SharedText(text_model)
    warnings.warn(
        f"prompts are read once for each completion, which is slower: sharing them does not fit this model ({reason})",
        stacklevel=2,
    )
    return PlainText(text_model)


class PlainText(TextPass):
    """Rows of prompt and completion, prompts padded on the left."""

    def prefill(self, prompts: Sequence[Embedded], nums: Sequence[int]) -> tuple[Tensor, Decoder]:
        """See :class:`TextPass`."""
        embeds, positions, mask = _stack(prompts)
        cache, repeats = DynamicCache(), torch.tensor(list(nums), device=embeds.device)
        hidden = self.run(embeds, positions, mask, past_key_values=cache)[:, -1]
        cache.batch_repeat_interleave(repeats)
        starts = torch.stack([p.next_position for p in prompts])
        state = (cache, mask.repeat_interleave(repeats, 0), starts.repeat_interleave(repeats))
        return hidden.repeat_interleave(repeats, 0), PlainDecoder(self, *state)

    def hidden(self, prompts: Sequence[Embedded], ids: Tensor, lengths: Sequence[int], group: Sequence[int]) -> Tensor:
        """See :class:`TextPass`."""
        embeds, positions, prompt_mask = _stack([prompts[g] for g in group])
        steps = torch.arange(ids.shape[1], device=ids.device)
        mask = steps < torch.tensor(list(lengths), device=ids.device)[:, None]  # [N, T]
        after = torch.stack([prompts[g].next_position for g in group])[:, None] + steps
        hidden = self.run(
            torch.cat([embeds, self.text_model.embed_tokens(ids)], 1)[:, :-1],
            torch.cat([positions, after.expand(3, -1, -1)], -1)[..., :-1],
            torch.cat([prompt_mask, mask.long()], 1)[:, :-1],
        )
        return hidden[:, embeds.shape[1] - 1 :][mask]

    def run(self, embeds: Tensor, positions: Tensor, mask: Tensor, **kwargs: Any) -> Tensor:
        """[N, S, H]."""
        kwargs = {"use_cache": "past_key_values" in kwargs, **kwargs}
        return self.text_model(
            inputs_embeds=embeds, position_ids=positions, attention_mask=mask, **kwargs
        ).last_hidden_state


class PlainDecoder(Decoder):
    """Rows that each hold the keys and values of their prompt.

    Args:
        text: Runs the model.
        cache: Keys and values.
        mask: [N, tokens so far], 0 on padding.
        positions: [N], of the next token of each row.
    """

    def __init__(self, text: PlainText, cache: DynamicCache, mask: Tensor, positions: Tensor) -> None:
        self._text, self._cache, self._mask, self._positions = text, cache, mask, positions

    def step(self, ids: Tensor) -> Tensor:
        """See :class:`Decoder`."""
        self._mask = nn.functional.pad(self._mask, (0, 1), value=1)
        embeds, positions = self._text.text_model.embed_tokens(ids[:, None]), self._positions.expand(3, -1)[..., None]
        self._positions = self._positions + 1
        return self._text.run(embeds, positions, self._mask, past_key_values=self._cache)[:, -1]

    def keep(self, rows: Tensor) -> None:
        """See :class:`Decoder`."""
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]


def _stack(prompts: Sequence[Embedded]) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings [B, P, H], positions [3, B, P] and mask [B, P], padded on the left."""
    longest = max(len(p) for p in prompts)
    pads = [longest - len(p) for p in prompts]
    pad = nn.functional.pad
    embeds = torch.stack([pad(p.embeds, (0, 0, n, 0)) for p, n in zip(prompts, pads, strict=True)])
    positions = torch.stack([pad(p.position_ids, (n, 0)) for p, n in zip(prompts, pads, strict=True)], 1)
    mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
    for row, n in zip(mask, pads, strict=True):
        row[:n] = 0
    return embeds, positions, mask
