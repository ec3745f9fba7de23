"""The few things that travel down the street: clips, prompts, completions, experience.

Shapes: B prompts, N completions, T completion tokens, F frames, A audio samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from avatar.errors import ConfigError

Message = dict[str, Any]  # {"role": str, "content": str | [{"type": "text" | "video" | "audio", ...}]}


@dataclass(frozen=True, eq=False)
class Clip:
    """One decoded medium: frames, sound, or both.

    Attributes:
        key: Names the content; two clips of one key are the same clip, so encoded features are kept under it.
        frames: [F, 3, H, W] uint8, or None for sound alone.
        fps: True rate of ``frames`` in frames per second, as sampled; 0 without frames.
        audio: [A] float32 in -1..1, mono, at ``sample_rate``; or None for a silent clip.
        sample_rate: Of ``audio``, in Hz.
    """

    key: str
    frames: Tensor | None = None
    fps: float = 0.0
    audio: Tensor | None = None
    sample_rate: int = 16_000


@dataclass(frozen=True)
class Prompt:
    """A question about clips, with what is needed to judge an answer.

    Attributes:
        key: Unique in its dataset.
        messages: The chat so far; ``{"type": "video"}`` and ``{"type": "audio"}`` parts stand for ``clips`` in order.
        clips: The decoded media.
        answer: Gold answer: a number, an option letter or option text, or free text.
        problem_type: ``number``, ``choice`` or ``exact``.
        options: Option texts without letters, or empty.
        chain: Gold completion for the cold start, or None.
        hint: One sentence of strategy, or None.
        metadata: Free; ``kind`` is what results are grouped by.
    """

    key: str
    messages: list[Message]
    clips: tuple[Clip, ...]
    answer: str
    problem_type: str = "exact"
    options: tuple[str, ...] = ()
    chain: str | None = None
    hint: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Completion:
    """What the policy wrote for one prompt.

    Attributes:
        ids: [T] token ids, the end-of-sequence token included when it was written.
        behaviour_logprobs: [T] nats, of each token under the policy that sampled it, taken while sampling.
        text: ``ids`` decoded, without special tokens.
        finished: False if the length limit cut it off.
        hinted: Whether the hint was shown.
        step: Training step it was made at.
    """

    ids: Tensor
    behaviour_logprobs: Tensor
    text: str
    finished: bool
    hinted: bool = False
    step: int = 0


@dataclass(frozen=True, eq=False)
class Experience:
    """The completions to train on; all that an advantage estimator sees.

    Groups may be ragged, so completions lie in one row of N with group ids, never in a [B, G] grid.

    Attributes:
        ids: [N, T] token ids, padded at the end.
        mask: [N, T] bool, True on real tokens.
        behaviour_logprobs: [N, T] nats, 0 on padding.
        rewards: [N].
        valid: [N] bool, False where no reward could be given (a skipped judgement).
        is_replayed: [N] bool.
        hinted: [N] bool.
        group: [N] int, the index of the prompt.
        step: [N] int, when each completion was made.
        reference_score: [N], mean past reward of the completion's prompt before this step; NaN where there is none.
    """

    ids: Tensor
    mask: Tensor
    behaviour_logprobs: Tensor
    rewards: Tensor
    valid: Tensor
    is_replayed: Tensor
    hinted: Tensor
    group: Tensor
    step: Tensor
    reference_score: Tensor

    @classmethod
    def from_completions(
        cls, completions: list[Completion], group: Tensor, rewards: Tensor, valid: Tensor, pad_id: int = 0
    ) -> Experience:
        """Stack fresh completions; ``group`` [N], ``rewards`` [N] and ``valid`` [N] run beside them."""
        device, num = rewards.device, len(completions)
        lengths = torch.tensor([len(c.ids) for c in completions], device=device)
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad([c.ids.to(device) for c in completions], batch_first=True, padding_value=pad_id)  # [N, T]
        behaviour = pad([c.behaviour_logprobs.to(device) for c in completions], batch_first=True)  # [N, T]
        return cls(
            ids=ids,
            mask=torch.arange(ids.shape[1], device=device) < lengths[:, None],
            behaviour_logprobs=behaviour,
            rewards=rewards,
            valid=valid,
            is_replayed=torch.zeros(num, dtype=torch.bool, device=device),
            hinted=torch.tensor([c.hinted for c in completions], device=device),
            group=group,
            step=torch.tensor([c.step for c in completions], device=device),
            reference_score=torch.full((num,), torch.nan, device=device),
        )


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: Divides the logits; 0 is greedy.
        max_new_tokens: Length limit of a completion, the end-of-sequence token included.
    """

    temperature: float = 1.0
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ConfigError(f"temperature must be 0 (greedy) or more, got {self.temperature}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
