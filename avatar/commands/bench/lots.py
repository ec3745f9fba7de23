"""Clips of one kind, in memory and in a shard, and the CPU time that each way takes for them."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import psutil

from avatar.commands.bar import LateBar
from avatar.commands.bench.ways import RULE, VIDEO, File, Seen, Way, by_us, check_same
from avatar.data.dataset import PromptDataset
from avatar.data.loader import PromptLoader
from avatar.data.plan import plan_in_order
from avatar.data.prompts import PromptStyle
from avatar.data.schema import Record
from avatar.data.shards import write_shards
from avatar.types import Prompt

BATCH = 4  # prompts of a step
PIPELINE = "pipeline"


class Pipeline:
    """Files in a shard, and the loader that makes prompts of them with one worker and no store of decoded clips.

    Args:
        folder: Where to write the shard.
        files: One sample each, with a question.
    """

    def __init__(self, folder: Path, files: Iterable[File]) -> None:
        samples = [
            (f"clip-{i:03d}", file.payload, [Record("what ?", "this", media=[VIDEO], use_audio_in_video=file.sound)])
            for i, file in enumerate(files)
        ]
        write_shards(folder, samples)
        self.dataset = PromptDataset([folder], PromptStyle(), RULE, cache_mb=0)
        plans = partial(plan_in_order, len(samples), BATCH)
        self._loader = PromptLoader(self.dataset, plans, on_error="raise", resumable=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop the worker."""
        self.dataset.decoders.close()

    def prompts(self) -> Iterator[Prompt]:
        """Of all files, in order; nothing is decoded before it is asked for, or after."""
        for batch in self._loader:
            yield from batch


Run = Callable[[], Iterable[Any]]  # a way, as something that gives what it sees of each file in turn


def make_runs(files: Sequence[File], pipeline: Pipeline, ways: Mapping[str, Way]) -> dict[str, Run]:
    """The pipeline after the first way, which is ours, and then the others."""

    def through_pipeline() -> Iterator[Seen]:
        for prompt in pipeline.prompts():
            [clip] = prompt.clips
            assert clip.frames is not None
            yield Seen(clip.frames, clip.audio)

    first, *others = ((name, partial(map, way, files)) for name, way in ways.items())
    return dict([first, (PIPELINE, through_pipeline), *others])


def check_runs(files: Sequence[File], runs: Mapping[str, Run]) -> None:
    """See that all ways give the same frames and the same sound of each file; what starts up has started then.

    Raises:
        BenchError: One does not.
    """
    for name, run in runs.items():
        for file, seen in zip(files, run(), strict=True):
            check_same(name, by_us(file), seen)


def measure_runs(runs: Mapping[str, Run], num_files: int, rounds: int, bar: LateBar) -> dict[str, float]:
    """Clips a CPU second of each way: the median over the rounds, in which they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(cpu_seconds_of(run) / num_files)
            bar.advance()
    return {name: 1 / statistics.median(seconds) for name, seconds in taken.items()}


def cpu_seconds_of(run: Run) -> float:
    """CPU seconds that this process with all its threads, and the processes it has started, spend on a run."""
    pids = [child.pid for child in psutil.Process().children(recursive=True)]
    began = time.process_time() + sum(map(_cpu_seconds, pids))
    deque(run(), maxlen=0)
    return time.process_time() + sum(map(_cpu_seconds, pids)) - began


def _cpu_seconds(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | 2)  # on Linux, see clock_getcpuclockid(3); psutil's ticks are of 10 ms
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
