"""Benchmarks, by the key that users type."""

from avatar.benchmarks.base import BENCHMARKS, Benchmark, Grade, grade_answer
from avatar.benchmarks.data import BenchmarkData
from avatar.benchmarks.micro import Micro

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkData", "Grade", "Micro", "grade_answer"]
