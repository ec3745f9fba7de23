"""Rewards that tests name by class path, as a user's own would be."""

import torch

from avatar.rewards import Reward, Scored


class Huge(Reward):
    """Finite, and yet too large: the spread of a group overflows."""

    def __call__(self, prompts, completions, group):
        rewards = torch.tensor([3e38 * (-1) ** i for i in range(len(completions))])
        return Scored(rewards, torch.ones(len(completions), dtype=torch.bool))
