"""REINFORCE leave-one-out: each completion against the mean of the others."""

from __future__ import annotations

from torch import Tensor

from avatar.advantages.base import ADVANTAGES, Advantage, scatter
from avatar.advantages.groups import split_groups
from avatar.types import Experience


@ADVANTAGES.register()
class RLOO(Advantage):
    r"""Reward less the mean reward of the other completions of its group: a baseline that is independent of it.

    .. math:: A_i = r_i - \frac{1}{n - 1} \sum_{j \ne i} r_j = \frac{n}{n - 1} (r_i - \mu_{g(i)})

    A group of equal rewards, or left with one valid completion, gets 0. Replayed completions are members like all
    others.

    Reference:
        Back to Basics, arXiv 2402.14740, section 3.2; Kool et al., "Buy 4 REINFORCE samples, get a baseline for free!".
    """

    def estimate(self, experience: Experience) -> Tensor:
        """[N]."""
        valid = experience.valid
        groups = split_groups(experience.rewards[valid], experience.group[valid])
        return scatter(valid, groups.centred * (groups.size / (groups.size - 1).clamp(min=1))[groups.index])
