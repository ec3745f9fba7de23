"""What a sweep is asked to do: its options, from a plan file and the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from avatar.commands.subcommands import Parser
from avatar.commands.sweep.axes import SEED, Axis, Point, check_axes, parse_axis, split_outside
from avatar.errors import ConfigError
from avatar.registry import did_you_mean

LISTS = ("config", "axis", "set")  # options that may be given several times
SWITCHES = ("--dry_run", "--restart")  # options that may stand alone
DESCRIPTION = """Run every combination of some settings, and compare them in one table. Started again it goes on:
what is finished is not run again, what was cut off goes on from its last checkpoint."""


@dataclass(frozen=True)
class Options:
    """Of ``avatar sweep``.

    Attributes:
        title: What tables and pages are headed by.
        config: Files that every cell starts from; later ones go over earlier ones.
        axis: What is varied, see :func:`parse_axis`.
        set: ``KEY=VALUE`` arguments of ``avatar fit`` that all cells get.
        out: Folder of the sweep.
        over: Axes whose runs are repeats of one another: means are taken over them. None is the seed, if it is an axis.
        baseline: ``NAME=LABEL,...`` of what all else is compared with, run by run.
        targets: Accuracies to reach: how many completions and seconds it took.
        completions: New completions that every cell generates, however many a step; None leaves it to the config.
        validate_every: New completions between two validations; None leaves it to the config.
        best_of: Another sweep, finished: its axes that this one lacks take the value that did best there for what both
            share.
        kept: A small file of finished cells: those in it are not run again, and at the end it holds what has finished.
        jobs: Processes at a time.
        launcher: Where cells run: in processes of this machine, as SLURM jobs (extra ``slurm``), or on Ray (``ray``).
        slurm: ``KEY=VALUE`` parameters of the SLURM jobs, as submitit names them.
        keep_checkpoints: Whether a finished cell keeps its checkpoints and its exported model.
        dry_run: Check all, show the grid, and start nothing.
        restart: Set what lies in ``out`` aside, and begin anew.
    """

    title: str = ""
    config: list[str] = field(default_factory=list)
    axis: list[str] = field(default_factory=list)
    set: list[str] = field(default_factory=list)
    out: str = ""
    over: list[str] | None = None
    baseline: str = ""
    targets: list[float] = field(default_factory=lambda: [0.8, 0.9])
    completions: int | None = None
    validate_every: int | None = None
    best_of: str = ""
    kept: str = ""
    jobs: int = 1
    launcher: Literal["local", "slurm", "ray"] = "local"
    slurm: list[str] = field(default_factory=list)
    keep_checkpoints: bool = True
    dry_run: bool = False
    restart: bool = False

    @property
    def folder(self) -> Path:
        """``out`` as a path."""
        return Path(self.out)


def read_options(args: Sequence[str]) -> Options:
    """Options of a command line, over those of its ``--plan``.

    ``--config`` and ``--set`` add to those of the plan; an ``--axis`` takes the place of the plan's axis of its name.

    Raises:
        ConfigError: An argument is unknown or cannot be read.
    """
    parser = Parser(prog="avatar sweep", description=DESCRIPTION)
    parser.add_argument("--plan", action="config", help="YAML file with any of these options")
    parser.add_class_arguments(Options)
    given, rest = _take_lists(spelt_out(args))
    options = Options(**{k: v for k, v in parser.parse_args(rest).as_dict().items() if k != "plan"})
    merged = {
        "config": [*options.config, *given["config"]],
        "set": [*options.set, *given["set"]],
        "axis": _replace_axes(options.axis, given["axis"]),
    }
    options = Options(**{**options.__dict__, **merged})
    return Options(**{**options.__dict__, "out": options.out or f"runs/sweeps/{_default_name(options)}"})


def spelt_out(args: Sequence[str]) -> list[str]:
    """The command line with ``--dry_run`` as ``--dry_run=true``."""
    after = [*args[1:], "--"]
    return [
        f"{arg}=true" if arg in SWITCHES and then.startswith("--") else arg
        for arg, then in zip(args, after, strict=True)
    ]


def _take_lists(args: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Values of the options that may be repeated, and what is left of the command line."""
    given: dict[str, list[str]] = {name: [] for name in LISTS}
    rest, coming = [], iter(args)
    for arg in coming:
        name, equals, value = arg.removeprefix("--").partition("=")
        if not arg.startswith("--") or name not in LISTS:
            rest.append(arg)
            continue
        if not equals:
            value = next(coming, "")
        if not value:
            raise ConfigError(f"--{name} wants a value")
        given[name].append(value)
    return given, rest


