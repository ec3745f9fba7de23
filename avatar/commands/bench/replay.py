"""``avatar bench replay``: what the replay buffer costs on this machine."""

from __future__ import annotations

import json
import statistics
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from avatar.commands.bar import LateBar
from avatar.commands.bench.memory import resident_mb
from avatar.errors import ConfigError
from avatar.replay import Entry, Replay, ReplayBuffer, RewardTracker

GENERATIONS = 4  # completions of a visit, and of a draw
DRAWS = 2_000
TARGETS = {"memory_mb": 64.0, "add_us": 200.0, "draw_any_us": 200.0, "draw_prompt_us": 200.0}


@dataclass(frozen=True)
class ReplayOptions:
    """What ``avatar bench replay`` is asked to measure.

    Attributes:
        capacity: Completions that the buffer holds.
        tokens: Length of each completion.
        prompts: How many prompts they are of; at least 4, so that every tier has one.
        json: File to write the figures to.

    Raises:
        ConfigError: A value makes no sense.
    """

    capacity: int = 10_000
    tokens: int = 256
    prompts: int = 2_500
    json: str | None = None

    def __post_init__(self) -> None:
        if self.json and not Path(self.json).parent.is_dir():
            raise ConfigError(f"--json {self.json}: there is no folder {Path(self.json).parent}")


def bench_replay(options: ReplayOptions) -> None:
    """Fill a replay buffer the way training does; print its memory, time per call and checkpoint."""
    figures = measure_replay(options.capacity, options.tokens, options.prompts)
    Console().print(replay_table(figures))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


class Traffic:
    """Visits of prompts as training makes them: rewards of four completions, then tiers, then the completions.

    Args:
        capacity: Of the buffer.
        tokens: Length of each completion.
        prompts: How many there are, each with a chance of its own of being answered right.

    Attributes:
        tracker: What the prompts have earned.
        buffer: What was written for them.
    """

    def __init__(self, capacity: int, tokens: int, prompts: int) -> None:
        if tokens < 1:
            raise ConfigError(f"--tokens must be at least 1, got {tokens}")
        if prompts < 4:
            raise ConfigError(f"--prompts must be at least 4, so that every tier has one, got {prompts}")
        self._rng, self._tokens, self._step = Random(0), tokens, 0
        self._chances = {f"bench/{i:06d}": self._rng.random() for i in range(prompts)}
        self._round: list[str] = []
        self._ids = torch.randint(150_000, (tokens + 1000,), dtype=torch.int32)
        self._logprobs = -torch.rand(tokens + 1000)
        self.tracker = RewardTracker()
        self.buffer = ReplayBuffer(Replay(capacity=capacity, minimum=0), self.tracker)

    def visit(self, settled: bool = False) -> tuple[int, list[int]]:
        """One prompt, in a new order every time round.

        Args:
            settled: Its score moves no longer, so that tiers come to rest.

        Returns:
            Nanoseconds of ``refile``, and of each ``add``.
        """
        if not self._round:
            self._round = self._rng.sample(list(self._chances), len(self._chances))
        key, self._step = self._round.pop(), self._step + 1
        chance, earned = self._chances[key], [self._rng.random() < self._chances[key] for _ in range(GENERATIONS)]
        rewards = [0.5 * (self._rng.random() < 0.95) + 0.5 * right for right in earned]
        recorded = [chance] * self.tracker.window if settled else rewards
        self.tracker.record(key, recorded, step=self._step, earned=any(earned))
        return _nanoseconds(self.buffer.refile, [key]), [
            _nanoseconds(self.buffer.add, self._entry(key, reward)) for reward in rewards
        ]

    def _entry(self, key: str, reward: float) -> Entry:
        start = self._rng.randrange(1000)
        ids, behaviour, reference = (
            row[start : start + self._tokens].clone() for row in (self._ids, self._logprobs, self._logprobs)
        )
        return Entry(key, ids, behaviour, reference, reward, False, self._step, priority=reward - 0.5)


def _nanoseconds(function: Callable[..., object], *args: Any) -> int:
    began = time.perf_counter_ns()
    function(*args)
    return time.perf_counter_ns() - began


@dataclass(frozen=True)
class Filled:
    """A full buffer, and how long filling it took.

    Attributes:
        traffic: Holds it.
        refile_ns: Of each ``refile``.
        add_ns: Of each ``add``, with its share of its visit's ``refile``.
    """

    traffic: Traffic
    refile_ns: array[float]
    add_ns: array[float]


