"""Rewards that tests name by class path, as a user's own would be."""

import torch

from avatar.rewards import Reward, Scored


class Huge(Reward):
    """Finite, and yet too large: the spread of a group overflows."""

    def __call__(self, prompts, completions, group):
        rewards = torch.tensor([3e38 * (-1) ** i for i in range(len(completions))])
        return Scored(rewards, torch.ones(len(completions), dtype=torch.bool))


class Mine(Reward):
    """A user's own, with an argument and a finer figure; it has nothing to say of the first completion of a batch."""

    def __init__(self, limit: int = 4, weight: float = 1.0, label: str | None = None) -> None:
        super().__init__(weight, label)
        self.limit = limit

    def __call__(self, prompts, completions, group):
        lengths = torch.tensor([float(len(c.ids)) for c in completions])
        valid = torch.arange(len(completions)) > 0
        return Scored((lengths <= self.limit).float(), valid, {"length": lengths})
