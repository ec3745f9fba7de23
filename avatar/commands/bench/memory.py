"""What is in use, and the most that was: resident memory, or that of a CUDA device. MB are 10^6 bytes."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Self

import psutil
import torch

EVERY_S = 0.004  # a reading takes 0.02 ms


def resident_mb() -> float:
    """Of this process, once what is freed has been given back."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # glibc alone has it; elsewhere freed memory may be counted
        ctypes.CDLL(None).malloc_trim(0)
    return float(psutil.Process().memory_info().rss) / 1e6


class PeakMemory:
    """The most memory that was in use inside its ``with`` block, over what was in use when it was made.

    On a CUDA device the allocator keeps count, on Linux the kernel. Elsewhere a thread reads the resident memory every
    few milliseconds, which costs the step some time.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._baseline = torch.cuda.memory_allocated() / 1e6 if self._cuda else resident_mb()
        self._process, self._peak = psutil.Process(), 0.0
        self._kernel_counts = not self._cuda and _forget_high_water()

    def __enter__(self) -> Self:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        if self._cuda or (self._kernel_counts and _forget_high_water()):
            return self
        self._peak, self._over = 0.0, Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._cuda:
            self._peak = torch.cuda.max_memory_allocated() / 1e6
        elif self._kernel_counts:
            self._peak = _high_water_mb()
        else:
            self._over.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            self._peak = max(self._peak, self._process.memory_info().rss / 1e6)
            self._over.wait(EVERY_S)

    @property
    def over_baseline_mb(self) -> float:
        """Of the last block."""
        return self._peak - self._baseline


def _forget_high_water() -> bool:
    """Have the kernel count the most resident memory anew from here; False where it does not."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _high_water_mb() > 0
    except (OSError, StopIteration):
        return False


def _high_water_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e6
