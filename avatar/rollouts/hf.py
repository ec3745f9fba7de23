"""Generation by the very model that is trained, in this process."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avatar.models.base import ModelAdapter, Prefix
from avatar.rollouts.base import ENGINES, RolloutEngine
from avatar.types import Completion, Sampling


@ENGINES.register()
class HFEngine(RolloutEngine):
    """The adapter's own decoding: nothing to synchronise, exact log-probs, no server."""

    def generate(
        self,
        adapter: ModelAdapter,
        prefixes: Sequence[Prefix],
        nums: int | Sequence[int],
        sampling: Sampling,
        generator: torch.Generator,
    ) -> list[list[Completion]]:
        """[B][nums[b]] completions."""
        return adapter.generate(prefixes, nums, sampling, generator)
