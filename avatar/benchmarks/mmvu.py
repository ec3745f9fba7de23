"""MMVU: expert knowledge of 27 subjects, asked about videos; some answers are options, some are words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from avatar.answers import parse_answer
from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, take
from avatar.benchmarks.grades import Grade, Scoring, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import read_records, take_letter, take_lettered, unique_keys
from avatar.benchmarks.rules.authors import grade_authors
from avatar.benchmarks.rules.judging import judge_messages
from avatar.chat import ChatRequest
from avatar.data.schema import Medium
from avatar.errors import DataError

TYPES = ("multiple-choice", "open-ended")
VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {"extracted_answer": {"type": "string"}, "correct": {"type": "boolean"}},
    "required": ["extracted_answer", "correct"],
    "additionalProperties": False,
}
TASK = (
    "You decide whether a reply to a question about a video gives the right answer. Find the final answer in the "
    "reply, then compare it with the correct one. extracted_answer: {found}. correct: true or false, {rule}."
)
RULES = {
    "multiple-choice": {
        "found": "the letter of the option that the reply settles on, empty if there is none",
        "rule": "true only if that option is the correct one",
    },
    "open-ended": {
        "found": "the final answer in the reply's own words, empty if there is none; add nothing to it",
        "rule": "true only if it names the very same thing or concept as the correct answer, plainly and without "
        "hedging; other words for it will do",
    },
}


@BENCHMARKS.register("mmvu")
class MMVU(FileBenchmark):
    """The validation split: 625 multiple-choice questions and 375 open-ended ones.

    Officially a judge decides about both. By our rule and the authors' the multiple-choice ones need none; ours leaves
    the open-ended ones to a judge, and the authors' script does not have them.
    """

    title = "MMVU"
    source = "hf.co/datasets/yale-nlp/MMVU, validation.json; or github.com/yale-nlp/MMVU, data/validation.json"
    hub = "yale-nlp/MMVU"
    num_records = 1000
    media_kinds = ("video",)
    groups = ("question_type", "subject")
    annotation = ("validation.json", "data/validation.json")
    qtypes = TYPES
    qtype_optional = True
    default_root = "data/benchmarks/mmvu"
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 60.2,
        "+ GRPO": 64.0,
        "+ AVATAR": 65.6,
        "Ola-7B": 56.6,
        "Ola-7B + GRPO": 57.0,
        "Ola-7B + AVATAR": 57.3,
    }

    def questions(self, root: Path) -> list[Question]:
        """In the order of the file."""
        records = [found for path in self.annotation_files(root) for found in read_records(path)]
        found = [_question(record, where) for where, record in records]
        keys = unique_keys(question.key for question in found)
        return [replace(question, key=key) for question, key in zip(found, keys, strict=True)]

    def problem_type(self, qtype: str, options: Sequence[str]) -> str:
        """An option, or words of one's own; where the type is left out, the options tell."""
        return "choice" if qtype == "multiple-choice" or (options and not qtype) else "free"

    def avatar(self, output: str, question: Question) -> Grade:
        """Our rule; words that were read are for a judge to compare, and none that were is 0."""
        if question.problem_type == "choice":
            return super().avatar(output, question)
        answer = parse_answer(output, "free")
        return Grade(None if answer.parsed else 0.0, str(answer.value or ""), answer.how)

    def official(self, output: str, question: Question) -> Grade:
        """Only a judge can tell."""
        return read(None, "")

    def authors(self, output: str, question: Question) -> Grade:
        """The authors' extractor without tags, else the first letter from A to E, small or capital."""
        if question.problem_type != "choice":
            return read(None, "", counted=False)
        return grade_authors(output, question.gold, fallback="A-E", tags=False)

    def judge_request(self, output: str, question: Question, scoring: Scoring) -> ChatRequest | None:
        """Officially the whole reply is judged; by our rule the words that were read, of open-ended questions."""
        if self.grade(output, question, scoring).score is not None or scoring == "authors":
            return None
        qtype = "multiple-choice" if question.problem_type == "choice" else "open-ended"
        options = dict(zip(ascii_uppercase, question.texts, strict=False))
        facts = {"Question": question.text, "Options": options, "Correct answer": question.gold}
        reply = output if scoring == "official" else self.avatar(output, question).parsed
        return ChatRequest(
            judge_messages(TASK.format(**RULES[qtype]), {k: v for k, v in facts.items() if v}, reply), VERDICT
        )

    def judged(self, verdict: Mapping[str, Any], question: Question, scoring: Scoring) -> Grade:
        """1 where the judge holds it correct, else 0."""
        return Grade(float(verdict["correct"]), str(verdict["extracted_answer"]), "judge")


def _question(record: Any, where: str) -> Question:
    qtype = take(record, "question_type", str, where)
    if qtype not in TYPES:
        raise DataError(f"{where}: question_type must be {' or '.join(TYPES)}, is {qtype!r}", "broken annotation")
    options = take_lettered(record, "choices", where) if qtype == "multiple-choice" else ()
    gold = take_letter(record, "answer", options, where) if options else take(record, "answer", str, where)
    return Question(
        key=take(record, "id", str, where),
        text=take(record, "question", str, where),
        gold=gold,
        problem_type="choice" if options else "free",
        options=options,
        media=(Medium("video", _place(take(record, "video", str, where), where)),),
        qtype=qtype,
        groups={"question_type": qtype, "subject": take(take(record, "metadata", dict, where), "subject", str, where)},
    )


def _place(address: str, where: str) -> str:
    """``videos/Art/0.mp4`` of the address on the hub, or of that path itself."""
    found = re.fullmatch(r"(?:https://.+/resolve/[^/]+/)?(videos/.+)", address)
    if not found:
        raise DataError(f"{where}: video must be below videos/, on the hub or not, is {address!r:.120}")
    return check_inside(found[1], where)
