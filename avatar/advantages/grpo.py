"""Group-relative policy optimisation: each completion against its own group."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar.advantages.base import ADVANTAGES, Advantage
from avatar.errors import ConfigError
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
    if rewards.ndim != 1 or rewards.shape != group.shape:
        raise ValueError(f"rewards and group must both be [N], got {tuple(rewards.shape)} and {tuple(group.shape)}")
    if not rewards.isfinite().all():
        raise ValueError("rewards must be finite; mark completions without a reward as not valid instead")
    _, index, size = group.unique(return_inverse=True, return_counts=True)
    total = rewards.new_zeros(len(size))
    centred = rewards - (total.index_add(0, index, rewards) / size)[index]  # [N]
    equal = _spread(rewards, index, len(size)) == 0  # [groups]; rounding in the mean must not look like a signal
    centred = torch.where(equal[index], 0.0, centred)
    deviation = (total.index_add(0, index, centred**2) / (size - 1).clamp(min=1)).sqrt()
    return centred / torch.where(equal, 1.0, deviation + eps)[index]


def _spread(rewards: Tensor, index: Tensor, num_groups: int) -> Tensor:
    """Largest less smallest reward of each group, [groups]."""
    empty = rewards.new_zeros(num_groups)
    largest = empty.scatter_reduce(0, index, rewards, "amax", include_self=False)
    return largest - empty.scatter_reduce(0, index, rewards, "amin", include_self=False)


@ADVANTAGES.register()
class GRPO(Advantage):
    """Each completion against its own group, in units of the deviation of the group.

    Completions without a valid reward get 0 and take no part in their group's mean; a group left with one gets 0.

    Args:
        eps: Added to the group's deviation, in reward units; 1e-4 as in the paper.
    """

    def __init__(self, eps: float = 1e-4) -> None:
        if eps < 0:
            raise ConfigError(f"advantage.eps must be 0 or more, got {eps}")
        self.eps = eps

    def estimate(self, experience: Experience) -> Tensor:
        """[N]."""
        valid, advantages = experience.valid, torch.zeros_like(experience.rewards)
        scored = group_normalized_advantage(experience.rewards[valid], experience.group[valid], self.eps)
        return advantages.masked_scatter(valid, scored)
