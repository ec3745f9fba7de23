"""Dr. GRPO: the group mean as the baseline, and no deviation."""

from __future__ import annotations

from torch import Tensor

from avatar.advantages.base import ADVANTAGES, Advantage, scatter
from avatar.advantages.groups import split_groups
from avatar.types import Experience


@ADVANTAGES.register()
class DrGRPO(Advantage):
    r"""Reward less the mean of its group; hard and easy prompts are not blown up by their small deviation.

    .. math:: A_i = r_i - \mu_{g(i)}

    A group of equal rewards, or left with one valid completion, gets 0. Replayed completions are members like all
    others. The other half of Dr. GRPO is ``--model.objective.aggregation constant``.

    Reference:
        Understanding R1-Zero-Like Training, arXiv 2503.20783, section 3.
    """

    def estimate(self, experience: Experience) -> Tensor:
        """[N]."""
        valid = experience.valid
        return scatter(valid, split_groups(experience.rewards[valid], experience.group[valid]).centred)
