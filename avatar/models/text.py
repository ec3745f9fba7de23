"""The text model at work: hidden states of what was written after prompts, and of what is being written.

Two ways that give the same: :class:`SharedText` reads each prompt once, :class:`PlainText` (in ``plain.py``) is the
model as transformers has it, on padded rows.

Shapes: B prompts, N completions, P prompt tokens, T completion tokens, H hidden.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avatar.models.decoding import DecodePlan
from avatar.models.prefix import AttentionPlan, PackedPlan, PrefillPlan, share_prefixes


@dataclass(frozen=True)
class Embedded:
    """A prompt as the text model takes it.

    Attributes:
        embeds: [P, H].
        position_ids: [3, P].
    """

    embeds: Tensor
    position_ids: Tensor

    def __len__(self) -> int:
        return len(self.embeds)

    @property
    def next_position(self) -> Tensor:
        """Of the first token after it, on all three axes: a prompt ends with text, whose axes are one.

        As the forward pass of transformers has it; its generate goes on from the greatest position of the prompt, which
        is another one where a picture lasts longer than its sound and little text follows.
        """
        return self.position_ids[0, -1] + 1


class Decoder(ABC):
    """Completions that are being written, token by token."""

    @abstractmethod
    def step(self, ids: Tensor) -> Tensor:
        """Read the next token of each row, [n]; give the [n, H] that tells what comes after it."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone, indices in rising order."""


class TextPass(ABC):
    """How the text model is run.

    Args:
        text_model: ``model.model.language_model``.
    """

    def __init__(self, text_model: Any) -> None:
        self.text_model = text_model

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, no layer is set to compute its activations again: it would drop what it has read."""
        layers = [layer for layer in self.text_model.layers if layer.gradient_checkpointing]
        for layer in layers:
            layer.gradient_checkpointing = False
        try:
            yield
        finally:
            for layer in layers:
                layer.gradient_checkpointing = True

    @abstractmethod
    def prefill(self, prompts: Sequence[Embedded], nums: Sequence[int]) -> tuple[Tensor, Decoder]:
        """Read the prompts; give the [N, H] that tells the first token of each completion, and what goes on from it.

        Args:
            prompts: B prompts.
            nums: [B] completions of each, at least 1.
        """

    @abstractmethod
    def hidden(self, prompts: Sequence[Embedded], ids: Tensor, lengths: Sequence[int], group: Sequence[int]) -> Tensor:
        """What tells each token of the completions: [tokens, H], in the order of ``ids[mask]``.

        Args:
            prompts: B prompts; those that no completion follows are not read.
            ids: [N, T] tokens, padded at the end.
            lengths: [N], of the completions.
            group: [N], which prompt each follows.
        """


class SharedText(TextPass):
    """Reads each prompt once for all its completions, and computes nothing for padding."""

    def __init__(self, text_model: Any) -> None:
        super().__init__(text_model)
        share_prefixes(text_model)

    def prefill(self, prompts: Sequence[Embedded], nums: Sequence[int]) -> tuple[Tensor, Decoder]:
        """See :class:`TextPass`."""
        plan = PrefillPlan([len(p) for p in prompts], len(self.text_model.layers), prompts[0].embeds.device)
        embeds = torch.cat([p.embeds for p in prompts])
        positions = torch.cat([p.position_ids for p in prompts], -1)
        hidden = self.run(embeds[None], positions[:, None], plan)[0]  # [B, H]
        whose = torch.arange(len(prompts)).repeat_interleave(torch.tensor(list(nums))).to(embeds.device)
        starts = torch.stack([p.next_position for p in prompts])[whose]
        return hidden[whose], SharedDecoder(self, DecodePlan(plan, nums), starts)

    def hidden(self, prompts: Sequence[Embedded], ids: Tensor, lengths: Sequence[int], group: Sequence[int]) -> Tensor:
        """See :class:`TextPass`."""
        used = sorted({g for g, length in zip(group, lengths, strict=True) if length}) or [0]  # the graph needs a pass
        members = [[i for i, g in enumerate(group) if g == b and lengths[i]] for b in used]
        order = [i for rows in members for i in rows]
        read = [[lengths[i] - 1 for i in rows] for rows in members]  # a last token tells nothing that is asked for
        plan = PackedPlan([len(prompts[b]) for b in used], read, len(self.text_model.layers), ids.device)
        written = torch.cat([ids.new_empty(0), *(ids[i, : lengths[i] - 1] for i in order)])
        embeds = torch.cat([*(prompts[b].embeds for b in used), self.text_model.embed_tokens(written)])
        steps = torch.arange(ids.shape[1], device=ids.device)
        after = [(prompts[group[i]].next_position + steps[: lengths[i] - 1]).expand(3, -1) for i in order]
        positions = torch.cat([*(prompts[b].position_ids for b in used), *after], -1)
        hidden = self.run(embeds[None], positions[:, None], plan)[0]  # [B + read tokens, H]
        return hidden[_sources(used, order, lengths, group, ids.device)]

    def run(self, embeds: Tensor, positions: Tensor, plan: AttentionPlan) -> Tensor:
        """[1, S, H], or the rows of it that ``plan`` keeps."""
        no_mask = {"full_attention": None}
        return self.text_model(
            inputs_embeds=embeds, position_ids=positions, attention_mask=no_mask, use_cache=False, plan=plan
        ).last_hidden_state


class SharedDecoder(Decoder):
    """Rows that share the keys and values of their prompts.

    Args:
        text: Runs the model.
        plan: Who sees whom.
        positions: [N], of the next token of each row.
    """

    def __init__(self, text: SharedText, plan: DecodePlan, positions: Tensor) -> None:
        self._text, self._plan, self._positions = text, plan, positions

    def step(self, ids: Tensor) -> Tensor:
        """See :class:`Decoder`."""
        embeds = self._text.text_model.embed_tokens(ids[:, None])
        positions = self._positions.expand(3, -1)[..., None]
        self._positions = self._positions + 1
        with self._plan.next_token():
            return self._text.run(embeds, positions, self._plan)[:, -1]

    def keep(self, rows: Tensor) -> None:
        """See :class:`Decoder`."""
        self._positions = self._positions[rows]
        self._plan.keep(rows)


def _sources(
    used: Sequence[int], order: Sequence[int], lengths: Sequence[int], group: Sequence[int], device: torch.device
) -> Tensor:
    """[tokens], the row of the last layer that tells each token: the end of its prompt, or the token before it."""
    place, starts, next_start = {b: i for i, b in enumerate(used)}, {}, len(used)
    for i in order:
        starts[i], next_start = next_start, next_start + lengths[i] - 1
    rows = [[place[group[i]], *range(starts[i], starts[i] + lengths[i] - 1)] for i in sorted(order)]
    return torch.tensor([row for each in rows for row in each], dtype=torch.long, device=device)
