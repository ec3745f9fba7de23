"""The LightningDataModule over shard folders."""

from __future__ import annotations

from functools import partial

import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avatar.data.dataset import PromptDataset, PromptStyle
from avatar.data.loader import Phase, Plan, PromptLoader, plan_epoch
from avatar.errors import ConfigError
from avatar.types import Prompt


class ShardData(LightningDataModule):
    """Prompts from shard folders for training, validation and testing.

    Args:
        train: Folder to train on, or phases that follow one another.
        val: Folder for validation; None for none.
        test: Folder for ``avatar test`` without a benchmark; None for none.
        batch_size: Prompts a training step.
        eval_batch_size: Prompts a validation or test step.
        system: System message, or None for none.
        letter_options: Show options as ``A. text``; else as ``text / text``.
        max_frames: Most frames of a clip.
        num_workers: Processes that decode ahead; 0 decodes in the main one.
        cache_mb: Bound of the store of decoded clips of each process, in MB.
        on_error: ``skip`` records that cannot be read, count and name them at the end; or ``raise``.
    """

    def __init__(
        self,
        train: str | list[Phase] | None = None,
        val: str | None = None,
        test: str | None = None,
        batch_size: int = 1,
        eval_batch_size: int = 64,
        system: str | None = None,
        letter_options: bool = True,
        max_frames: int = 16,
        num_workers: int = 0,
        cache_mb: int = 256,
        on_error: str = "skip",
    ) -> None:
        super().__init__()
        if on_error not in ("skip", "raise"):
            raise ConfigError(f"data.on_error must be 'skip' or 'raise', got {on_error!r}")
        self.train = [Phase(train)] if isinstance(train, str) else list(train or [])
        _check_at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size, max_frames=max_frames)
        _check_at_least(0, num_workers=num_workers, cache_mb=cache_mb)
        for i, phase in enumerate(self.train):
            if phase.batches is not None:
                _check_at_least(1, **{f"train[{i}].batches": phase.batches})
        self.val, self.test = val, test
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.style = PromptStyle(system, letter_options, max_frames)
        self.num_workers, self.cache_mb, self.on_error = num_workers, cache_mb, on_error
        self.loaders: list[PromptLoader] = []

    def setup(self, stage: str) -> None:
        """Index the shards that ``stage`` needs, so that a missing one is found before any compute is spent."""
        self.seed = torch.initial_seed()
        if stage == "fit":
            self.train_dataset = self._dataset(*(phase.path for phase in self.train))
        if stage in ("fit", "validate") and self.val:
            self.val_dataset = self._dataset(self.val)
        if stage in ("test", "predict"):
            if not self.test:
                raise ConfigError("there is no test data: give --benchmark NAME or --data.test FOLDER")
            self.test_dataset = self._dataset(self.test)

    def _dataset(self, *folders: str) -> PromptDataset:
        if not folders:
            raise ConfigError("there is no training data: give --data.train FOLDER")
        return PromptDataset(folders, self.style, self.cache_mb)

    def train_dataloader(self) -> PromptLoader:
        """Shuffled batches, phase after phase; a new order each epoch."""
        sizes = [len(index) for index in self.train_dataset.indexes]
        counts = [phase.batches for phase in self.train]
        plans = partial(plan_epoch, sizes, counts, self.batch_size, self.seed)
        return self._loader(self.train_dataset, plans, training=True)

    def prompt(self, key: str) -> Prompt:
        """The training prompt called ``key``, its clip decoded again: what replay asks for.

        Raises:
            DataError: There is none, or it cannot be read.
        """
        return self.train_dataset.by_key(key)

    def val_dataloader(self) -> PromptLoader | list[PromptLoader]:
        """Batches in shard order; none without a validation folder."""
        return self._in_order(self.val_dataset) if self.val else []

    def test_dataloader(self) -> PromptLoader:
        """Batches in shard order."""
        return self._in_order(self.test_dataset)

    predict_dataloader = test_dataloader

    def _in_order(self, dataset: PromptDataset) -> PromptLoader:
        return self._loader(dataset, partial(plan_in_order, len(dataset), self.eval_batch_size))

    def _loader(self, dataset: PromptDataset, plans: object, training: bool = False) -> PromptLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        loader = PromptLoader(dataset, plans, self.num_workers, self.on_error, rank, world, training, training)
        self.loaders.append(loader)
        return loader

    @property
    def failures(self) -> dict[str, str]:
        """Key and reason of every record skipped so far."""
        return {key: reason for loader in self.loaders for key, reason in loader.failures.items()}

    def teardown(self, stage: str) -> None:
        """Name what was skipped."""
        if failures := self.failures:
            print_failures(failures)


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"data.{name} must be at least {least}, got {value}")


def plan_in_order(size: int, batch_size: int, epoch: int) -> Plan:
    """Positions 0 .. size - 1, ``batch_size`` at a time, the same in every epoch."""
    return [range(i, min(i + batch_size, size)) for i in range(0, size, batch_size)]


def print_failures(failures: dict[str, str], most: int = 20) -> None:
    """A table of skipped records and why, the first ``most`` by name."""
    table = Table(title=f"{len(failures)} records were skipped", title_style="bold yellow")
    table.add_column("record")
    table.add_column("reason", overflow="fold")
    for key, reason in list(failures.items())[:most]:
        table.add_row(Text(key), Text(reason))  # as they are: brackets in a plain string would be markup
    if len(failures) > most:
        table.add_row("...", f"and {len(failures) - most} more")
    Console(stderr=True).print(table)
