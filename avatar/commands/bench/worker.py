"""What both workers of ``avatar bench step`` share: one training step for each line on stdin, measured the same way."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from avatar.commands.bench.job import Job
from avatar.commands.bench.memory import PeakMemory


class Gate:
    """Lets one step through for each line read, and answers with what it cost: a line of JSON.

    Whatever else is printed in this process goes to stderr from here on.

    Args:
        name: Of who is measured.
        device: ``cpu`` or ``cuda``.

    Attributes:
        seconds: Of parts of the current step, see :meth:`clock`.
    """

    def __init__(self, name: str, device: str) -> None:
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._name, self._device = name, device
        self.seconds: dict[str, float] = {}
        self._memory: PeakMemory | None = None

    def wait(self, weights: Iterable[Tensor]) -> None:
        """Block until the next step is asked for, and begin to measure. The first call says that all is loaded.

        Args:
            weights: Of all models. They are mapped from their file, so until they are read they are not in memory.
        """
        if self._memory is None:
            for weight in weights:
                weight.detach().sum()
            self._memory = PeakMemory(self._device)
            self._say({"name": self._name, "threads": torch.get_num_threads()})
        if not sys.stdin.readline():
            sys.exit("nobody asks for steps any more")
        self.seconds = {}
        self._memory.__enter__()
        self._began = time.perf_counter(), time.process_time()

    def answer(self, tokens: dict[str, Any], seconds: dict[str, float] | None = None) -> None:
        """The step is over.

        Args:
            tokens: What it was of, so that it can be checked.
            seconds: Of its parts, in the place of those of :meth:`clock`.
        """
        assert self._memory is not None
        self._synchronize()
        step_s, cpu_s = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self._memory.__exit__()
        parts = self.seconds if seconds is None else seconds
        self._say(
            {
                "step_s": step_s,
                "step_cpu_s": cpu_s,
                **{f"{name}_s": value for name, value in parts.items()},
                "update_s": step_s - sum(parts.values()),
                "memory_over_baseline_mb": self._memory.over_baseline_mb,
                "tokens": tokens,
            }
        )

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Time a part of the step."""
        began = time.perf_counter()
        yield
        self._synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def _synchronize(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _say(self, what: dict[str, Any]) -> None:
        print(json.dumps(what), file=self._answers, flush=True)


def start(name: str, argv: Sequence[str]) -> tuple[Job, Gate]:
    """What is to be done, and the gate that it waits at."""
    job = Job.from_json(argv[1])
    torch.manual_seed(0)
    if job.options.threads:
        torch.set_num_threads(job.options.threads)
    return job, Gate(name, job.options.resolved_device)