def _replace_axes(planned: Sequence[str], given: Sequence[str]) -> list[str]:
    names = {parse_axis(text).name: text for text in given}
    kept = [names.pop(parse_axis(text).name, text) for text in planned]
    return kept + list(names.values())


def _default_name(options: Options) -> str:
    return Path(options.config[-1]).stem if options.config else "sweep"


@dataclass(frozen=True)
class Sweep:
    """Options that were checked.

    Attributes:
        options: As given.
        axes: What is varied.
        over: Names of the axes that means are taken over.
        baseline: Labels of what all else is compared with; empty for nothing.
    """

    options: Options
    axes: tuple[Axis, ...]
    over: tuple[str, ...]
    baseline: Point

    @property
    def compared(self) -> list[str]:
        """Names of the axes that make the rows of the table."""
        return [axis.name for axis in self.axes if axis.name not in self.over]


def check_options(options: Options) -> Sweep:
    """What the options say, in parts.

    Raises:
        ConfigError: Something does not fit together.
    """
    if not options.config:
        raise ConfigError("give --config FILE: what every cell starts from, for example configs/micro/avatar.yaml")
    for path in options.config:
        if not Path(path).is_file():
            raise ConfigError(f"--config {path}: there is no such file")
    axes = tuple(parse_axis(text) for text in options.axis)
    check_axes(axes)
    _check_numbers(options)
    for text in options.set:
        if "=" not in text:
            raise ConfigError(f"--set {text!r}: wanted KEY=VALUE")
    names = [axis.name for axis in axes]
    over = options.over if options.over is not None else [axis.name for axis in axes if axis.key == SEED]
    for name in over:
        _check_known("--over", name, names)
    return Sweep(options, axes, tuple(over), _baseline(options.baseline, axes, over))


def _check_numbers(options: Options) -> None:
    for name in ("jobs", "completions", "validate_every"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")
    if options.completions and options.validate_every and options.completions % options.validate_every:
        raise ConfigError(
            f"--validate_every {options.validate_every:,} does not divide --completions {options.completions:,}: "
            "the curve would end before the run does"
        )
    if not all(0 < target <= 1 for target in options.targets):
        raise ConfigError(f"--targets are accuracies above 0 and up to 1, got {options.targets}")


def _baseline(text: str, axes: Sequence[Axis], over: Sequence[str]) -> Point:
    point, compared = {}, {axis.name: axis for axis in axes if axis.name not in over}
    for part in split_outside(text) if text else []:
        name, _, label = part.partition("=")
        _check_known("--baseline", name, list(compared))
        _check_known(f"--baseline {name}", label, list(compared[name].labels))
        point[name] = label
    return point


def _check_known(option: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise ConfigError(f"{option}: no {name!r}.{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}")


def as_json(sweep: Sweep, command: Sequence[str], cells: Sequence[str]) -> str:
    """``sweep.json``: what the sweep is, for tables and pages made from its folder."""
    content = {
        "version": 1,
        "title": sweep.options.title or sweep.options.folder.name,
        "command": list(command),
        "axes": [
            {"name": a.name, "key": a.key, "labels": list(a.labels), "values": list(a.values)} for a in sweep.axes
        ],
        "over": list(sweep.over),
        "baseline": sweep.baseline or None,
        "targets": sweep.options.targets,
        "cells": list(cells),
    }
    return json.dumps(content, indent=1) + "\n"
