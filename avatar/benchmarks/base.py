"""What a benchmark is: prompts, a rule that grades one reply, and what to report by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from avatar.answers import How, parse_answer
from avatar.data.dataset import PromptDataset
from avatar.data.prepare import Swap
from avatar.registry import Registry
from avatar.rewards import accuracy
from avatar.types import Prompt


@dataclass(frozen=True)
class Grade:
    """What one reply earned.

    Attributes:
        score: 0 to 1.
        parsed: The answer that was read, for people; empty when unparsed.
        how: ``strict``, ``lenient`` or ``unparsed``.
    """

    score: float
    parsed: str
    how: How


def grade_answer(output: str, prompt: Prompt) -> Grade:
    """How right the answer that :mod:`avatar.answers` reads from ``output`` is; nothing is guessed, unparsed is 0.

    See :func:`avatar.rewards.accuracy`: 1 or 0, but for ``ocr`` and ``free``, whose answers are more or less alike.
    """
    answer = parse_answer(output, prompt.problem_type, prompt.options)
    score = accuracy(output, prompt.answer, prompt.problem_type, prompt.options)
    if answer.value is None:
        shown = ""
    elif prompt.problem_type == "choice":
        shown = prompt.options[int(answer.value)]
    else:
        shown = f"{answer.value:g}" if isinstance(answer.value, float) else str(answer.value)
    return Grade(score, shown, answer.how)


class Benchmark(ABC):
    """One benchmark, by its lower-case key in ``BENCHMARKS``.

    Attributes:
        version: Raised whenever the same reply could be graded differently.
        source: Where the questions come from.
        num_records: How many there should be.
        default_root: Folder that is looked into when none is given.
    """

    version: ClassVar[int]
    source: ClassVar[str]
    num_records: ClassVar[int]
    default_root: ClassVar[str]

    @abstractmethod
    def prompts(self, root: Path, swap: Swap | None = None) -> PromptDataset:
        """The questions in ``root``, with each clip's sound or picture swapped for another's if asked."""

    def grade(self, output: str, prompt: Prompt) -> Grade:
        """Grade one raw reply."""
        return grade_answer(output, prompt)


BENCHMARKS: Registry[type[Benchmark]] = Registry("benchmark", "benchmarks")
