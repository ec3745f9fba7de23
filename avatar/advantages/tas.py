"""Temporal advantage shaping: any estimator times a credit shape."""

from __future__ import annotations

from torch import Tensor

from avatar.advantages.base import ADVANTAGES, Advantage
from avatar.advantages.grpo import GRPO
from avatar.advantages.shapes import CreditShape, Parabolic
from avatar.types import Experience


@ADVANTAGES.register()
class TAS(Advantage):
    r"""An estimator's advantages, shaped over the tokens of each completion.

    .. math:: A_{it} = w_t A_i

    The KL term is left alone. Where the base gives 0, so does this; a strength of 0 is the base itself.

    Args:
        base: Estimator of one advantage per completion; None is ``GRPO``.
        shape: Weights over the tokens; None is ``Parabolic``.
    """

    def __init__(self, base: Advantage | None = None, shape: CreditShape | None = None) -> None:
        self.base, self.shape = base or GRPO(), shape or Parabolic()

    @property
    def needs_replay(self) -> bool:  # type: ignore[override]
        """Whether the base does."""
        return self.base.needs_replay

    def estimate(self, experience: Experience) -> Tensor:
        """[N], those of the base."""
        return self.base.estimate(experience)

    def spread(self, estimates: Tensor, experience: Experience) -> Tensor:
        """[N, T]: as the base spreads it, times the weights of the shape."""
        return self.base.spread(estimates, experience) * self.shape.weights(experience.mask)
