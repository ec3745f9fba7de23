"""What an advantage estimator is: experience in, one number per token out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor

from avatar.errors import ConfigError
from avatar.registry import Registry
from avatar.types import Experience


class Advantage(ABC):
    """Turns rewards into advantages. Sees the experience and nothing else: no model, no trainer.

    A subclass gives one number per completion in :meth:`estimate`; :meth:`spread` lays it over the tokens, and calling
    the object does both.

    Attributes:
        needs_replay: Whether it makes no sense without replayed completions; training then insists on them.
    """

    needs_replay: bool = False

    @abstractmethod
    def estimate(self, experience: Experience) -> Tensor:
        """[N], one advantage per completion; 0 where ``experience.valid`` is False."""

    def spread(self, estimates: Tensor, experience: Experience) -> Tensor:
        """[N, T] of ``estimates`` [N]: the same advantage on each real token of a completion and 0 on padding."""
        return estimates[:, None] * experience.mask

    def __call__(self, experience: Experience) -> Tensor:
        """[N, T], one advantage per token; 0 on padding."""
        return self.spread(self.estimate(experience), experience)


ADVANTAGES: Registry[type[Advantage]] = Registry("advantage", "advantages")


def scatter(where: Tensor, values: Tensor) -> Tensor:
    """[N] with ``values`` [M], in order, at the M True places of ``where`` [N], and 0 elsewhere."""
    return values.new_zeros(len(where)).masked_scatter(where, values)


def check_at_least(least: float, **values: float) -> None:
    """Refuse an argument that is below ``least``, by its name.

    Raises:
        ConfigError: It is, or it is not finite.
    """
    for name, value in values.items():
        if not least <= value < math.inf:
            raise ConfigError(f"advantage.{name} must be {least:g} or more, got {value}")
