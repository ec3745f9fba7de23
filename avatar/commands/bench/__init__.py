"""``avatar bench``: what parts of the framework cost on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from avatar.commands.bench.answers import AnswerOptions, bench_answers
from avatar.commands.bench.curves import CurveOptions, bench_curves
from avatar.commands.bench.data import DataOptions, bench_data
from avatar.commands.bench.options import StepOptions
from avatar.commands.bench.replay import ReplayOptions, bench_replay
from avatar.commands.bench.rewards import RewardOptions, bench_rewards
from avatar.commands.bench.step import bench_step

# name: (its options, what is called with them)
BENCHES: dict[str, tuple[type, Callable[[Any], None]]] = {
    "answers": (AnswerOptions, bench_answers),
    "curves": (CurveOptions, bench_curves),
    "data": (DataOptions, bench_data),
    "replay": (ReplayOptions, bench_replay),
    "rewards": (RewardOptions, bench_rewards),
    "step": (StepOptions, bench_step),
}


def main(argv: Sequence[str]) -> int:
    """Run ``avatar bench ...``."""
    parser = ArgumentParser(prog="avatar bench", description="Measure what parts of the framework cost here.")
    commands = parser.add_subcommands(required=True)
    for name, (options, bench) in BENCHES.items():
        sub = ArgumentParser(description=(bench.__doc__ or "").split("\n")[0])
        sub.add_class_arguments(options, as_group=False)
        commands.add_subcommand(name, sub, help=sub.description)
    config = parser.parse_args(list(argv[1:]))
    options, bench = BENCHES[config.subcommand]
    bench(options(**config[config.subcommand].as_dict()))
    return 0
