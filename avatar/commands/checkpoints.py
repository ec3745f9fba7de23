"""Which file ``--ckpt_path`` means."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from avatar.commands.argv import find_option, without_option
from avatar.errors import CheckpointError
from avatar.modules.loading import find_model

NAMED_CHECKPOINTS = ("last", "best")


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
        if (found := newest_checkpoint(given)) is None:
            raise CheckpointError(f"--ckpt_path {given}: no {given}.ckpt under runs/; give the file, or --config")
        print(f"--ckpt_path {given} is {found}", file=sys.stderr)
        return found
    if not Path(given).is_file():
        raise CheckpointError(f"--ckpt_path: no such file: {given}")
    return Path(given)


def newest_checkpoint(name: str) -> Path | None:
    """The ``last`` or ``best`` checkpoint under ``runs/`` that was written last."""
    return max(Path("runs").glob(f"**/{name}.ckpt"), key=lambda path: path.stat().st_mtime, default=None)


def point_at_model(args: Sequence[str]) -> list[str]:
    """Arguments whose ``--ckpt_path`` is a file: a run folder becomes its checkpoint, a model or a hub id the policy.

    Raises:
        CheckpointError: There is nothing of that name.
    """
    given = find_option(args, "--ckpt_path")
    if given is None or given in NAMED_CHECKPOINTS or given.endswith(".ckpt") or Path(given).is_file():
        return list(args)
    found = find_model(given)
    kept = without_option(args, "--ckpt_path")
    if Path(found).is_file():
        return [*kept, f"--ckpt_path={found}"]
    return [*kept, "--model.policy=Policy", f"--model.policy.path={found}"]
