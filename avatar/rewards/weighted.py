"""A sum of rewards, as one reward."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from avatar.errors import ConfigError
from avatar.rewards.base import REWARDS, Reward, Scored, score
from avatar.types import Completion, Prompt


@REWARDS.register()
class Weighted(Reward):
    r"""The weighted sum of other rewards, in a sum again with its own weight.

    .. math:: r_i = \sum_k w_k r_{k,i}

    Only the leaves are logged and stored, by their own names; the sum is valid where every leaf of a weight other than
    0 is. In a list of rewards it is the same as its leaves, each with the product of the weights above it.

    Args:
        rewards: At least one, sums among them if wanted.
        weight: Share of the sum in what it stands in.
        label: Name of the sum, for messages.

    Raises:
        ConfigError: There is nothing to add up.
    """

    def __init__(self, rewards: list[Reward], weight: float = 1.0, label: str | None = None) -> None:
        super().__init__(weight, label)
        if not rewards:
            raise ConfigError("Weighted.rewards is empty: give at least one reward")
        self.rewards = rewards

    def leaves(self) -> list[tuple[float, Reward]]:
        """Those of all its rewards, with the product of the weights."""
        return [(self.weight * weight, leaf) for reward in self.rewards for weight, leaf in reward.leaves()]

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """[N], the sum without its own weight, and every leaf as a part."""
        whole = score(self.rewards, prompts, completions, group)
        return Scored(whole.rewards, whole.valid, whole.parts)
