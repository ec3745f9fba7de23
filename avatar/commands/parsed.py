"""Configs of training runs, parsed and checked before anything is started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jsonargparse import Namespace

from avatar.cli import users_error
from avatar.commands.train import AvatarCLI
from avatar.errors import ConfigError

MODEL_PATH = "model.init_args.policy.init_args.path"


class ParsedCLI(AvatarCLI):
    """Parses and makes the objects, and starts nothing; without a Trainer, whose accelerator may be elsewhere."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """None."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""


def as_arguments(overrides: dict[str, Any], above: str = "") -> list[str]:
    """``{"model": {"optimizer.lr": 1e-4}}`` as ``--model.optimizer.lr=0.0001``; a class goes with its arguments."""
    args = []
    for key, value in overrides.items():
        if isinstance(value, dict) and value and "class_path" not in value:
            args += as_arguments(value, f"{above}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            args.append(f"--{above}{key}={text}")
    return args


def flatten(tree: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{above}.{key}" if above else str(key))
    elif isinstance(tree, list) and any(isinstance(value, dict | list) for value in tree):
        for i, value in enumerate(tree):
            yield from flatten(value, f"{above}[{i}]")
    else:
        yield above, tree


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put ``what`` before the message of an error that is meant for the user."""
    try:
        yield
    except Exception as error:
        if (cause := users_error(error)) is None:
            raise
        raise ConfigError(f"{what}: {cause}") from error


def folders_of(data: dict[str, Any]) -> Iterator[str]:
    """What a data module reads in training: ``train``, ``val``, and the paths of phases."""
    for key, value in flatten(data.get("init_args") or {}):
        if value and (key in ("train", "val") or (key.startswith("train[") and key.endswith("path"))):
            yield str(value)


def num_devices(trainer: Namespace) -> int:
    """How many devices the arguments of a Trainer ask for on this machine."""
    devices = trainer.devices
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    if str(devices) in ("auto", "-1"):
        return max(1, torch.cuda.device_count()) if trainer.accelerator != "cpu" else 1
    return int(devices)
