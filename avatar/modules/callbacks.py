"""What is seen while a run goes on: progress, a clean stop, sample completions."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from rich.console import Console
from rich.table import Table
from torch import Tensor

from avatar.modules.logs import RunLogger, StepLines, is_due
from avatar.modules.rl import RLModule
from avatar.modules.rollout import Rollout
from avatar.modules.steps import of_all_ranks
from avatar.types import Completion, Prompt


class RunProgress(RichProgressBar):
    """Lightning's bar, counting steps of the run: epochs mean little where a run is so many steps long."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    @property
    def total_train_batches(self) -> float:
        """Batches of this epoch that the run will come to, those before a resume included."""
        trainer = self.trainer
        updates = getattr(trainer.lightning_module, "updates_per_rollout", 1)  # steps of a batch
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        # A checkpoint counts the batch that it was taken after as open.
        before = max(0, trainer.global_step // updates - done - 1)
        left = -(-trainer.max_steps // updates) - before if trainer.max_steps > 0 else float("inf")
        return min(trainer.num_training_batches, left)

    @property
    def sanity_check_description(self) -> str:
        """The validation before the first step."""
        return "Validation"

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Training (epoch {current_epoch})" if current_epoch else "Training"


class GracefulStop(Callback):
    """The first Ctrl-C finishes the step, saves, and stops; a second one aborts at once.

    Processes that train in step stop at the same one, whichever of them the signal has reached by then.

    Attributes:
        interrupted: Whether it has stopped the run.
    """

    def __init__(self) -> None:
        self.interrupted = self._asked = False
        self._before: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over SIGINT."""

        def stop(signum: int, frame: Any) -> None:
            self._asked = True
            signal.signal(signal.SIGINT, self._before)
            rank_zero_info("\nStopping after this step; press Ctrl-C again to abort at once.")

        self._before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if any process was asked to.

        Lightning validates before it stops; where none is due, the resumed run would show one too many.
        """
        self.interrupted = any(of_all_ranks([self._asked]))
        trainer.should_stop = trainer.should_stop or self.interrupted
        number = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
        every = trainer.val_check_batch
        if self.interrupted and (not every or (number + 1) % every):
            trainer.limit_val_batches = 0

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
            if hasattr(callback, "resume_step"):
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
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where the run starts or goes on."""
        self._seen = trainer.global_step

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
        before, self._seen = self._seen, trainer.global_step
        if is_due(before, self._seen, self.every_n_steps):
            Console().print(completion_table(rows[: self.num], trainer.global_step))


def completion_rows(rollout: Rollout) -> list[dict[str, Any]]:
    """One plain row a fresh completion: what was asked, text, each reward, their sum, advantage, length and so on.

    A reward that was not valid is None, so that every line is JSON.
    """
    experience = rollout.experience
    return [
        {
            **_asked(rollout.posed.prompts[int(experience.prompt[i])]),
            "completion": completion.text,
            **{f"reward/{name}": _plain(part[i]) for name, part in rollout.parts.items()},
            "reward": round(float(experience.rewards[i]), 6),
            "advantage": round(float(rollout.estimates[i]), 6),
            "length": len(completion.ids),
            "finished": completion.finished,
            "hinted": completion.hinted,
            **_drawn(completion),
        }
        for i, completion in enumerate(rollout.completions)
    ]


def _asked(prompt: Prompt) -> dict[str, Any]:
    """All that a reward needs to know of a prompt but its clips."""
    said = [message["content"] for message in prompt.messages if message["role"] == "user"]
    parts = said[-1] if said else ""
    texts = [parts] if isinstance(parts, str) else [part["text"] for part in parts if part["type"] == "text"]
    return {
        "prompt": prompt.key,
        "question": "\n".join(texts),
        "gold": prompt.answer,
        "problem_type": prompt.problem_type,
        "options": list(prompt.options),
    }


def _plain(value: Tensor) -> float | None:
    return None if value.isnan() else round(float(value), 6)


def _drawn(completion: Completion) -> dict[str, Any]:
    """Sum of the log-probs, and where some tokens could not be drawn, that among the others, with the settings."""
    row = {"logprob": round(float(completion.behaviour_logprobs.sum()), 4)}
    if completion.truncated_logprobs is None or completion.sampling is None:
        return row
    truncated = round(float(completion.truncated_logprobs.sum()), 4)
    return {**row, "truncated_logprob": truncated, "sampling": asdict(completion.sampling)}


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
        table.add_row(*texts, *("" if row[name] is None else f"{row[name]:.2f}" for name in numbers))
    return table
