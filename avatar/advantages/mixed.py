"""Fresh completions against their group, replayed ones against the past of their prompt (VCRS)."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar.advantages.base import ADVANTAGES, Advantage, check_at_least, scatter
from avatar.advantages.groups import split_groups
from avatar.advantages.grpo import group_normalized_advantage
from avatar.types import Experience


def vcrs_advantage(
    rewards: Tensor, group: Tensor, reference_score: Tensor, eps: float = 1e-4, std_floor: float = 0.1
) -> Tensor:
    r"""Score replayed completions against what their prompt has earned so far.

    .. math:: A_i = (r_i - \bar R(q_i)) / (\max(\sigma_{g(i)}, \sigma_{min}) + \epsilon)

    :math:`\bar R(q)` is the video-context reference score, the mean of the prompt's last fresh rewards before this
    step; :math:`\sigma_g` is the sample deviation (ddof 1) of what is replayed for the group. A completion replayed
    alone has :math:`\sigma_g = 1`. One whose prompt has no score yet (NaN) gets 0: there is nothing to hold it to.

    Args:
        rewards: [M], of replayed completions.
        group: [M] int, which group each is replayed for.
        reference_score: [M], in reward units.
        eps: Added to the deviation, in reward units.
        std_floor: Smallest deviation, in reward units: without it equal rewards would give advantages of thousands.

    Returns:
        [M]; unlike a group-normalised advantage it is not zero in the mean, which is its point: a group whose rewards
        are all equal still tells whether they are better than what was usual.

    Reference:
        AVATAR, arXiv 2508.03100, section 3. The floor is ours.
    """
    groups = split_groups(rewards, group)
    scale = torch.where(groups.size == 1, 1.0, groups.deviation.clamp(min=std_floor)) + eps  # [groups]
    scale = scale.masked_fill(scale == 0, 1.0)  # neither floor nor eps, and equal rewards
    return torch.where(reference_score.isnan(), 0.0, (rewards - reference_score) / scale[groups.index])


@ADVANTAGES.register()
class Mixed(Advantage):
    """Group-normalised advantages for fresh completions, :func:`vcrs_advantage` for replayed ones.

    The two do not touch: fresh completions alone make up the mean of their group. Without anything replayed this is
    GRPO; where all is replayed there is no group mean at all. A fresh group of equal rewards, or left with one valid
    completion, gets 0, and what is replayed for it does not.

    Args:
        eps: Added to both deviations, in reward units.
        std_floor: Smallest deviation of replayed rewards.
    """

    needs_replay = True

    def __init__(self, eps: float = 1e-4, std_floor: float = 0.1) -> None:
        check_at_least(0, eps=eps, std_floor=std_floor)
        self.eps, self.std_floor = eps, std_floor

    def estimate(self, experience: Experience) -> Tensor:
        """[N]."""
        rewards, group, reference = experience.rewards, experience.group, experience.reference_score
        fresh = experience.valid & ~experience.is_replayed
        old = experience.valid & experience.is_replayed
        on_policy = group_normalized_advantage(rewards[fresh], group[fresh], self.eps)
        off_policy = vcrs_advantage(rewards[old], group[old], reference[old], self.eps, self.std_floor)
        return torch.where(fresh, scatter(fresh, on_policy), scatter(old, off_policy))
