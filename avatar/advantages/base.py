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

    A subclass gives one number per completion in :meth:`estimate`; calling the object spreads it over the tokens.

    Attributes:
        needs_replay: Whether it makes no sense without replayed completions; training then insists on them.
    """

    needs_replay: bool = False

    @abstractmethod
    def estimate(self, experience: Experience) -> Tensor:
        """[N], one advantage per completion; 0 where ``experience.valid`` is False."""

    def __call__(self, experience: Experience) -> Tensor:
        """[N, T], the same advantage on each real token of a completion and 0 on padding."""
        return self.estimate(experience)[:, None] * experience.mask


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
