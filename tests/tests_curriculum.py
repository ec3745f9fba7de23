"""Rewards that tests of the curriculum name by class path."""

import torch

from avatar.errors import ConfigError
from avatar.rewards import Reward, Scored


class Odd(Reward):
    """Share of odd token ids: a model that can do nothing yet earns unequal rewards, so every step moves it."""

    def __call__(self, prompts, completions, group):
        shares = torch.stack([(c.ids % 2).float().mean() for c in completions])
        return Scored(shares, torch.ones(len(completions), dtype=torch.bool))


class Down(Reward):
    """Needs a server that is not there."""

    def check(self, prompt):
        raise ConfigError("there is nobody at http://127.0.0.1:1")

    def __call__(self, prompts, completions, group):
        raise AssertionError("it was to be checked first")
