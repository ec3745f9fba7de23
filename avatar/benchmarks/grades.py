"""What one reply earned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from avatar.answers import How
from avatar.benchmarks.question import Question

Scoring = Literal["avatar", "official", "authors"]
SCORINGS: tuple[Scoring, ...] = ("avatar", "official", "authors")


@dataclass(frozen=True)
class Grade:
    """What one reply earned.

    Attributes:
        score: 0 to 1; None where only a judge can tell.
        parsed: The answer that was read, for people; empty when unparsed.
        how: ``strict``, ``lenient`` or ``unparsed``; ``judge`` where a judge decided, ``undecided`` where only a judge
            could and none was asked, ``missing`` where the question could not be asked.
        counted: False where the benchmark's rule leaves the reply out of the mean.
        parts: The rule's figures, where it has several.
    """

    score: float | None
    parsed: str
    how: How | Literal["judge", "undecided", "missing"]
    counted: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def scored(self) -> bool:
        """Whether it enters the mean."""
        return self.counted and self.score is not None


@dataclass(frozen=True)
class Graded:
    """A question and what a reply to it earned."""

    question: Question
    grade: Grade


def read(score: float | bool | None, parsed: object, counted: bool = True, **parts: float) -> Grade:
    """The grade of a rule that reads an answer or none: ``parsed`` is empty or None for none."""
    shown = "" if parsed is None else str(parsed)
    if score is None:
        return Grade(None, shown, "undecided", counted, parts)
    return Grade(float(score), shown, "strict" if shown else "unparsed", counted, parts)
