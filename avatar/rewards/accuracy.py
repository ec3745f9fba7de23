"""Whether a completion's answer is right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avatar.answers import is_right
from avatar.rewards.base import REWARDS, Reward, Scored
from avatar.types import Completion, Prompt


def is_correct(text: str, prompt: Prompt) -> bool:
    """Whether the answer parsed from ``text`` is the gold one; an unparsed answer is not."""
    return is_right(text, prompt.answer, prompt.problem_type, prompt.options)


@REWARDS.register()
class Accuracy(Reward):
    """1 for the right option letter, exact option text, or number (within 1e-3, relative), else 0."""

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """[N]."""
        right = [is_correct(c.text, prompts[g]) for c, g in zip(completions, group.tolist(), strict=True)]
        return Scored(torch.tensor(right, dtype=torch.float32), torch.ones(len(right), dtype=torch.bool))
