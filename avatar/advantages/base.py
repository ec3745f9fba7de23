"""What an advantage estimator is: experience in, one number per token out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from avatar.registry import Registry
from avatar.types import Experience


class Advantage(ABC):
    """Turns rewards into advantages. Sees the experience and nothing else: no model, no trainer.

    A subclass gives one number per completion in :meth:`estimate`; calling the object spreads it over the tokens.
    """

    @abstractmethod
    def estimate(self, experience: Experience) -> Tensor:
        """[N], one advantage per completion; 0 where ``experience.valid`` is False."""

    def __call__(self, experience: Experience) -> Tensor:
        """[N, T], the same advantage on each real token of a completion and 0 on padding."""
        return self.estimate(experience)[:, None] * experience.mask


ADVANTAGES: Registry[type[Advantage]] = Registry("advantage", "advantages")
