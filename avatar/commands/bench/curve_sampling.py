"""Both sides on the very same weights: do they draw completions alike?

Each trains at a rate so small that no weight moves, on the same prompts, and what it draws is scored.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from avatar.commands.bench.curve_course import Course
from avatar.commands.bench.curve_figures import difference
from avatar.commands.bench.curve_ours import train_ours
from avatar.commands.bench.curve_parity import Recorder, Trace

STANDSTILL = 1e-30  # far below the last digit of any weight in float32
TIMES = 4  # as many completions of a prompt as in training, so that less is left to chance


def measure_sampling(course: Course, advance: Callable[[], object]) -> dict[str, Any]:
    """Have either side draw completions of the same prompts; see :func:`compare_draws`.

    Args:
        course: With the prompts; its rate is not used, and each prompt gets ``TIMES`` as many completions.
        advance: Called after each prompt of either.
    """
    course = replace(course, lr=STANDSTILL, num_generations=TIMES * course.num_generations)
    ours, peer = Trace(advance), Trace(advance)
    with TemporaryDirectory() as folder:
        train_ours(course, Recorder(ours), folder)
        import_module("avatar.commands.bench.curve_replay").trace_peer(course, peer, folder)
    return compare_draws(ours, peer)


def compare_draws(ours: Trace, peer: Trace) -> dict[str, Any]:
    """Mean reward and length, and ours - TRL's with an interval: prompts are drawn again with replacement.

    Args:
        ours: Ours.
        peer: TRL's, of the same prompts in the same order.
    """
    lengths = [[[float(len(ids)) for ids in group] for group in side.completions] for side in (ours, peer)]
    return {
        "num_completions": sum(map(len, ours.rewards)),
        "reward": _compared(ours.rewards, peer.rewards),
        "length": _compared(*lengths),
    }


def _compared(ours: list[list[float]], peer: list[list[float]]) -> dict[str, Any]:
    """Of [prompts][G] values."""
    means = [[statistics.mean(group) for group in side] for side in (ours, peer)]
    return {
        "avatar": statistics.mean(means[0]),
        "trl": statistics.mean(means[1]),
        "difference": difference(means[0], means[1]),
    }
