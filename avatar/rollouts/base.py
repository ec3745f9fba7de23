"""Who generates. An engine draws completions for encoded prompts; the RL module does not care how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from avatar.models.base import ModelAdapter, Prefix
from avatar.registry import Registry
from avatar.types import Completion, Sampling


class RolloutEngine(ABC):
    """Draws completions from the current policy."""

    @abstractmethod
    def generate(
        self,
        adapter: ModelAdapter,
        prefixes: Sequence[Prefix],
        nums: int | Sequence[int],
        sampling: Sampling,
        generator: torch.Generator,
    ) -> list[list[Completion]]:
        """[B][nums[b]] completions, or ``nums`` for each prefix, with the policy's log-probs of their tokens."""


ENGINES: Registry[type[RolloutEngine]] = Registry("rollout engine", "engines")
