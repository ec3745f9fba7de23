"""The few things that travel down the street: clips, prompts, completions, experience.

Shapes: B prompts, N completions, T completion tokens, F frames, A audio samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from avatar.errors import ConfigError

Message = dict[str, Any]  # {"role": str, "content": str | [{"type": "text" | "video" | "image" | "audio", ...}]}


@dataclass(frozen=True, eq=False)
class Clip:
    """One decoded medium: frames, sound, or both; or an image.

    Attributes:
        key: Names the content; two clips of one key are the same clip, so encoded features are kept under it.
        frames: [F, 3, H, W] uint8, or None for sound alone.
        fps: Rate of ``frames`` in frames per second, as sampled; 0 without frames. Positions go by it where there are
            no ``times``.
        audio: [A] float32 in -1..1, mono, at ``sample_rate``, from the clip's start on; or None for a silent clip.
        sample_rate: Of ``audio``, in Hz.
        times: [F] float64, when each frame is shown, in seconds from the clip's start; None for even steps of ``fps``.
        image: Whether this is a still picture, F = 1, and no video of one frame.
        notes: What is not as its file or its record has it: ``no sound track``, ``sound cut at 300 s``.
    """

    key: str
    frames: Tensor | None = None
    fps: float = 0.0
    audio: Tensor | None = None
    sample_rate: int = 16_000
    times: Tensor | None = None
    image: bool = False
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``image``, ``video`` (with sound or without) or ``audio``: the placeholder that stands for it."""
        return "image" if self.image else "audio" if self.frames is None else "video"


@dataclass(frozen=True)
class Prompt:
    """A question about clips, with what is needed to judge an answer.

    Attributes:
        key: Unique in its dataset.
        messages: The chat so far; parts like ``{"type": "video"}``, ``image`` or ``audio`` stand for ``clips``
            in order.
        clips: The decoded media.
        answer: Gold answer: a number, an option letter or option text, or free text.
        problem_type: ``number``, ``choice``, ``exact``, ``ocr``, ``free`` or ``location``.
        options: Option texts without letters, or empty.
        chain: Gold completion for the cold start, or None.
        hint: One sentence of strategy, or None.
        audio_caption: What is heard, in words, for a judge; or None.
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
    audio_caption: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def with_hint(self) -> Prompt:
        """The same prompt with its hint shown as the last line of the system message, ``Hint: ...``.

        Raises:
            ValueError: It has none.
        """
        if not self.hint:
            raise ValueError(f"prompt {self.key!r} has no hint")
        line, messages = f"Hint: {self.hint}", self.messages
        if not messages or messages[0]["role"] != "system":
            return replace(self, messages=[{"role": "system", "content": line}, *messages])
        content = messages[0]["content"]
        if isinstance(content, str):
            content = f"{content}\n{line}" if content else line
        else:
            content = [*content, {"type": "text", "text": f"\n{line}"}]
        return replace(self, messages=[{**messages[0], "content": content}, *messages[1:]])


@dataclass(frozen=True, eq=False)
class Completion:
    """What the policy wrote for one prompt.

    Attributes:
        ids: [T] token ids, the end-of-sequence token included when it was written.
        behaviour_logprobs: [T] nats, of each token under the policy that sampled it, taken while sampling, over the
            full vocabulary at the sampling temperature: what :meth:`ModelAdapter.logprobs` gives for the same weights.
        text: ``ids`` decoded, without special tokens.
        finished: False if the length limit cut it off.
        hinted: Whether the hint was shown.
        step: Training step it was made at.
        truncated_logprobs: [T] nats, of each token among those that could be drawn; None where all could.
        sampling: How it was drawn; None if that is not known.
    """

    ids: Tensor
    behaviour_logprobs: Tensor
    text: str
    finished: bool
    hinted: bool = False
    step: int = 0
    truncated_logprobs: Tensor | None = None
    sampling: Sampling | None = None


@dataclass(frozen=True, eq=False)
class Experience:
    """The completions to train on; all that an advantage estimator sees.

    Groups may be ragged (a hinted half, a skipped judgement), so completions lie in one row of N with group ids, never
    in a [B, G] grid.

    Attributes:
        ids: [N, T] token ids, padded at the end.
        mask: [N, T] bool, True on real tokens.
        behaviour_logprobs: [N, T] nats, 0 on padding.
        rewards: [N].
        valid: [N] bool, False where no reward could be given (a skipped judgement).
        is_replayed: [N] bool.
        hinted: [N] bool.
        group: [N] int, which completions are compared with each other: those of one prompt with its hint shown, those
            without, each with what is replayed for them.
        prompt: [N] int, the encoded prompt that each completion follows; differs from ``group`` where the completion
            of another prompt is replayed.
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
    prompt: Tensor
    step: Tensor
    reference_score: Tensor

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def from_completions(
        cls,
        completions: Sequence[Completion],
        group: Tensor,
        rewards: Tensor,
        valid: Tensor,
        reference_score: Tensor | None = None,
        prompt: Tensor | None = None,
    ) -> Experience:
        """Stack fresh completions.

        Args:
            completions: N completions.
            group: [N] int.
            rewards: [N]; its device is that of the result.
            valid: [N] bool.
            reference_score: [N]; NaN if not given.
            prompt: [N] int; ``group`` if not given.
        """
        device, num = rewards.device, len(completions)
        lengths = torch.tensor([len(c.ids) for c in completions], device=device)
        ids = pad_rows([c.ids.to(device) for c in completions])  # [N, T]
        return cls(
            ids=ids,
            mask=torch.arange(ids.shape[1], device=device) < lengths[:, None],
            behaviour_logprobs=pad_rows([c.behaviour_logprobs.to(device) for c in completions]),
            rewards=rewards,
            valid=valid,
            is_replayed=torch.zeros(num, dtype=torch.bool, device=device),
            hinted=torch.tensor([c.hinted for c in completions], device=device),
            group=group,
            prompt=group if prompt is None else prompt,
            step=torch.tensor([c.step for c in completions], device=device),
            reference_score=torch.full((num,), torch.nan, device=device)
            if reference_score is None
            else reference_score,
        )

    def join(self, other: Experience) -> Experience:
        """The completions of both, these first; the shorter ones are padded."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Experience(**{name: join_rows(*pair) for name, pair in pairs.items()})


def pad_rows(rows: Sequence[Tensor]) -> Tensor:
    """[N, T] of N rows of up to T values, zeros at the end."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def join_rows(first: Tensor, second: Tensor) -> Tensor:
    """[N + M, ...]; two-dimensional tensors of different widths are padded with zeros on the right."""
    if first.ndim == 2:
        width = max(first.shape[1], second.shape[1])
        first, second = (torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (first, second))
    return torch.cat([first, second])


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: Divides the logits; 0 is greedy.
        max_new_tokens: Length limit of a completion, the end-of-sequence token included.
        top_k: Draw among this many likeliest tokens; 0 is all.
        top_p: Of these, draw among the fewest likeliest that have this share of the probability; 1 is all.
    """

    temperature: float = 1.0
    max_new_tokens: int = 256
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ConfigError(f"temperature must be 0 (greedy) or more, got {self.temperature}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must be 0 (all tokens) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1 (all tokens), got {self.top_p}")

    @property
    def truncates(self) -> bool:
        """Whether some tokens of the vocabulary cannot be drawn."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1)
