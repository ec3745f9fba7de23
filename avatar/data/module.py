"""The LightningDataModule over shard folders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from rich.text import Text

from avatar.cache import shared
from avatar.data.dataset import PromptDataset, start_decoders
from avatar.data.loader import PromptLoader
from avatar.data.plan import Phase, Plan, Stretch, plan_epoch, plan_in_order
from avatar.data.prompts import PromptStyle
from avatar.data.rules import ClipRule
from avatar.data.skipped import Failure, Skipped, print_failures
from avatar.errors import ConfigError
from avatar.types import Prompt

DEFAULT_RULE = ClipRule()


class ShardData(LightningDataModule):
    """Prompts from shard folders for training, validation and testing.

    A folder is local or an address that fsspec knows (``https://``, ``s3://`` ...), see docs/data.md.

    Args:
        train: Folder to train on, or phases that follow one another, each a folder or a mixture of several.
        val: Folder for validation; None for none.
        test: Folder for ``avatar test`` without a benchmark; None for none.
        batch_size: Prompts a training step.
        eval_batch_size: Prompts a validation or test step.
        system: System message of records that bring none; None for none.
        letter_options: Show options as ``A. text``; else as ``text / text``.
        max_frames: Most frames of a video.
        fps: Frames a second to take, as far as ``max_frames`` allows; None spreads ``max_frames`` over the whole.
        min_pixels: Smaller frames are scaled up to this, or to ``max_pixels`` if that is less.
        max_pixels: Larger frames are scaled down to this, each for itself.
        legacy_fps: Positions take frames to be half a second apart whatever their true times are, as the authors'
            release does.
        max_audio_seconds: A longer sound is an error.
        max_decoded_mb: Most memory that decoding one clip may take, in MB.
        time_limit: Seconds that reading and decoding one record may take.
        shuffle_window: Shuffle shards, and records within windows of so many, so that reading stays near one place;
            None shuffles all.
        num_workers: Processes that decode ahead, at least one.
        prefetch: Prompts that each of them may be ahead.
        cache_mb: Bound of the store of decoded clips, in MB.
        hints: A file of hints that take the place of the records' own; ``auto`` for the ``hints.jsonl`` that
            ``avatar hints write`` puts beside the shards, if there is one; None for the records' own.
        on_error: ``skip`` records that cannot be read, count and name them at the end; or ``raise``.
        max_failed_share: Share of the records of a pass that may be skipped; beyond it the run stops.
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
        max_frames: int = DEFAULT_RULE.max_frames,
        fps: float | None = None,
        min_pixels: int = DEFAULT_RULE.min_pixels,
        max_pixels: int = DEFAULT_RULE.max_pixels,
        legacy_fps: bool = False,
        max_audio_seconds: float = DEFAULT_RULE.max_audio_seconds,
        max_decoded_mb: int = DEFAULT_RULE.max_decoded_mb,
        time_limit: float = DEFAULT_RULE.time_limit,
        shuffle_window: int | None = None,
        num_workers: int = 1,
        prefetch: int = 4,
        cache_mb: int = 256,
        hints: str | None = "auto",
        on_error: str = "skip",
        max_failed_share: float = 0.05,
    ) -> None:
        super().__init__()
        if on_error not in ("skip", "raise"):
            raise ConfigError(f"data.on_error must be 'skip' or 'raise', got {on_error!r}")
        if not 0 <= max_failed_share <= 1:
            raise ConfigError(f"data.max_failed_share must be from 0 to 1, got {max_failed_share}")
        _check_at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size, num_workers=num_workers)
        _check_at_least(0, cache_mb=cache_mb, prefetch=prefetch)
        if shuffle_window is not None:
            _check_at_least(1, shuffle_window=shuffle_window)
        self.train = [Phase(train)] if isinstance(train, str) else list(train or [])
        for i, phase in enumerate(self.train):
            phase.check(f"data.train[{i}]")
        self.val, self.test = val, test
        self.batch_size, self.eval_batch_size, self.shuffle_window = batch_size, eval_batch_size, shuffle_window
        self.style = PromptStyle(system, letter_options)
        self.rule = ClipRule(
            max_frames, fps, min_pixels, max_pixels, legacy_fps, max_audio_seconds, max_decoded_mb, time_limit
        )
        self.ahead, self.cache_mb = prefetch * num_workers, cache_mb
        self.hints, self.on_error, self.max_failed_share = hints, on_error, max_failed_share
        self.decoders = start_decoders(num_workers, self.rule)
        self.skipped = Skipped()

    def setup(self, stage: str) -> None:
        """Index the shards that ``stage`` needs, so that a missing one is found before any compute is spent."""
        self.seed = torch.initial_seed()
        if stage == "fit":
            self.train_dataset = self._dataset(*(source.path for phase in self.train for source in phase.sources))
            if self.hints not in (None, "auto") and not sum(o.num_hinted for o in self.train_dataset.overlays):
                raise ConfigError(f"data.hints: {self.hints} has no hint for any record that is trained on")
        if stage in ("fit", "validate") and self.val:
            self.val_dataset = self._dataset(self.val)
        if stage in ("test", "predict"):
            if not self.test:
                raise ConfigError("there is no test data: give --benchmark NAME or --data.test FOLDER")
            self.test_dataset = self._dataset(self.test)

    def _dataset(self, *folders: str) -> PromptDataset:
        if not folders:
            raise ConfigError("there is no training data: give --data.train FOLDER")
        key = ("prompts", folders, self.style, self.rule, self.cache_mb, self.hints)
        dataset = shared(
            key, lambda: PromptDataset(folders, self.style, self.rule, self.cache_mb, None, self.decoders, self.hints)
        )
        if self.trainer is None or self.trainer.is_global_zero:
            for note in dict.fromkeys(note for overlay in dataset.overlays for note in overlay.notes):
                Console(stderr=True).print(Text(note), soft_wrap=True)
        return dataset

    def train_dataloader(self) -> PromptLoader:
        """Shuffled batches, phase after phase; a new order each epoch."""
        blocks = iter(index.shard_sizes for index in self.train_dataset.indexes)
        stretches = [
            Stretch([next(blocks) for _ in phase.sources], [source.weight for source in phase.sources], phase.batches)
            for phase in self.train
        ]
        return self._loader(self.train_dataset, partial(self._plan, stretches), training=True)

    def _plan(self, stretches: list[Stretch], epoch: int) -> Plan:
        return plan_epoch(stretches, self.batch_size, self.seed, epoch, self.shuffle_window)

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

    def _loader(self, dataset: PromptDataset, plans: Callable[[int], Plan], training: bool = False) -> PromptLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if self.trainer and training:
            name = "skipped.jsonl" if world == 1 else f"skipped-rank{rank}.jsonl"
            self.skipped.log = Path(self.trainer.default_root_dir) / name
        return PromptLoader(
            dataset, plans, self.ahead, self.on_error, self.max_failed_share, rank, world, training, training,
            self.skipped,
        )  # fmt: skip

    @property
    def failures(self) -> dict[str, Failure]:
        """Every record skipped so far, by key."""
        return self.skipped.failures

    def teardown(self, stage: str) -> None:
        """Name what was skipped, and let the decoders go."""
        if self.failures:
            print_failures(list(self.failures.values()))
        self.decoders.close()


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"data.{name} must be at least {least}, got {value}")
