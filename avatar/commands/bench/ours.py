"""Our side of ``avatar bench step``: an RLModule in a Lightning Trainer."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from avatar.advantages import GRPO, Mixed
from avatar.commands.bench.job import LEARNING_RATE, Job, reward_of
from avatar.commands.bench.worker import Gate, start
from avatar.losses import Objective
from avatar.models.lora import LoRA
from avatar.modules.policy import Policy
from avatar.modules.rl import RLModule
from avatar.replay import Replay
from avatar.rewards.base import Reward, Scored
from avatar.types import Completion, Prompt

PARTS = ("encode", "generate", "reference", "reward", "replay")  # the rest of the step is the update


class Spread(Reward):
    """See :func:`reward_of`."""

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """Score N completions."""
        rewards = torch.tensor([reward_of(c.ids.tolist()) for c in completions])
        return Scored(rewards, torch.ones(len(rewards), dtype=torch.bool))


class Prompts:
    """A batch of one prompt for each step; it has a length, or Lightning would ask for a batch too early."""

    def __init__(self, job: Job) -> None:
        self.job, self.num = job, job.options.warmup + job.options.steps

    def __len__(self) -> int:
        return self.num

    def __iter__(self) -> Iterator[list[Prompt]]:
        return ([self.job.prompt(step)] for step in range(self.num))


class OneAtATime(Callback):
    """Waits at the gate before each step."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """What ends a completion is never drawn, and so no completion ends early."""
        adapter = pl_module.policy.adapter
        adapter.media_ids, adapter.stop_ids = torch.cat([adapter.media_ids, adapter.stop_ids]), torch.tensor([-1])

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Wait."""
        self.gate.wait(pl_module.parameters())

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Answer."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = {part: logged[f"time/{part}"] for part in PARTS if f"time/{part}" in logged}
        names = {"prompt": "tokens/prompt", "video": "tokens/video", "audio": "tokens/audio"}
        tokens = {name: logged[key] for name, key in names.items()}
        tokens |= {"completion": logged["completion/length"], "replayed": logged.get("replay/replayed", 0)}
        self.gate.answer(tokens | {"fresh": len(pl_module.rollout.completions)}, seconds)


def build_module(job: Job) -> RLModule:
    """What is trained."""
    options = job.options
    return RLModule(
        policy=Policy(
            path=job.folder,
            dtype=options.dtype,
            lora=LoRA(r=options.lora_r) if options.lora_r else None,
            gradient_checkpointing=options.gradient_checkpointing,
        ),
        advantage=Mixed() if options.replayed else GRPO(),
        rewards=[Spread()],
        objective=Objective(beta=options.beta),
        replay=Replay(num_replayed=options.replayed, minimum=1) if options.replayed else None,
        num_generations=options.num_generations - options.replayed,
        max_new_tokens=options.completion_tokens,
        optimizer=partial(torch.optim.AdamW, lr=LEARNING_RATE, weight_decay=0.0, fused=True),
    )


def main(argv: Sequence[str]) -> None:
    """Train, one step for each line on stdin."""
    job, gate = start("avatar", argv)
    prompts = Prompts(job)
    trainer = Trainer(
        accelerator="gpu" if job.options.resolved_device == "cuda" else "cpu",
        devices=1,
        max_steps=len(prompts),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[OneAtATime(gate)],
        default_root_dir=job.folder,
    )
    trainer.fit(build_module(job), prompts)


if __name__ == "__main__":
    main(sys.argv)
