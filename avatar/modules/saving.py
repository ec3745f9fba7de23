"""What is kept of a run: checkpoints that are whole or not there, and the exported model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from avatar.models.base import pack_skeleton
from avatar.modules.logs import is_due


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then renames it: a crash leaves the old file or the new one, whole.

    Lightning's own builds the file in memory and may move it across file systems: a copy, which can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save to a local path; paths of object stores are left to Lightning."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)


class RunCheckpoint(ModelCheckpoint):
    """``checkpoints/last.ckpt`` every few steps and at the end, ``checkpoints/best.ckpt`` by validation.

    Checkpoints lie between training steps, and after the validation of their step if there is one.

    Args:
        every_n_steps: How often ``last.ckpt`` is written.
        monitor: Metric that ``best.ckpt`` has the highest of.
        dirpath: Folder; by default ``checkpoints`` in the run folder.
    """

    def __init__(self, every_n_steps: int = 50, monitor: str = "val/accuracy", dirpath: str | None = None) -> None:
        self.dirpath: str | None
        super().__init__(
            dirpath=dirpath, filename="best", monitor=monitor, mode="max", save_last=True, save_top_k=1,
            auto_insert_metric_name=False, enable_version_counter=False, every_n_epochs=1,
            save_on_train_epoch_end=False,
        )  # fmt: skip
        self.every_n_steps = every_n_steps
        self._saved_at = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle the folder."""
        self.dirpath = self.dirpath or str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where the run starts or goes on."""
        super().on_train_start(trainer, pl_module)
        self._saved_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write ``last.ckpt`` when it is due, when training stops, or when it is over."""
        over = trainer.global_step >= trainer.max_steps > 0
        due = is_due(self._saved_at, trainer.global_step, self.every_n_steps) or trainer.should_stop or over
        if due and not _validates_now(trainer):
            self._save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``best.ckpt`` if it is, and ``last.ckpt``."""
        if not trainer.sanity_checking and trainer.state.fn == "fit" and not trainer.fast_dev_run:
            super().on_validation_end(trainer, pl_module)
            self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the last step has been saved."""

    def _save_last(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:
            self._saved_at = trainer.global_step
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


def _validates_now(trainer: Trainer) -> bool:
    loop = trainer.fit_loop
    return bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher)) if loop._data_fetcher else False


def replace_folder(new: Path, place: Path) -> None:
    """Rename the folder ``new`` to ``place``; what lay there goes.

    A kill between the two renames leaves nothing at ``place``, and never a part of something.
    """
    former = place.with_name(place.name + ".former")
    shutil.rmtree(former, ignore_errors=True)
    if place.exists():
        place.rename(former)
    new.rename(place)
    shutil.rmtree(former, ignore_errors=True)


class ExportModel(Callback):
    """At the end of a run, write the policy to ``model/`` in the run folder, for transformers and the next stage.

    It is written beside its place and then renamed, so that ``model/`` is whole or not there.
    """

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it, unless the run was only a trial."""
        if trainer.fast_dev_run or trainer.interrupted:
            return
        folder = Path(trainer.default_root_dir) / "model"
        partial = folder.with_name("model.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with torch.no_grad():
            pl_module.policy.adapter.save_pretrained(partial)  # type: ignore[union-attr, operator]
        replace_folder(partial, folder)
        rank_zero_info(f"Model written to {folder}")


class ConfigInCheckpoint(Callback):
    """Makes each checkpoint enough to rebuild its model: arguments, configuration and processor go in too.

    One with LoRA holds the low-rank weights alone; its base is loaded from where the policy's path says.

    Args:
        model: Class path and arguments, plain values only.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        self.model = model

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """As JSON text, which loads with ``weights_only=True``."""
        checkpoint["avatar_model"] = json.dumps(self.model)
        adapter = pl_module.policy.adapter  # type: ignore[union-attr]
        if not adapter.has_lora:  # type: ignore[union-attr]
            checkpoint["avatar_skeleton"] = pack_skeleton(adapter)  # type: ignore[arg-type]
