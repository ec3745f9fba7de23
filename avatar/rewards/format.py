"""Whether a completion keeps to ``<think>...</think><answer>...</answer>``."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from avatar.rewards.base import REWARDS, Reward, Scored
from avatar.types import Completion, Prompt

_TAGS = r"</?(?:think|answer)>"
_INSIDE = rf"\s*+(?:(?!{_TAGS}).)+"
_FORMAT = re.compile(rf"\s*<think>{_INSIDE}</think>\s*<answer>{_INSIDE}</answer>\s*", re.DOTALL)


def is_well_formed(text: str) -> bool:
    """One think part, one answer part, in this order, neither empty, nothing else around or inside them."""
    return _FORMAT.fullmatch(text) is not None


@REWARDS.register()
class Format(Reward):
    """1 for a well-formed completion, see :func:`is_well_formed`, else ``penalty``; so for a truncated one.

    Args:
        weight: Share of this reward in the sum.
        penalty: What a malformed completion gets; the release gives 0, the paper -1.
        label: Another name than ``format``.
    """

    earns = False
    looks_at_group = False

    def __init__(self, weight: float = 1.0, penalty: float = 0.0, label: str | None = None) -> None:
        super().__init__(weight, label)
        self.penalty = penalty

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """[N]."""
        good = torch.tensor([c.finished and is_well_formed(c.text) for c in completions], dtype=torch.bool)
        return Scored(torch.where(good, 1.0, self.penalty), torch.ones_like(good))
