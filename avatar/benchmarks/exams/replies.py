"""A reply with its question as one JSON object: what is kept, graded again, and read by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avatar.benchmarks.base import Benchmark
from avatar.benchmarks.grades import Grade, Graded, Scoring
from avatar.benchmarks.question import Question
from avatar.types import Completion, Prompt

Row = dict[str, Any]


def reply_row(question: Question, completion: Completion, prompt: Prompt) -> Row:
    """What is kept of a reply before it is graded."""
    return {
        **question_row(question),
        "output": completion.text,
        "length": len(completion.ids),
        "finished": completion.finished,
        **({"notes": notes} if (notes := prompt.metadata.get("notes")) else {}),
    }


def question_row(question: Question) -> Row:
    """All that grading needs to know of a question."""
    groups = {name: list(label) if isinstance(label, tuple) else label for name, label in question.groups.items()}
    return {
        "id": question.key,
        "question": question.text,
        "options": list(question.options),
        "gold": question.gold,
        "problem_type": question.problem_type,
        "qtype": question.qtype,
        "groups": groups,
        "ident": question.ident,
        "clip": question.clip,
    }


def missing_row(question: Question, reason: str) -> Row:
    """Of a question that could not be asked."""
    return {**question_row(question), "output": None, "missing": reason}


def grade_row(benchmark: Benchmark, row: Mapping[str, Any], scoring: Scoring) -> Graded:
    """Grade a row; one without an output could not be asked, and is wrong.

    Raises:
        ConfigError: The benchmark has no such rule.
        DataError: The row lacks what the rule needs.
    """
    question = benchmark.question_of_row(row)
    if row.get("output") is None:
        return Graded(question, Grade(0.0, "", "missing"))
    return Graded(question, benchmark.grade(row["output"], question, scoring))


def graded_row(row: Mapping[str, Any], grade: Grade) -> Row:
    """A row with what it earned."""
    earned = {"score": grade.score, "parsed": grade.parsed or None, "how": grade.how, "counted": grade.counted}
    return {**row, **earned, **({"parts": dict(grade.parts)} if grade.parts else {})}


def outputs_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The raw replies; empty where there is none."""
    return [row.get("output") or "" for row in rows]
