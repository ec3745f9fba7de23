"""Group-relative policy optimisation: each completion against its own group."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar.advantages.base import ADVANTAGES, Advantage, check_at_least, scatter
from avatar.advantages.groups import split_groups
from avatar.types import Experience


def group_normalized_advantage(rewards: Tensor, group: Tensor, eps: float = 1e-4) -> Tensor:
    r"""Score each completion against its own group.

    .. math:: A_i = (r_i - \mu_{g(i)}) / (\sigma_{g(i)} + \epsilon)

    :math:`\sigma_g` is the sample deviation (ddof 1). A group whose rewards are all equal, or of one, gets zeros.

    Args:
        rewards: [N], one scalar per completion.
        group: [N] int, which prompt each belongs to; groups may differ in size.
        eps: Added to the deviation, in reward units.

    Returns:
        [N], zero mean within each group.

    Raises:
        ValueError: rewards and group differ in shape, or rewards is not one-dimensional or not finite.

    Reference:
        DeepSeekMath, arXiv 2402.03300, section 4.1.2.
    """
    groups = split_groups(rewards, group)
    scale = torch.where(groups.deviation == 0, 1.0, groups.deviation + eps)  # an eps of 0 must not divide by 0
    return groups.centred / scale[groups.index]


@ADVANTAGES.register()
class GRPO(Advantage):
    """Each completion against its own group, in units of the deviation of the group.

    Completions without a valid reward get 0 and take no part in their group's mean; a group left with one gets 0.
    Replayed completions, if there are any, are members of their group like all others.

    Args:
        eps: Added to the group's deviation, in reward units; 1e-4 as in the paper.
    """

    def __init__(self, eps: float = 1e-4) -> None:
        check_at_least(0, eps=eps)
        self.eps = eps

    def estimate(self, experience: Experience) -> Tensor:
        """[N]."""
        rewards, group, valid = experience.rewards, experience.group, experience.valid
        return scatter(valid, group_normalized_advantage(rewards[valid], group[valid], self.eps))
