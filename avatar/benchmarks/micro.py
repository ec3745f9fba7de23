"""The held-out split of the micro-world."""

from __future__ import annotations

from pathlib import Path

from avatar.benchmarks.base import BENCHMARKS, Benchmark
from avatar.data.dataset import PromptDataset
from avatar.data.micro import KINDS, RULE, SPLITS
from avatar.data.prepare import Swap
from avatar.data.prompts import PromptStyle


@BENCHMARKS.register("micro")
class Micro(Benchmark):
    """Five kinds of questions about one-second clips, see :mod:`avatar.data.micro`."""

    version = 1
    source = "avatar data synth"
    num_records = SPLITS["test"] * len(KINDS)
    default_root = "data/micro/test"

    def prompts(self, root: Path, swap: Swap | None = None) -> PromptDataset:
        """Shards of ``root``, asked without a system message and with options on one line, as in training."""
        return PromptDataset([root], PromptStyle(letter_options=False), RULE, swap=swap)
