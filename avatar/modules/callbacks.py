"""What is seen and kept while a run goes on: checkpoints, a clean stop, sample completions, the exported model."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from rich.console import Console
from rich.table import Table

from avatar.models.base import pack_skeleton
from avatar.modules.logs import RunLogger, StepLines
from avatar.modules.rl import RLModule, Rollout


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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle the folder."""
        self.dirpath = self.dirpath or str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write ``last.ckpt`` when it is due, when training stops, or when it is over."""
        over = trainer.global_step >= trainer.max_steps > 0
        due = trainer.global_step % self.every_n_steps == 0 or trainer.should_stop or over
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
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


def _validates_now(trainer: Trainer) -> bool:
    loop = trainer.fit_loop
    return bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher)) if loop._data_fetcher else False


class RunProgress(RichProgressBar):
    """Lightning's bar, counting steps of the run: epochs mean little where a run is so many steps long."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    @property
    def total_train_batches(self) -> float:
        """Batches of this epoch that the run will come to, those before a resume included."""
        trainer = self.trainer
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        before = max(0, trainer.global_step - done - 1)  # a checkpoint counts the batch that it was taken after as open
        left = trainer.max_steps - before if trainer.max_steps > 0 else float("inf")
        return min(trainer.num_training_batches, left)

    @property
    def sanity_check_description(self) -> str:
        """The validation before the first step."""
        return "Validation"

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Training (epoch {current_epoch})" if current_epoch else "Training"


class GracefulStop(Callback):
    """The first Ctrl-C finishes the step, saves, and stops; a second one aborts at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._before: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over SIGINT."""

        def stop(signum: int, frame: Any) -> None:
            self.interrupted = trainer.should_stop = True
            signal.signal(signal.SIGINT, self._before)
            rank_zero_info("\nStopping after this step; press Ctrl-C again to abort at once.")

        self._before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, stop)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give SIGINT back, and say how to go on."""
        signal.signal(signal.SIGINT, self._before)
        if self.interrupted:
            rank_zero_info(f"Interrupted at step {trainer.global_step}; saved. Go on with: --ckpt_path last")


class ResumeLogs(Callback):
    """Tells the run's files which step a resumed run goes on from."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Called before anything is logged."""
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.resume_step = checkpoint["global_step"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SampleCompletions):
                callback.resume_step = checkpoint["global_step"]


class SampleCompletions(Callback):
    """All completions of an RL run in ``completions.jsonl``, and now and then a few as a table.

    Args:
        every_n_steps: How often the table is shown; 0 is never.
        num: Most rows of it.
    """

    def __init__(self, every_n_steps: int = 50, num: int = 4) -> None:
        self.every_n_steps, self.num = every_n_steps, num
        self.resume_step: int | None = None
        self._file: StepLines | None = None

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write, and show when it is time."""
        if not isinstance(pl_module, RLModule) or pl_module.rollout is None:
            return
        if self._file is None:
            self._file = StepLines(Path(trainer.default_root_dir) / "completions.jsonl", self.resume_step)
        rows = completion_rows(pl_module.rollout)
        self._file.write({"step": trainer.global_step, **row} for row in rows)
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            Console().print(completion_table(rows[: self.num], trainer.global_step))


def completion_rows(rollout: Rollout) -> list[dict[str, Any]]:
    """One plain row a completion: prompt, text, each reward, their sum, the mean advantage, length, finished."""
    experience = rollout.experience
    advantages = rollout.advantages.sum(-1) / experience.mask.sum(-1).clamp(min=1)
    return [
        {
            "prompt": rollout.prompts[int(experience.group[i])].key,
            "gold": rollout.prompts[int(experience.group[i])].answer,
            "completion": completion.text,
            **{f"reward/{name}": round(float(part[i]), 6) for name, part in rollout.parts.items()},
            "reward": round(float(experience.rewards[i]), 6),
            "advantage": round(float(advantages[i]), 6),
            "length": len(completion.ids),
            "finished": completion.finished,
        }
        for i, completion in enumerate(rollout.completions)
    ]


def completion_table(rows: list[dict[str, Any]], step: int) -> Table:
    """Completions with their rewards."""
    table = Table(title=f"completions at step {step}")
    for name in ("prompt", "gold", "completion"):
        table.add_column(name, overflow="fold")
    numbers = [name for name in rows[0] if name.startswith("reward") or name == "advantage"]
    for name in numbers:
        table.add_column(name.removeprefix("reward/"), justify="right")
    for row in rows:
        texts = [str(row[name]).replace("[", r"\[") for name in ("prompt", "gold", "completion")]
        table.add_row(*texts, *(f"{row[name]:.2f}" for name in numbers))
    return table


class ExportModel(Callback):
    """At the end of a run, write the policy to ``model/`` in the run folder, for transformers and the next stage."""

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it, unless the run was only a trial."""
        if trainer.fast_dev_run or trainer.interrupted:
            return
        folder = Path(trainer.default_root_dir) / "model"
        with torch.no_grad():
            pl_module.policy.adapter.save_pretrained(folder)  # type: ignore[union-attr, operator]
        rank_zero_info(f"Model written to {folder}")


class ConfigInCheckpoint(Callback):
    """Makes each checkpoint enough to rebuild its model: arguments, configuration and processor go in too.

    Args:
        model: Class path and arguments, plain values only.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        self.model = model

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """As JSON text, which loads with ``weights_only=True``."""
        checkpoint["avatar_model"] = json.dumps(self.model)
        checkpoint["avatar_skeleton"] = pack_skeleton(pl_module.policy.adapter)  # type: ignore[union-attr, arg-type]
