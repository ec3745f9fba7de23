"""What a reward is: a batch of completions with their groups in, one number each out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.errors import ConfigError
from avatar.registry import Registry
from avatar.types import Completion, Prompt


@dataclass(frozen=True)
class Scored:
    """Rewards of a batch.

    Attributes:
        rewards: [N] float32.
        valid: [N] bool, False where this reward could not be given; such a completion is not trained on.
    """

    rewards: Tensor
    valid: Tensor


class Reward(ABC):
    """Scores a batch of completions. It sees whole groups, so that majority votes and judges fit.

    Args:
        weight: Share of this reward in the sum.

    Attributes:
        earns: Whether it says anything about the answer; what only looks at the form does not end a row of failures.
    """

    earns: bool = True

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @property
    def name(self) -> str:
        """Lower-case class name; the reward is logged as ``reward/<name>``."""
        return type(self).__name__.lower()

    @abstractmethod
    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """Score N completions.

        Args:
            prompts: B prompts.
            completions: N completions.
            group: [N] int, which prompt each completion answers.
        """


REWARDS: Registry[type[Reward]] = Registry("reward", "rewards")


def score(
    rewards: Sequence[Reward], prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor
) -> tuple[Scored, dict[str, Tensor]]:
    """The weighted sum of ``rewards``, valid where all of them are, and each part [N] by name.

    Raises:
        ConfigError: Two rewards share a name, or one returns another number of scores than completions, or a NaN.
    """
    total = torch.zeros(len(completions))
    valid = torch.ones(len(completions), dtype=torch.bool)
    parts: dict[str, Tensor] = {}
    for reward in rewards:
        scored = reward(prompts, completions, group)
        _check(reward, scored, len(completions), parts)
        parts[reward.name] = scored.rewards
        total = total + reward.weight * torch.where(scored.valid, scored.rewards, 0.0)
        valid = valid & scored.valid
    return Scored(total, valid), parts


def _check(reward: Reward, scored: Scored, num: int, parts: dict[str, Tensor]) -> None:
    if reward.name in parts:
        raise ConfigError(f"two rewards are called {reward.name!r}; give one of them another class name")
    if scored.rewards.shape != (num,) or scored.valid.shape != (num,):
        shape = f"{tuple(scored.rewards.shape)} and {tuple(scored.valid.shape)}"
        raise ConfigError(f"reward {reward.name!r} must return [N] rewards and [N] valid for N = {num}, got {shape}")
    if not scored.rewards[scored.valid].isfinite().all():
        raise ConfigError(f"reward {reward.name!r} gave a NaN or an infinity; mark the completion as not valid instead")
