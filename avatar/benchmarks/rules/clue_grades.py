"""Grades of clue-grounded answers of AV-Counting: ``wcs``, the white-box score, and ``ifa``, 1 if it can be read."""

from __future__ import annotations

from avatar.answers import payloads
from avatar.benchmarks.files import take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.rules.clue_answers import is_json, payload, score_clues


def official_clues(output: str, question: Question) -> Grade:
    """The first ``<answer>``, or the whole reply; JSON, or the first list or object in it that is."""
    return _grade(payload(output), question)


def our_clues(output: str, question: Question) -> Grade:
    """The answer as :func:`avatar.answers.payloads` finds it; strict where it is JSON and nothing else."""
    texts = set(payloads(output))
    grade = _grade(texts.pop(), question)
    if texts or not grade.parts["ifa"]:
        return Grade(0.0, "", "unparsed", parts={"wcs": 0.0, "ifa": 0.0})
    return Grade(grade.score, grade.parsed, "strict" if is_json(grade.parsed) else "lenient", parts=grade.parts)


def _grade(text: str, question: Question) -> Grade:
    where = f"row {question.key!r}: gold"
    category, clues = take(question.gold, "category", str, where), take(question.gold, "clue", list, where)
    score = score_clues(text, category, clues)
    return read(score or 0.0, "" if score is None else text, wcs=score or 0.0, ifa=float(score is not None))
