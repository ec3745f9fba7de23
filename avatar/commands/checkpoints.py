"""Which file ``--ckpt_path`` means, and how a checkpoint's model is rebuilt."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from avatar.errors import CheckpointError

NAMED_CHECKPOINTS = ("last", "best")


@dataclass(frozen=True)
class StoredModel:
    """What :class:`ConfigInCheckpoint` put into a checkpoint.

    Attributes:
        model: Class path and arguments; None in a checkpoint of another program.
        skeleton: Configuration and processor as files; None where the weights are those of a LoRA alone, and the model
            beside them is loaded from its own path.
    """

    model: dict[str, Any] | None
    skeleton: dict[str, Tensor] | None


def read_checkpoint(path: Path) -> StoredModel:
    """How to rebuild the model of a checkpoint.

    Raises:
        CheckpointError: The file is no readable checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        stored = checkpoint.get("avatar_model")
        return StoredModel(json.loads(stored) if stored else None, checkpoint.get("avatar_skeleton"))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        others = sorted(str(p) for p in path.parent.glob("*.ckpt") if p != path)
        hint = f"; beside it there is {', '.join(others)}" if others else ""
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}){hint}") from None


def named_checkpoint(name: str, trainer: Namespace) -> Path:
    """``last`` or ``best`` of the run that a config describes.

    Raises:
        CheckpointError: There is none; starting afresh in its place would be a surprise.
    """
    folder = Path(trainer.default_root_dir) / "checkpoints"
    for callback in trainer.callbacks or []:
        if callback.class_path.endswith("RunCheckpoint") and callback.init_args.dirpath:
            folder = Path(callback.init_args.dirpath)
    if not (folder / f"{name}.ckpt").is_file():
        raise CheckpointError(f"--ckpt_path {name}: no {name}.ckpt in {folder}; leave the option out to start afresh")
    return folder / f"{name}.ckpt"


def resolve_checkpoint(given: str | None, subcommand: str, has_config: bool) -> Path | None:
    """The file that ``--ckpt_path`` means; ``last`` and ``best`` without a config are the newest under ``runs/``.

    With a config they are of the run that it describes, see :func:`named_checkpoint`.

    Raises:
        CheckpointError: There is no such file.
    """
    if given is None or (given in NAMED_CHECKPOINTS and has_config):
        return None
    if given in NAMED_CHECKPOINTS:
        found = sorted(Path("runs").glob(f"**/{given}.ckpt"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise CheckpointError(f"--ckpt_path {given}: no {given}.ckpt under runs/; give the file, or --config")
        print(f"--ckpt_path {given} is {found[-1]}", file=sys.stderr)
        return found[-1]
    if not Path(given).is_file():
        raise CheckpointError(f"--ckpt_path: no such file: {given}")
    return Path(given)
