"""A graded reply as it lies in a results file: all that figures and comparisons need, and nothing of the annotation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from avatar.benchmarks.files import take
from avatar.benchmarks.grades import Grade, Graded
from avatar.benchmarks.question import Question
from avatar.errors import DataError

HOWS = ("strict", "lenient", "unparsed", "judge", "undecided", "missing")


def row_of(graded: Graded) -> dict[str, Any]:
    """The row of one reply; ``score`` is null where only a judge can tell."""
    question, grade = graded.question, graded.grade
    return {
        "id": question.key,
        "score": None if grade.score is None else float(grade.score),
        "clip": question.clip,
        "counted": grade.counted,
        "how": grade.how,
        "qtype": question.qtype,
        "ident": question.ident,
        "groups": {name: label if isinstance(label, str) else list(label) for name, label in question.groups.items()},
        "parts": dict(grade.parts),
        "gold_hash": gold_hash(question),
    }


def graded_of_row(row: Any, where: str) -> Graded:
    """The reply back from its row, without texts and answers.

    Args:
        row: As :func:`row_of` gives it.
        where: Names the row in messages.

    Raises:
        DataError: A field is missing or is not what :func:`row_of` writes.
    """
    score, how = take(row, "score", (int, float, type(None)), where), take(row, "how", str, where)
    if how not in HOWS or (score is not None and not 0 <= score <= 1):
        raise DataError(f"{where}: 'how' must be one of {', '.join(HOWS)} and 'score' 0 to 1, got {how!r} and {score}")
    question = Question(
        key=take(row, "id", str, where),
        text="",
        gold=None,
        qtype=take(row, "qtype", str, where),
        groups={name: _label(label) for name, label in take(row, "groups", Mapping, where).items()},
        ident=take(row, "ident", str, where),
        shown=take(row, "clip", str, where),
    )
    parts = {name: float(value) for name, value in take(row, "parts", Mapping, where).items()}
    return Graded(question, Grade(score, "", how, take(row, "counted", bool, where), parts))  # type: ignore[arg-type]


def gold_hash(question: Question) -> str:
    """Eight hexadecimal digits that differ where the options or the gold answer do: of another annotation file."""
    text = json.dumps([question.gold, list(question.options)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _label(label: Any) -> str | tuple[str, ...]:
    return tuple(map(str, label)) if isinstance(label, list) else str(label)