def fill(capacity: int, tokens: int, prompts: int, advance: Callable[[], object] = lambda: None) -> Filled:
    """As many completions as fit; as many again, timed, that push older ones out; then on until every tier is full."""
    filled, visits = Filled(Traffic(capacity, tokens, prompts), array("d"), array("d")), -(-capacity // GENERATIONS)
    for i in range(2 * visits):
        refile, adds = filled.traffic.visit()
        if i >= visits:
            filled.refile_ns.append(refile)
            filled.add_ns.extend(add + refile / len(adds) for add in adds)
        advance()
    while len(filled.traffic.buffer) < capacity:
        filled.traffic.visit(settled=True)
    return filled


def measure_replay(capacity: int, tokens: int, prompts: int) -> dict[str, Any]:
    """All figures by name: times are median and 99th percentile in microseconds, MB are 10^6 bytes."""
    with LateBar("replay", 2 * -(-capacity // GENERATIONS) + 2 * DRAWS) as bar:
        _checkpoint(fill(100, tokens, 4).traffic)  # what is made once, at the first use, belongs to no figure
        before = resident_mb()
        filled = fill(capacity, tokens, prompts, bar.advance)
        memory = resident_mb() - before
        return {
            "capacity": capacity,
            "tokens": tokens,
            "prompts": prompts,
            "completions": len(filled.traffic.buffer),
            "memory_mb": memory,
            "add_us": _spread(filled.add_ns),
            "refile_us": _spread(filled.refile_ns),
            "draw_any_us": _spread(_draw_times(filled.traffic, bar, own=False)),
            "draw_prompt_us": _spread(_draw_times(filled.traffic, bar, own=True)),
            **_checkpoint(filled.traffic),
            "targets": TARGETS,
        }


def _draw_times(traffic: Traffic, bar: LateBar, own: bool) -> list[int]:
    rng, times = Random(1), []
    keys = sorted({entry.key for entry in traffic.buffer})
    for _ in range(DRAWS):
        times.append(_nanoseconds(traffic.buffer.draw, GENERATIONS, rng, rng.choice(keys) if own else None))
        bar.advance()
    return times


def _spread(nanoseconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(nanoseconds)
    return {"median": statistics.median(ordered) / 1e3, "p99": ordered[int(0.99 * (len(ordered) - 1))] / 1e3}


def _checkpoint(traffic: Traffic) -> dict[str, float]:
    """Size, and times to write and to take up again, of buffer and tracker together."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "replay.pt"
        began = time.perf_counter()
        torch.save({"tracker": traffic.tracker.state_dict(), "buffer": traffic.buffer.state_dict()}, path)
        saved = time.perf_counter()
        state = torch.load(path, weights_only=True)
        tracker = RewardTracker()
        tracker.load_state_dict(state["tracker"])
        ReplayBuffer(traffic.buffer.settings, tracker).load_state_dict(state["buffer"])
        loaded = time.perf_counter()
        size = path.stat().st_size / 1e6
    return {"checkpoint_mb": size, "save_ms": (saved - began) * 1e3, "load_ms": (loaded - saved) * 1e3}


def replay_table(figures: dict[str, Any]) -> Table:
    """The figures of :func:`measure_replay` beside their targets."""
    title = "replay buffer: {capacity:,} completions of {tokens} tokens, {prompts:,} prompts".format(**figures)
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("median", "99 %", "target"):
        table.add_column(name, justify="right")
    table.add_row("completions stored", f"{figures['completions']:,}", "", "")
    rows = {
        "memory, MB": "memory_mb",
        "add, with its share of refile, us": "add_us",
        "refile, one visit, us": "refile_us",
        f"draw {GENERATIONS}, any prompt, us": "draw_any_us",
        f"draw {GENERATIONS}, own prompt, us": "draw_prompt_us",
        "checkpoint, MB": "checkpoint_mb",
        "save, ms": "save_ms",
        "load, ms": "load_ms",
    }
    for label, name in rows.items():
        value, target = figures[name], figures["targets"].get(name)
        spread = value if isinstance(value, dict) else {"median": value}
        cells = [f"{spread[part]:.1f}" if part in spread else "" for part in ("median", "p99")]
        table.add_row(label, *cells, f"{target:g}" if target else "")
    return table
