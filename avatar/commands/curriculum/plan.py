"""What each stage will do, settled before any compute: its arguments, its objects, the folders it reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule

from avatar.commands.curriculum.recipe import Recipe, Stage, check_there
from avatar.commands.parsed import MODEL_PATH, ParsedCLI, as_arguments, flatten, folders_of, naming, num_devices
from avatar.errors import ConfigError
from avatar.modules import RLModule
from avatar.types import Prompt

# Where a run lies and how it is shown, and what it goes on from: a stage that differs in these alone is the same.
PLACES = ("trainer.default_root_dir", "trainer.enable_progress_bar", "ckpt_path", "config")


@dataclass(frozen=True)
class Planned:
    """One stage, ready to be started.

    Attributes:
        name: Of the stage.
        title: What tables call it.
        config: The file.
        folder: Its run folder.
        args: Of ``avatar fit``.
        settings: All arguments and their values, dotted, but for those that only say where things lie.
        start: The model that it starts from: a folder, or a hub id.
        data: Folders and addresses that it trains and validates on.
        devices: How many it trains on.
        trainer: Arguments of the Trainer.
        num_threads: CPU threads, if the config sets them.
        model: The module, nothing loaded.
        datamodule: Its data, not opened.
    """

    name: str
    title: str
    config: str
    folder: Path
    args: list[str]
    settings: dict[str, Any]
    start: str
    data: list[str]
    devices: int
    trainer: Namespace
    num_threads: int | None
    model: LightningModule
    datamodule: LightningDataModule

    @property
    def exported(self) -> Path:
        """The model that the next stage starts from: that of the last step."""
        return self.folder / "model"

    @property
    def checkpoint(self) -> Path:
        """The last one: the same weights."""
        return self.folder / "checkpoints" / "last.ckpt"


def plan(recipe: Recipe, made: list[str]) -> list[Planned]:
    """Parse every stage's config with its overrides, and make its objects.

    Args:
        recipe: Checked.
        made: Folders that the data commands will make.

    Raises:
        ConfigError: A config is wrong, or data is not there and will not be made.
    """
    planned: list[Planned] = []
    for stage in recipe.stages:
        before = planned[-1] if planned else None
        planned.append(_plan_stage(stage, recipe, before))
        check_there(f"stage {stage.name}", planned[-1].data, made)
    _check_start(planned[0], made)
    return planned


def check_machine(stages: list[Planned]) -> None:
    """Refuse what this machine cannot run.

    Raises:
        ConfigError: A stage wants a GPU and there is none, or several machines.
    """
    for stage in stages:
        if stage.trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            raise ConfigError(
                f"stage {stage.name}: its config says trainer.accelerator {stage.trainer.accelerator}, but there is no "
                "CUDA device here; --dry_run shows the plan without one"
            )
        if int(stage.trainer.num_nodes) > 1:
            raise ConfigError(
                f"stage {stage.name}: trainer.num_nodes is {stage.trainer.num_nodes}, but a curriculum runs on one "
                "machine; on several, start each stage with `avatar fit` under torchrun or SLURM"
            )


def _plan_stage(stage: Stage, recipe: Recipe, before: Planned | None) -> Planned:
    folder = Path(recipe.out) / stage.name
    args = ["fit", f"--config={stage.config}", *as_arguments(stage.overrides or {})]
    if recipe.seed is not None:
        args.append(f"--seed_everything={recipe.seed}")
    args.append(f"--trainer.default_root_dir={folder}")
    if before:
        args.append(f"--model.policy.path={before.exported}")
    with naming(f"stage {stage.name} ({stage.config})"):
        cli = ParsedCLI(args)
    config = cli.config["fit"]
    settings = dict(flatten(json.loads(json.dumps(config.as_dict(), default=str))))
    start = str(settings.get(MODEL_PATH))
    left_out = {*PLACES, MODEL_PATH} if before else {*PLACES}
    return Planned(
        name=stage.name,
        title=stage.title or stage.name,
        config=stage.config,
        folder=folder,
        args=args,
        settings={key: value for key, value in settings.items() if key not in left_out},
        start=start,
        data=sorted(set(folders_of(config.data.as_dict()))),
        devices=num_devices(config.trainer),
        trainer=config.trainer,
        num_threads=config.get("num_threads"),
        model=cli.model,
        datamodule=cli.datamodule,
    )


def rehearse(stage: Planned) -> None:
    """Open the data and try the rewards, as the stage itself will: a judge that is down is told now, not in two days.

    Raises:
        ConfigError: See :meth:`RLModule.rehearse`.
        DataError: The data cannot be read.
    """
    with naming(f"stage {stage.name}"):
        stage.datamodule.setup("fit")
        prompt = stage.datamodule.train_dataset[0]  # type: ignore[attr-defined]
        if isinstance(stage.model, RLModule) and isinstance(prompt, Prompt):
            stage.model.rehearse(prompt)
    stage.datamodule.teardown("fit")


def _check_start(first: Planned, made: list[str]) -> None:
    """A hub id is left to the stage; what can only be a folder must be there or be made."""
    path = Path(first.start)
    is_folder = len(path.parts) != 2 or path.is_absolute() or first.start.startswith(".")
    if is_folder and not path.is_dir() and not any(path.is_relative_to(out) for out in made):
        raise ConfigError(
            f"stage {first.name} starts from {first.start}, which is no folder here, and no command under data makes it"
        )
