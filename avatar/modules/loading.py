"""A policy from whatever a user has: a checkpoint, a run folder, a model folder or a hub id."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from avatar.errors import CheckpointError, ConfigError
from avatar.modules.policy import Policy
from avatar.registry import did_you_mean

DTYPES = ("auto", "float32", "bfloat16", "float16")
IN_A_RUN = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "best.ckpt", "last.ckpt", "model")  # first come
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_PARTS = (".safetensors", ".json", ".bin", ".jinja")  # of a model folder


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
    checkpoint = _contents(path)
    try:
        stored = checkpoint.get("avatar_model")
        return StoredModel(json.loads(stored) if stored else None, checkpoint.get("avatar_skeleton"))
    except Exception as error:
        raise _unreadable(path, error) from None


def find_model(given: str | Path) -> Path | str:
    """The checkpoint file or the model folder that ``given`` means, or the hub id that it is.

    Of a run folder it is ``best.ckpt``, else ``last.ckpt``, else what was exported to ``model/``.

    Raises:
        CheckpointError: There is no such thing; says what is there that is called much the same.
    """
    path = Path(given)
    if path.is_file():
        if path.suffix in _PARTS:
            raise CheckpointError(f"{path} is a file of a model folder: give the folder, {path.parent}")
        return path
    if path.is_dir():
        return _of_folder(path)
    if _HUB_ID.fullmatch(str(given)) and not path.parent.is_dir():
        return str(given)
    raise CheckpointError(f"no such checkpoint, folder or hub id: {given}{_nearest(path)}")


def load_policy(given: str | Path, dtype: str = "auto", device: str = "auto") -> Policy:
    """The policy in a checkpoint, a run folder, a model folder or on the hub, ready to answer.

    A checkpoint with LoRA holds the low-rank weights alone; the model beside them is loaded from its own path.

    Args:
        given: See :func:`find_model`.
        dtype: Of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for what they were written in.
        device: As torch names it, or ``auto`` for a GPU if there is one.

    Raises:
        CheckpointError: There is no model, it cannot be read, or not all of its weights are there.
        ConfigError: No such dtype, or no such device here.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    place, where = find_model(given), pick_device(device)
    if isinstance(place, Path) and place.is_file():
        policy = _from_checkpoint(place, dtype)
    else:
        policy = Policy(str(place), dtype=dtype)
        policy.configure_model()
    return policy.to(where).eval()


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is the first CUDA GPU, else the CPU.

    Raises:
        ConfigError: torch knows no such device, or it is not in this machine.
    """
    if name == "auto":  # MPS has no float64, which tokens are drawn with
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = shorten(str(error).partition("\n")[0], 80)
        raise ConfigError(f"device {name!r} cannot be used here ({reason}); try auto, cpu, cuda or cuda:1") from None


def _of_folder(path: Path) -> Path:
    if (path / "config.json").is_file():
        return path
    for name in IN_A_RUN:
        if (path / name).is_file() or (path / name / "config.json").is_file():
            return path / name
    below = [str(found) for found in sorted(path.glob("**/*.ckpt"))[:3]]
    hint = f"; below it there is {', '.join(below)}" if below else ""
    raise CheckpointError(f"{path}: neither a model (config.json) nor a run (checkpoints, model) lies here{hint}")


def _nearest(path: Path) -> str:
    """What is called most like the first part of ``path`` that is not there."""
    parent = next(folder for folder in path.absolute().parents if folder.is_dir())
    missing = path.absolute().relative_to(parent).parts[0]
    near = did_you_mean(missing, sorted(entry.name for entry in parent.iterdir()))
    return f"; in {parent} there is no {missing!r}.{near}" if near else ""


def _from_checkpoint(path: Path, dtype: str) -> Policy:
    stored = read_checkpoint(path)
    if not stored.model:
        raise CheckpointError(f"{path}: a checkpoint of another program: it does not say how its model is built")
    policy = _build(stored.model, path)
    policy.skeleton = stored.skeleton
    policy.dtype_name = policy.dtype_name if dtype == "auto" else dtype
    policy.configure_model()
    _fill(policy, _contents(path), path)
    return policy


def _build(model: Mapping[str, Any], path: Path) -> Policy:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--policy", type=Policy)
    try:
        config = parser.parse_object({"policy": model["init_args"]["policy"]})
        policy: Policy = parser.instantiate(config).policy
    except Exception as error:  # whatever a file may hold in the place of arguments
        raise CheckpointError(f"{path}: its policy cannot be rebuilt: {str(error).partition(chr(10))[0]}") from None
    return policy


def _fill(policy: Policy, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Set the weights; what lies beside a LoRA must be what it was trained beside."""
    base = checkpoint.get("rl", {}).get("base")
    if base and policy.base_fingerprint and base != policy.base_fingerprint:
        raise CheckpointError(
            f"{path} holds LoRA weights over the base {base}, but what lies in {policy.path!r} is another model "
            f"({policy.base_fingerprint})"
        )
    weights = checkpoint["state_dict"].items()
    given = {name.removeprefix("policy."): weight for name, weight in weights if name.startswith("policy.")}
    known = policy.state_dict()
    if missing := sorted(name for name in known if policy.is_saved(name) and name not in given):
        raise CheckpointError(f"{path} lacks {len(missing)} weights of the policy, the first is {missing[0]!r}")
    if unknown := sorted(set(given) - set(known)):
        raise CheckpointError(f"{path} holds {len(unknown)} weights that its policy has not, as {unknown[0]!r}")
    try:
        policy.load_state_dict(given, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit: {str(error).splitlines()[1].strip()}") from None


def _contents(path: Path) -> dict[str, Any]:
    try:
        contents: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise _unreadable(path, error) from None
    return contents


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    others = sorted(str(p) for p in path.parent.glob("*.ckpt") if p != path)
    hint = f"; beside it there is {', '.join(others)}" if others else ""
    return CheckpointError(f"{path}: not a readable checkpoint ({reason}){hint}")
