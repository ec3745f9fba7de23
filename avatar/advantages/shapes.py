r"""Credit shapes: how an advantage is spread over the tokens of a completion.

.. math:: w_t = 1 + \lambda f(t'), \quad t' = t / (L - 1), \quad t = 0 .. L - 1

L counts the completion's own tokens, never the padding. A completion of one token is at its start: t' = 0. Each shape
is its f, with values in 0..1; a strength of 0 is ``Uniform``.

Reference: AVATAR, arXiv 2508.03100, section 3 (parabolic) and the comparison of shapes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from avatar.advantages.base import check_at_least
from avatar.registry import Registry


class CreditShape(ABC):
    r"""Weights over the tokens of a completion.

    Args:
        strength: :math:`\lambda`, 0 or more; 0.3 was the best in the paper.
        normalize: Divide by the mean weight of the completion, so that a shape moves credit without adding to it: the
            mean of the parabola is :math:`1 + \lambda (L + 1) / (3 (L - 1))`, a tenth more step size at 0.3.
    """

    def __init__(self, strength: float = 0.3, normalize: bool = False) -> None:
        check_at_least(0, strength=strength)
        self.strength, self.normalize = strength, normalize

    @abstractmethod
    def profile(self, position: Tensor) -> Tensor:
        """f(t') in 0..1, elementwise on t' in 0..1."""

    def weights(self, mask: Tensor) -> Tensor:
        """[N, T] weights; 0 on padding.

        Args:
            mask: [N, T] bool, True on the real tokens, which come first.
        """
        lengths = mask.sum(-1, keepdim=True)  # [N, 1]
        position = torch.arange(mask.shape[-1], device=mask.device) / (lengths - 1).clamp(min=1)  # [N, T]
        weights = torch.where(mask, 1 + self.strength * self.profile(position), 0.0)
        if not self.normalize:
            return weights
        return weights * (lengths / weights.sum(-1, keepdim=True).clamp(min=1))  # the sum is at least L


SHAPES: Registry[type[CreditShape]] = Registry("credit shape", "shapes")


@SHAPES.register()
class Uniform(CreditShape):
    """The same credit on every token, f = 0, whatever the strength."""

    def profile(self, position: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(position)


@SHAPES.register()
class Parabolic(CreditShape):
    """Planning at the start and the answer at the end get more, f = (2 t' - 1)^2; a single token gets 1 + strength."""

    def profile(self, position: Tensor) -> Tensor:
        """(2 t' - 1)^2."""
        return (2 * position - 1) ** 2


@SHAPES.register()
class InverseParabolic(CreditShape):
    """The middle gets more, f = 1 - (2 t' - 1)^2; a single token gets 1."""

    def profile(self, position: Tensor) -> Tensor:
        """1 - (2 t' - 1)^2."""
        return 1 - (2 * position - 1) ** 2


@SHAPES.register()
class LinearDecay(CreditShape):
    """Less from token to token, f = 1 - t'; a single token gets 1 + strength."""

    def profile(self, position: Tensor) -> Tensor:
        """1 - t'."""
        return 1 - position


@SHAPES.register()
class LinearIncline(CreditShape):
    """More from token to token, f = t'; a single token gets 1."""

    def profile(self, position: Tensor) -> Tensor:
        """Itself."""
        return position
