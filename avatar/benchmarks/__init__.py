"""Benchmarks, by the key that users type."""

from typing import TYPE_CHECKING, Any

from avatar.benchmarks import (  # noqa: F401  registers them
    av_counting,
    av_counting_clues,
    av_odyssey,
    daily_omni,
    intentbench,
    jsonl,
    lvbench,
    mmvu,
    mvbench,
    omnibench,
    tomato,
    video_holmes,
    video_mme,
    video_mmmu,
    video_tt,
    vsi_bench,
    worldsense,
)
from avatar.benchmarks.base import BENCHMARKS, Benchmark, find_benchmark
from avatar.benchmarks.grades import Grade, Graded, Scoring
from avatar.benchmarks.micro import Micro
from avatar.benchmarks.question import Question
from avatar.benchmarks.rules.ours import grade_answer

if TYPE_CHECKING:
    from avatar.benchmarks.data import BenchmarkData

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkData",
    "Grade",
    "Graded",
    "Micro",
    "Question",
    "Scoring",
    "find_benchmark",
    "grade_answer",
]


def __getattr__(name: str) -> Any:
    """Loads what runs a benchmark only when it is wanted: grading needs no trainer, and starts in half the time."""
    if name == "BenchmarkData":
        from avatar.benchmarks.data import BenchmarkData

        return BenchmarkData
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
