"""TOMATO: direction, rotation, speed and count of motions, which no single frame shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, read_json, take
from avatar.benchmarks.grades import Grade, Scoring, read
from avatar.benchmarks.question import Question, letter_of
from avatar.benchmarks.records import take_texts
from avatar.benchmarks.rules.authors import grade_authors
from avatar.benchmarks.rules.judging import judge_messages
from avatar.chat import ChatRequest
from avatar.data.schema import Medium
from avatar.errors import DataError

TASK = (
    "A reply to a multiple-choice question is not in the form that was wanted. Say which of the options it means. "
    "option: the letter of the option that the reply settles on; none if it settles on no option or on several. Do not "
    "answer the question yourself, and do not guess."
)


@BENCHMARKS.register("tomato")
class TOMATO(FileBenchmark):
    """Six types of motion, shown by people, by objects or simulated, with three to seven options."""

    title = "TOMATO"
    source = "github.com/yale-nlp/TOMATO, data/*.json"
    licence = "CC-BY-SA-4.0 (dataset card); none in the repository"
    num_records = 1484
    media_kinds = ("video",)
    groups = ("motion", "demonstration", "variation")
    annotation = ("data/*.json",)
    default_root = "data/benchmarks/tomato"
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 29.0,
        "+ GRPO": 29.2,
        "+ AVATAR": 30.8,
        "Ola-7B": 25.3,
        "Ola-7B + GRPO": 25.9,
        "Ola-7B + AVATAR": 26.6,
    }

    def questions(self, root: Path) -> list[Question]:
        """Motion by motion, in the order of the files."""
        found = []
        for path in self.annotation_files(root):
            records = read_json(path)
            if not isinstance(records, dict):
                raise DataError(f"{path}: must be an object of records, is {type(records).__name__}")
            found += [_question(path.stem, ident, record, f"{path}[{ident!r}]") for ident, record in records.items()]
        return found

    def official(self, output: str, question: Question) -> Grade:
        """See :func:`plain_letter`; what it cannot read is for a judge, and never for chance."""
        letter = plain_letter(output, question.options)
        return read(letter == question.gold if letter else None, letter)

    def authors(self, output: str, question: Question) -> Grade:
        """The authors' extractor; where it finds nothing, the first letter from A to E, small or capital.

        Their script holds it to a letter: with the numbers of the official files every answer is wrong.
        """
        return grade_authors(output, question.gold, fallback="A-E")

    def judge_request(self, output: str, question: Question, scoring: Scoring) -> ChatRequest | None:
        """Which option a reply means that the official rule cannot read."""
        if scoring != "official" or plain_letter(output, question.options):
            return None
        options = {letter_of(i): text for i, text in enumerate(question.options)}
        option = {"type": "string", "enum": [*options, "none"]}
        schema = {
            "type": "object",
            "properties": {"option": option},
            "required": ["option"],
            "additionalProperties": False,
        }
        return ChatRequest(judge_messages(TASK, {"Options": options}, output), schema)

    def judged(self, verdict: Mapping[str, Any], question: Question, scoring: Scoring) -> Grade:
        """1 for the gold option; one that is none is 0, where the official script draws lots."""
        letter = "" if verdict["option"] == "none" else str(verdict["option"])
        return Grade(float(letter == question.gold), letter, "judge")


def plain_letter(reply: str, options: Sequence[str]) -> str:
    """The letter of an option where the reply is that letter, is ``C: text``, or is ``Answer is:(C)``; else nothing.

    A lone letter may be small. ``C: text`` is compared in capitals with the option as it stands, so that only texts
    without small letters match. ``Answer is`` goes as far as F, and no blank may follow it.

    Reference:
        github.com/yale-nlp/TOMATO, src/parse_result.py, ``pre_parser``.
    """
    reply, letters = reply.strip(), ascii_uppercase[: len(options)]
    said = re.fullmatch(r"Answer is:?\(?([A-Fa-f])\)?", reply)
    if len(reply) == 1 or reply.upper() in [f"{x}: {text}" for x, text in zip(letters, options, strict=True)]:
        letter = reply[:1].upper()
    else:
        letter = said[1].upper() if said else ""
    return letter if len(letter) == 1 and letter in letters else ""


def _question(motion: str, ident: str, record: Any, where: str) -> Question:
    options, index = take_texts(record, "options", where), take(record, "answer", int, where)
    if not 0 <= index < len(options):
        raise DataError(f"{where}: answer must be the index of one of {len(options)} options, is {index}")
    shown_by, name = take(record, "demonstration_type", str, where), take(record, "key", str, where)
    flags = take(record, "variation", dict, where)
    return Question(
        key=f"{motion}/{ident}",
        text=take(record, "question", str, where),
        gold=letter_of(index),
        options=options,
        media=(Medium("video", check_inside(f"videos/{shown_by}/{name}.mp4", where)),),
        groups={
            "motion": motion,
            "demonstration": shown_by,
            "variation": tuple(flag for flag, value in flags.items() if value),
        },
        ident=ident,
    )
