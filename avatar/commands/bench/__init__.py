"""``avatar bench``: what parts of the framework cost on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from avatar.commands.bench.options import StepOptions
from avatar.commands.bench.replay import bench_replay
from avatar.commands.bench.step import bench_step


def main(argv: Sequence[str]) -> int:
    """Run ``avatar bench ...``."""
    parser = ArgumentParser(prog="avatar bench", description="Measure what parts of the framework cost here.")
    commands = parser.add_subcommands(required=True)
    functions: dict[str, Callable[..., Any]] = {"replay": bench_replay, "step": _step}
    for name in functions:
        sub = ArgumentParser()
        if name == "step":
            sub.add_class_arguments(StepOptions, as_group=False)
        else:
            sub.add_function_arguments(functions[name])
        sub.description = (functions[name].__doc__ or "").split("\n")[0]
        commands.add_subcommand(name, sub, help=sub.description)
    config = parser.parse_args(list(argv[1:]))
    functions[config.subcommand](**config[config.subcommand].as_dict())
    return 0


def _step(**options: Any) -> None:
    """Time one training step and its peak memory, beside TRL's where that is installed."""
    bench_step(StepOptions(**options))
