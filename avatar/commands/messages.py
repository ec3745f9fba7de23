"""Turns what the argument parser says into what a user can act on: the argument, and the nearest known name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import torch

from avatar.advantages import ADVANTAGES, SHAPES
from avatar.benchmarks import BenchmarkData
from avatar.chat import ChatClient
from avatar.data.module import ShardData
from avatar.data.plan import Phase
from avatar.losses import Objective
from avatar.models.lora import LoRA
from avatar.modules import EvaluationModule, Policy, Reference, RLModule, SFTModule
from avatar.modules.perception import Perception
from avatar.registry import Registry, UnknownNameError, did_you_mean
from avatar.replay import HINTS, Replay
from avatar.rewards import REWARDS
from avatar.rollouts import ENGINES

MODULES = (RLModule, SFTModule, EvaluationModule)
DATA_MODULES = (ShardData, BenchmarkData)
SECTIONS = {"model.objective": Objective, "model.replay": Replay, "model.policy.lora": LoRA}  # classes without a name
NESTED = {"model.rewards.client": ChatClient}  # likewise, in a list
WRITTEN = "{class_path: NAME, init_args: {argument: value}}"
MOVED = ("min_pixels", "max_pixels")  # from the policy to the data
REGISTRIES: dict[str, Registry[Any]] = {
    "advantage": ADVANTAGES,
    "base": ADVANTAGES,
    "shape": SHAPES,
    "rewards": REWARDS,
    "hints": HINTS,
    "engine": ENGINES,
}


def names_for(key: str) -> list[str] | None:
    """Class names that the last part of an argument takes, or None where any class may stand."""
    last = key.rsplit(".", 1)[-1].rstrip("+")
    if last in REGISTRIES:
        return list(REGISTRIES[last])
    classes: dict[str, Iterable[type]] = {
        "model": MODULES,
        "data": DATA_MODULES,
        "policy": (Policy,),
        "reference": (Reference,),
        "perception": (Perception,),
        "optimizer": _subclasses(torch.optim, torch.optim.Optimizer),
        "lr_scheduler": _subclasses(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler),
    }
    return sorted({c.__name__ for c in classes[last]}) if last in classes else None


def argument_names() -> list[str]:
    """Every argument of every class that a config may name."""
    entries = [registry[name] for registry in REGISTRIES.values() for name in registry]
    sections = [*SECTIONS.values(), *NESTED.values()]
    classes = [*MODULES, *DATA_MODULES, Policy, Reference, Perception, Phase, *sections, *entries]
    found = {name for c in classes for name in inspect.signature(c).parameters}
    return sorted(found - {"self", "args", "kwargs"})


def explain(message: str, options: Iterable[str] = ()) -> str:
    """A few lines in the place of the parser's pages.

    Args:
        message: What jsonargparse says.
        options: Option strings of the command, to offer the nearest of.
    """
    key = _key(message)
    if match := re.search(r"^\s*(?:- )?(unknown .*|--[\w.]+ is a section, .*)$", message, re.MULTILINE):
        return match[1]  # a nested parser has found it
    if match := re.search(r"^\s*(?:- )?--([\w.]+): (expected .*)$", message, re.MULTILINE):
        return f"--{key.split('.')[0]}.{match[1]}: {match[2]}"
    if match := re.search(r"^\s*(?:- )?--([\w.]+) (is missing: .*)$", message, re.MULTILINE):
        return f"--{key.split('.')[0]}.{match[1]} {match[2]}"
    if match := re.search(r"[Uu]nrecognized arguments: (\S+)", message):
        name = match[1].split("=")[0]
        return f"unknown argument {name}.{_belongs(name.rsplit('.', 1)[-1]) or did_you_mean(name, list(options))}"
    if match := re.search(r"Option '([^']+)' is not accepted|[Kk]ey ['\"]([\w.]+)['\"] is not expected", message):
        name = (match[1] or match[2]).rsplit(".", 1)[-1]
        where = f" of --{key}" if key else ""
        help_ = _moved(name) or _belongs(name) or _owners(name) or did_you_mean(name, argument_names())
        return f"unknown argument {name!r}{where}.{help_}"
    if match := re.search(r"does not accept (?:option|nested key) ['\"]([\w.]+)['\"]", message):
        name = match[1].rsplit(".", 1)[-1]
        near = _moved(name) or did_you_mean(match[1], [option.removeprefix("--") for option in options])
        return f"unknown argument {match[1]!r}.{near}"
    if found := _no_class(key, message):
        return found
    if match := re.search(r"following arguments are required: (\S+)", message):
        return f"--{match[1].split('.', 1)[-1]} is missing: give it, or --config FILE or --ckpt_path FILE that holds it"
    if match := re.search(
        r"Expected an? (?:typing\.Literal\[(.*?)\]|(?:<class ')?(\w+)(?:'>)?)\. Got value: (.*)", message
    ):
        return f"--{key}: expected {match[2] or match[1].replace(', ', ' or ')}, got {match[3]!r}"
    return _shorten(message)


def _moved(name: str) -> str:
    """Where an argument has gone that a former version had at the policy, or an empty string."""
    return f" model.policy.{name} is now data.{name}: the data says how large frames are" if name in MOVED else ""


def _belongs(name: str) -> str:
    """Where an argument goes that was given to the wrong section, or an empty string."""
    for section, cls in SECTIONS.items():
        if name in inspect.signature(cls).parameters:
            return f" It belongs to --{section}.{name}"
    return ""


def _owners(name: str) -> str:
    """Which classes have an argument that the one at hand has not, or an empty string."""
    classes = [registry[entry] for registry in REGISTRIES.values() for entry in registry] + [*MODULES, *DATA_MODULES]
    owners = sorted({c.__name__ for c in classes if name in inspect.signature(c).parameters})
    return f" {' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it" if owners else ""


def _no_class(key: str, message: str) -> str:
    """What is wrong with the class that an argument names, or an empty string."""
    if match := re.search(
        r"class_path ['\"](\w+\.[\w.]+)['\"]:\s+(No module named .*|module .* has no attribute .*)", message
    ):
        near = did_you_mean(match[1].rsplit(".", 1)[-1], names_for(key) or [])
        return f"unknown {_kind(key)} {match[1]!r}: {match[2].strip()}.{near} Is its folder on PYTHONPATH?"
    if match := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", message):
        return f"unknown {_kind(key)} {match[1]!r}: it is there, but it is no {match[2]}"
    if match := re.search(
        r"(?:Expected a dot import path string|Unexpected import path format): (\S+)|No module named ['\"](\S+)['\"]",
        message,
    ):
        return _unknown_class(key, match[1] or match[2])
    return ""


def _unknown_class(key: str, name: str) -> str:
    last = key.rsplit(".", 1)[-1]
    for section, cls in {**SECTIONS, **NESTED}.items():
        if section.endswith(f".{last}"):
            fields = ", ".join(f"--{section}.{field}" for field in list(inspect.signature(cls).parameters)[:3])
            return f"--{section} is a section, got {name!r}: give {fields} ..."
    known = names_for(key)
    if known is None:
        return f"unknown {_kind(key)}: {name!r}; give a class name or a full class_path"
    return str(UnknownNameError(_kind(key), name, known))


def _kind(key: str) -> str:
    """What a class at this argument is called: ``reward``, ``optimizer class``."""
    last = key.rsplit(".", 1)[-1]
    return REGISTRIES[last].kind if last in REGISTRIES else f"{last} class"


def _key(message: str) -> str:
    """``model.advantage`` out of nested ``Parser key "..."`` lines."""
    parts = re.findall(r"Parser key \"([^\"]+)\"", message)
    nested = re.search(r"NestedArg\(key='([^']+)'", message)
    if nested and nested[1] not in parts:
        parts.append(nested[1])
    return ".".join(parts)


def _shorten(message: str, most: int = 12) -> str:
    if "instantiatable class" in message and "is abstract" in message:
        return f"--{_key(message)}: a class is named by class_path, its arguments stand under init_args: {WRITTEN}"
    lines = [line[:200] for line in message.splitlines() if line.strip() and "NoneType" not in line]
    return "\n".join(lines[:most])


def _subclasses(module: object, base: type) -> list[type]:
    return [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base) and c is not base]
