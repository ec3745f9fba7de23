"""A benchmark as a LightningDataModule."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from avatar.benchmarks.base import BENCHMARKS
from avatar.data.dataset import Swap
from avatar.data.loader import PromptLoader
from avatar.data.module import plan_in_order, print_failures


class BenchmarkData(LightningDataModule):
    """All questions of one benchmark, in order.

    Args:
        benchmark: Its key.
        root: Folder of its files; by default where the benchmark expects them.
        swap: Give each clip the ``audio`` or the ``video`` of another: shows whether a model uses them.
        batch_size: Questions answered at a time.
        num_workers: Processes that decode ahead.
        on_error: ``skip`` clips that cannot be read, count and name them; or ``raise``.
    """

    def __init__(
        self,
        benchmark: str,
        root: str | None = None,
        swap: Swap | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        on_error: str = "skip",
    ) -> None:
        super().__init__()
        self.benchmark, self.swap = BENCHMARKS[benchmark](), swap
        self.name, self.root = benchmark, Path(root or self.benchmark.default_root)
        self.batch_size, self.num_workers, self.on_error = batch_size, num_workers, on_error
        self.loader: PromptLoader | None = None

    def setup(self, stage: str) -> None:
        """Find the questions; warns when there are fewer than there should be."""
        self.dataset = self.benchmark.prompts(self.root, self.swap)
        if len(self.dataset) < self.benchmark.num_records:
            rank_zero_warn(f"{self.name}: {len(self.dataset)} of {self.benchmark.num_records} records in {self.root}")

    def test_dataloader(self) -> PromptLoader:
        """Batches in order."""
        plan = partial(plan_in_order, len(self.dataset), self.batch_size)
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        self.loader = PromptLoader(self.dataset, plan, self.num_workers, self.on_error, rank, world, resumable=False)
        return self.loader

    predict_dataloader = test_dataloader
    val_dataloader = test_dataloader

    @property
    def failures(self) -> dict[str, str]:
        """Key and reason of every record skipped so far."""
        return self.loader.failures if self.loader else {}

    def teardown(self, stage: str) -> None:
        """Name what was skipped."""
        if self.failures:
            print_failures(self.failures)
