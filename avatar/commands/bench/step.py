"""``avatar bench step``: one training step of ours, and of TRL's GRPOTrainer on the same model, turn by turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, Self

import torch
from rich.console import Console
from rich.table import Table

from avatar.commands.bar import LateBar
from avatar.commands.bench.errors import BenchError
from avatar.commands.bench.job import Job, write_job
from avatar.commands.bench.options import StepOptions

TAIL = 12  # lines of a dead worker's stderr that are shown
ROWS = {
    "one step, s": "step_s",
    "  encode the prompt": "encode_s",
    "  generate": "generate_s",
    "  reference": "reference_s",
    "  reward": "reward_s",
    "  replay": "replay_s",
    "  update, and all else": "update_s",
    "CPU seconds of a step": "step_cpu_s",
    "memory over the models, MB": "memory_over_baseline_mb",
}


def bench_step(options: StepOptions) -> None:
    """Time one training step and its peak memory, beside TRL's where that is installed."""
    with LateBar("steps", (options.warmup + options.steps) * (1 + options.with_peer)) as bar:
        figures = measure_step(options, bar)
    Console().print(step_table(figures))
    if options.peer == "auto" and not options.with_peer:
        print("TRL is not installed, so ours was measured alone: pip install 'avatar-rl[bench]'")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure_step(options: StepOptions, bar: LateBar) -> dict[str, Any]:
    """All figures by name, as ``--json`` writes them."""
    with ExitStack() as stack:
        job = write_job(options, stack.enter_context(TemporaryDirectory()))
        sides = ["ours", "peer"] if options.with_peer else ["ours"]
        workers = [stack.enter_context(Worker(side, job)) for side in sides]
        for _ in range(options.warmup + options.steps):
            for worker in workers:
                worker.step()
                bar.advance()
        for worker in workers:
            check_tokens(worker, job)
        results = [summary(worker, options.warmup) for worker in workers]
    ours, peer = results[0], results[1] if options.with_peer else None
    asked = {name: value for name, value in asdict(options).items() if name not in ("peer", "json")}
    surroundings = {"device": options.resolved_device, "torch": torch.__version__, "threads": workers[0].threads}
    return {**asked, **surroundings, "media_tokens": job.media_tokens, "ours": ours, "peer": peer, **ratios(ours, peer)}


class Worker:
    """One side in a process of its own, which takes one training step at a time.

    Args:
        side: ``ours`` or ``peer``: the file beside this one.
        job: What it is to do.

    Attributes:
        name: What it calls itself.
        threads: That torch uses in it.
        answers: Of the steps so far.
    """

    def __init__(self, side: str, job: Job) -> None:
        self.name, self.threads = side, 0
        self.answers: list[dict[str, Any]] = []
        self._errors = TemporaryFile("w+", errors="replace")  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", f"{__package__}.{side}", job.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=_environment(),
        )

    def __enter__(self) -> Self:
        """Wait until its model is loaded."""
        try:
            ready = self._answer()
        except BaseException:
            self.__exit__()
            raise
        self.name, self.threads = ready["name"], ready["threads"]
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def step(self) -> None:
        """Have it take one step."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, which the answer tells better
        self.answers.append(self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return dict(json.loads(line))
        status = self._process.wait()
        self._errors.seek(0)
        tail = "\n  ".join(self._errors.read().splitlines()[-TAIL:])
        raise BenchError(f"the worker of {self.name} ended with status {status} after {self._num_steps()}:\n  {tail}")

    def _num_steps(self) -> str:
        return f"{len(self.answers)} step{'s' if len(self.answers) != 1 else ''}"


def _environment() -> dict[str, str]:
    """Offline, on the first device alone, and with OpenMP threads that soon sleep, as ``avatar`` itself sets it."""
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    return {"GOMP_SPINCOUNT": "1000", **os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": devices[0]}


def check_tokens(worker: Worker, job: Job) -> None:
    """Refuse figures of something else than was asked for.

    Raises:
        BenchError: A step had other numbers of tokens or completions.
    """
    options = job.options
    replayed = options.replayed if worker.name == "avatar" else 0
    wanted = {"prompt": options.prompt_tokens, "completion": options.completion_tokens}
    wanted |= {"fresh": options.num_generations - replayed}
    if worker.name == "avatar":
        wanted |= job.media_tokens | {"replayed": replayed}
    for answer in worker.answers[options.warmup :]:
        if answer["tokens"] != wanted:
            raise BenchError(f"{worker.name}: a step should have had {wanted}, and had {answer['tokens']}")


def summary(worker: Worker, warmup: int) -> dict[str, Any]:
    """Medians over the timed steps, None for a part that there is not; of memory the peak over all steps."""
    timed = worker.answers[warmup:]
    medians = {
        name: statistics.median([a[name] for a in timed]) if name in timed[0] else None for name in ROWS.values()
    }
    peak = max(answer["memory_over_baseline_mb"] for answer in worker.answers)
    return {"name": worker.name, **medians, "memory_over_baseline_mb": peak, "steps": timed}


def ratios(ours: dict[str, Any], peer: dict[str, Any] | None) -> dict[str, float | None]:
    """How many times as long TRL takes, in time and in CPU seconds, and which share of its memory we need."""
    if peer is None:
        return {"ratio_time": None, "ratio_cpu": None, "ratio_memory": None}
    return {
        "ratio_time": peer["step_s"] / ours["step_s"],
        "ratio_cpu": peer["step_cpu_s"] / ours["step_cpu_s"],
        "ratio_memory": ours["memory_over_baseline_mb"] / peer["memory_over_baseline_mb"],
    }


def step_table(figures: dict[str, Any]) -> Table:
    """The figures of :func:`measure_step`, side by side."""
    sides = [side for side in (figures["ours"], figures["peer"]) if side]
    table = Table(title=_title(figures), caption=_caption(figures), title_justify="left", caption_justify="left")
    table.add_column("")
    for side in sides:
        table.add_column(side["name"], justify="right")
    if figures["peer"]:
        table.add_column("times ours", justify="right")
    for label, name in ROWS.items():
        if any(side[name] is not None for side in sides):
            table.add_row(label, *_cells(sides, name))
    return table


def _cells(sides: Sequence[dict[str, Any]], name: str) -> list[str]:
    digits = 0 if name.endswith("_mb") else 3
    cells = ["" if side[name] is None else f"{side[name]:.{digits}f}" for side in sides]
    if len(sides) == 2 and name not in ("encode_s", "reward_s") and all(side[name] for side in sides):
        cells.append(f"{sides[1][name] / sides[0][name]:.2f}x")
    return cells


def _title(figures: dict[str, Any]) -> str:
    model = "7B" if figures["size"] == "7b" else "hidden {hidden_size}, layers {num_layers}".format(**figures)
    return (
        "one prompt of {prompt_tokens} tokens, {num_generations} completions of {completion_tokens} "
        "({replayed} of ours replayed); {model}, {dtype}, {device}"
    ).format(model=model, **figures)


def _caption(figures: dict[str, Any]) -> str:
    video, audio = figures["media_tokens"]["video"], figures["media_tokens"]["audio"]
    clip = f"{video} of our prompt's tokens are of picture and {audio} of sound, run through the towers in each step"
    return f"{clip}; TRL's prompt is text of the same length." if figures["peer"] else f"{clip}."
