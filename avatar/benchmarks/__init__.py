"""Benchmarks, by the key that users type."""

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
from avatar.benchmarks.data import BenchmarkData
from avatar.benchmarks.grades import Grade, Graded, Scoring
from avatar.benchmarks.micro import Micro
from avatar.benchmarks.question import Question
from avatar.benchmarks.rules.ours import grade_answer

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
