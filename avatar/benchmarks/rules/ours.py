"""The ``avatar`` grading: one parser decides what was answered, nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from avatar.answers import gold_answer, parse_answer
from avatar.benchmarks.grades import Grade
from avatar.rewards import accuracy


def grade_answer(output: str, problem_type: str, gold: object, options: Sequence[str] = ()) -> Grade:
    """How right the answer that :mod:`avatar.answers` reads from ``output`` is; unparsed is 0.

    See :func:`avatar.rewards.accuracy`: 1 or 0, but for ``ocr`` and ``free``, whose answers are more or less alike, and
    ``choices``, whose F1 it is.
    """
    answer = parse_answer(output, problem_type, options)
    if problem_type == "choice":
        right = answer.value == _gold_index(str(gold), options)
        return Grade(float(right), "" if answer.value is None else options[int(answer.value)], answer.how)
    if answer.value is None:
        shown = ""
    else:
        shown = f"{answer.value:.12g}" if isinstance(answer.value, float) else str(answer.value)
    return Grade(accuracy(output, str(gold), problem_type, options), shown, answer.how)


def gold_letter(gold: str, options: Sequence[str]) -> str:
    """The letter of a gold answer that names its option by letter or by text."""
    return ascii_uppercase[int(gold_answer(gold, "choice", options))]


def _gold_index(gold: str, options: Sequence[str]) -> int:
    """A letter is the option of that letter, though options may be letters themselves, or tags."""
    index = ascii_uppercase.find(gold) if len(gold) == 1 else -1
    return index if 0 <= index < len(options) else int(gold_answer(gold, "choice", options))
