"""Anyone's own questions, one a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avatar.answers import gold_answer
from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, read_json_lines, take
from avatar.benchmarks.question import Question, letter_of, option_texts
from avatar.benchmarks.records import take_options
from avatar.data.schema import Medium, record_from_fields
from avatar.errors import DataError

FIELDS = ("id", "question", "options", "answer", "media", "problem_type", "groups")


@BENCHMARKS.register("jsonl")
class JsonLines(FileBenchmark):
    """A folder with ``questions.jsonl``, or with any JSON lines of this kind, and the media that they name.

    ==============  =================================================================================================
    field           what it holds
    ==============  =================================================================================================
    id              text or number, once in all files
    question        text
    options         list of texts, with letters before them or without; left out where there are none
    answer          of options the letter or the text; else a number or a text
    media           list of ``{"video": "clips/a.mp4"}``, ``image`` or ``audio``, with ``start`` and ``end`` in seconds
                    where not all is to be shown; paths are below the folder
    problem_type    how the answer is read, see :func:`avatar.answers.parse_answer`; by default ``choice`` with options,
                    ``number`` for an answer that is a number and no text, else ``exact``
    groups          object of titles with a label each, or with a list of labels, to report by
    ==============  =================================================================================================
    """

    title = "own questions"
    source = "a folder of your own with questions.jsonl"
    num_records = 0
    media_kinds = ("video", "image", "audio")
    scorings = ("avatar",)
    default_root = "data/benchmarks/jsonl"
    annotation = ("questions.jsonl", "*.jsonl")

    def questions(self, root: Path) -> list[Question]:
        """Those of all lines; see the class."""
        lines = [line for file in self.annotation_files(root) for line in read_json_lines(file)]
        places: dict[str, str] = {}
        for where, record in lines:
            key = str(take(record, "id", (str, int), where))
            if not key.strip():
                raise DataError(f"{where}: field 'id' is empty; give each line a name of its own", "broken annotation")
            if places.setdefault(key, where) != where:
                raise DataError(f"{where}: the id {key!r} stands at {places[key]} too; rename one", "duplicate key")
        return [_question(record, where) for where, record in lines]

    def question_of_row(self, row: Mapping[str, Any]) -> Question:
        """See :meth:`Benchmark.question_of_row`; how the answer is read follows as in a line of the file."""
        gold = row.get("gold", row.get("ground_truth"))
        default = _problem_type(row.get("options"), gold)
        return super().question_of_row({**row, "problem_type": row.get("problem_type") or default})


def _question(record: Any, where: str) -> Question:
    if unknown := sorted(set(record) - set(FIELDS)):
        raise DataError(f"{where}: unknown field {unknown[0]!r}; known: {', '.join(FIELDS)}", "broken annotation")
    options = take_options(record, "options", where) if record.get("options") else ()
    _check_options(options, where)
    answer = take(record, "answer", (str, int, float), where)
    default = _problem_type(options, answer)
    problem_type = take({"problem_type": default, **record}, "problem_type", str, where)
    text = take(record, "question", str, where)
    if not text.strip():
        raise DataError(f"{where}: field 'question' is empty; write what shall be asked", "broken annotation")
    return Question(
        key=str(record["id"]),
        text=text,
        gold=_gold(str(answer), problem_type, options, where),
        problem_type=problem_type,
        options=options,
        media=tuple(_media(text, record, where)),
        groups=_groups(take({"groups": {}, **record}, "groups", dict, where), where),
    )


def _problem_type(options: Any, answer: Any) -> str:
    """How an answer is read where the line does not say."""
    return "choice" if options else "exact" if isinstance(answer, str) else "number"


def _check_options(options: Sequence[str], where: str) -> None:
    texts = [" ".join(text.split()) for text in option_texts(options)]
    if twice := [i for i, text in enumerate(texts) if text in texts[:i]]:
        first = letter_of(texts.index(texts[twice[0]]))
        raise DataError(
            f"{where}: options {first} and {letter_of(twice[0])} are equal, {texts[twice[0]]!r:.80}: only one of them "
            "would be right; change or leave out one",
            "broken annotation",
        )


def _gold(answer: str, problem_type: str, options: Sequence[str], where: str) -> str:
    try:
        gold = gold_answer(answer, problem_type, option_texts(options))
    except ValueError as error:
        way_out = f"; give the letter, A to {letter_of(len(options) - 1)}, or the text of an option" if options else ""
        raise DataError(f"{where}: {error}{way_out}", "broken annotation") from None
    return letter_of(gold) if isinstance(gold, int) else answer


def _media(text: str, record: Any, where: str) -> list[Medium]:
    """Checked as those of a record to train on."""
    items = take(record, "media", list, where)
    media = record_from_fields({"question": text, "answer": "none", "media": items}, where).media
    for medium in media:
        check_inside(medium.name, where)
    return media


def _groups(groups: Mapping[str, Any], where: str) -> dict[str, str | tuple[str, ...]]:
    found: dict[str, str | tuple[str, ...]] = {}
    for title, label in groups.items():
        labels = label if isinstance(label, list) else [label]
        if not all(isinstance(one, str) for one in labels):
            raise DataError(f"{where}: groups[{title!r}] must be a text or a list of texts, got {label!r:.80}")
        found[title] = tuple(labels) if isinstance(label, list) else label
    return found
