"""Our side of ``avatar bench curves``: an RLModule with GRPO in a Lightning Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from avatar.advantages import GRPO
from avatar.commands.bench.curve_course import (
    BETA,
    CLIP,
    EPS,
    MAX_GRAD_NORM,
    MAX_NEW_TOKENS,
    TEMPERATURE,
    TOP_K,
    Course,
    Watch,
    rewards,
)
from avatar.losses import Objective
from avatar.modules import Policy, RLModule
from avatar.types import Prompt


class Batches:
    """A batch of one prompt for each step; it has a length, or Lightning would ask for a batch too early."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = prompts

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[list[Prompt]]:
        return ([prompt] for prompt in self._prompts)


class Watching(Callback):
    """Tells the watch when a step begins and ends."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """The first exam."""
        self._watch.start(pl_module.policy.adapter.model.state_dict())

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Begin."""
        self._watch.begin()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """End."""
        self._watch.end(pl_module.policy.adapter.model.state_dict)


def build_module(course: Course) -> RLModule:
    """What is trained, as configs/micro/text_grpo.yaml has it.

    The dual clip is off, since TRL has none; on completions that the policy has just written it changes nothing.
    """
    return RLModule(
        policy=Policy(course.model, "float32"),
        advantage=GRPO(eps=EPS),
        rewards=rewards(),
        objective=Objective(beta=BETA, clip_eps_low=CLIP, clip_eps_high=CLIP, dual_clip=None, aggregation="completion"),
        num_generations=course.num_generations,
        temperature=TEMPERATURE,
        top_k=TOP_K,
        max_new_tokens=MAX_NEW_TOKENS,
        max_grad_norm=MAX_GRAD_NORM,
        optimizer=partial(torch.optim.AdamW, lr=course.lr, weight_decay=0.0),
    )


def train_ours(course: Course, callback: Callback, folder: str) -> None:
    """Train, one step a prompt.

    Args:
        course: On what.
        callback: Sees each step.
        folder: For what Lightning may write.
    """
    seed_everything(course.seed, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=len(course.prompts),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
        default_root_dir=folder,
    )
    trainer.fit(build_module(course), Batches(course.prompts))
