"""How replay is set up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from avatar.errors import ConfigError

TIERS = ("hard", "medium", "easy")  # by the rank of a prompt's reference score, lowest first
Draw = Literal["priority", "uniform", "fifo"]
Scope = Literal["prompt", "any"]
When = Literal["always", "zero_spread"]


@dataclass(frozen=True)
class Replay:
    r"""Settings of the stratified replay buffer; ``model.replay`` of a config, without it nothing is replayed.

    Attributes:
        num_replayed: Stored completions beside the ``num_generations`` new ones of each prompt.
        alpha: Weight of the replayed part of the objective.
        ramp_steps: Alpha grows to its full value over so many steps from the first replay on.
        scope: Completions of this very ``prompt`` (none where there are none), or of ``any``.
        when: ``always``, or only for prompts whose fresh rewards have ``zero_spread``: the vanishing advantage itself.
        draw: Within a tier, by ``priority`` (softmax), ``uniform``, or ``fifo`` (oldest first, and then it is gone).
        minimum: Completions that must be stored before anything is replayed.
        max_staleness: Oldest completion that is replayed, in optimizer steps; None is no limit.
        capacity: Completions held.
        easy_share: Of the capacity, and of prompts: those with the highest reference score.
        medium_share: Likewise in the middle.
        hard_share: Likewise with the lowest.
        priority_reward: Weight of the advantage in the priority, fixed when a completion is stored.
        priority_kl: Weight of its KL to the reference, taken off.
        priority_temperature: Of the softmax.

    Reference:
        AVATAR, arXiv 2508.03100, section 3; weights and temperature of the priority from its release.
    """

    num_replayed: int = 4
    alpha: float = 1.0
    ramp_steps: int = 0
    scope: Scope = "prompt"
    when: When = "always"
    draw: Draw = "priority"
    minimum: int = 10
    max_staleness: int | None = None
    capacity: int = 10_000
    easy_share: float = 0.25
    medium_share: float = 0.35
    hard_share: float = 0.40
    priority_reward: float = 1.0
    priority_kl: float = 0.1
    priority_temperature: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("num_replayed", 1), ("ramp_steps", 0), ("minimum", 0), ("max_staleness", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"model.replay.{name} must be at least {least}, got {value}")
        for name, choices in (("scope", Scope), ("when", When), ("draw", Draw)):
            if getattr(self, name) not in get_args(choices):
                raise ConfigError(
                    f"model.replay.{name} must be {' or '.join(get_args(choices))}, got {getattr(self, name)!r}"
                )
        if not 0 <= self.alpha < math.inf:
            raise ConfigError(f"model.replay.alpha must be 0 or more, got {self.alpha}")
        if not 0 < self.priority_temperature < math.inf:
            raise ConfigError(f"model.replay.priority_temperature must be above 0, got {self.priority_temperature}")
        self._check_shares()

    def _check_shares(self) -> None:
        named = " + ".join(f"{tier}_share {self.share(tier):g}" for tier in reversed(TIERS))
        total = sum(self.share(tier) for tier in TIERS)
        if not abs(total - 1) <= 1e-6 or any(self.share(tier) < 0 for tier in TIERS):  # a sum of nan is refused too
            raise ConfigError(f"model.replay: {named} must each be 0 or more and sum to 1, their sum is {total:g}")
        if self.capacity < max(1, self.minimum):
            raise ConfigError(
                f"model.replay.capacity must be at least 1 and hold the minimum of {self.minimum}, got {self.capacity}"
            )

    def share(self, tier: str) -> float:
        """Of the capacity, of the prompts, and of what is drawn."""
        return float(getattr(self, f"{tier}_share"))

    def quotas(self) -> dict[str, int]:
        """Completions that each tier holds; they sum to the capacity."""
        edges = [0, *(round(self.capacity * edge) for edge in self.edges()), self.capacity]
        return {tier: high - low for tier, (low, high) in zip(TIERS, pairwise(edges), strict=True)}

    def edges(self) -> tuple[float, float]:
        """Shares of prompts below the medium and below the easy tier."""
        return self.hard_share, 1 - self.easy_share

    def alpha_at(self, steps_since_first_replay: int) -> float:
        """Weight of the replayed part, ramp included; the first replay is 0 steps after itself."""
        if self.ramp_steps == 0:
            return self.alpha
        return self.alpha * min(1.0, (steps_since_first_replay + 1) / self.ramp_steps)
