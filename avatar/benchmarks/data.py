"""A benchmark as a LightningDataModule."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from avatar.benchmarks.base import BENCHMARKS
from avatar.data.dataset import start_decoders
from avatar.data.loader import PromptLoader
from avatar.data.plan import plan_in_order
from avatar.data.prepare import Swap
from avatar.data.skipped import Failure, print_failures


class BenchmarkData(LightningDataModule):
    """All questions of one benchmark, in order.

    Args:
        benchmark: Its key.
        root: Folder of its files; by default where the benchmark expects them.
        swap: Give each clip the ``audio`` or the ``video`` of another: shows whether a model uses them.
        batch_size: Questions answered at a time.
        num_workers: Processes that decode ahead, at least one.
        on_error: ``skip`` clips that cannot be read, count and name them; or ``raise``.
    """

    def __init__(
        self,
        benchmark: str,
        root: str | None = None,
        swap: Swap | None = None,
        batch_size: int = 64,
        num_workers: int = 1,
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
        self.dataset.decoders = start_decoders(self.num_workers, self.dataset.rule)
        if len(self.dataset) < self.benchmark.num_records:
            rank_zero_warn(f"{self.name}: {len(self.dataset)} of {self.benchmark.num_records} records in {self.root}")

    def test_dataloader(self) -> PromptLoader:
        """Batches in order."""
        plan = partial(plan_in_order, len(self.dataset), self.batch_size)
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        self.loader = PromptLoader(
            self.dataset, plan, 4 * self.num_workers, self.on_error, rank=rank, world_size=world, resumable=False
        )
        return self.loader

    predict_dataloader = test_dataloader
    val_dataloader = test_dataloader

    @property
    def failures(self) -> dict[str, Failure]:
        """Every record skipped so far, by key."""
        return self.loader.skipped.failures if self.loader else {}

    def teardown(self, stage: str) -> None:
        """Name what was skipped, and let the decoders go."""
        if self.failures:
            print_failures(list(self.failures.values()))
        self.dataset.decoders.close()
