"""Video-TT: short videos that call for thought, with options or in one's own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from avatar.answers import parse_answer
from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, take
from avatar.benchmarks.grades import Grade, Scoring, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import read_records, take_letter, unique_keys
from avatar.benchmarks.rules.characters import VIDEO_TT_PHRASES, first_character
from avatar.benchmarks.rules.judging import judge_messages
from avatar.chat import ChatRequest
from avatar.data.schema import Medium
from avatar.errors import DataError

LETTERS = "ABCDE"
ENOUGH = 3  # points of 5 that make an answer right
VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 5}},
    "required": ["score"],
    "additionalProperties": False,
}
TASK = (
    "You compare a reply to a question about a video with the correct answer. score: 0 to 5, how well the two agree in "
    "meaning; 5 is the same thing, in whatever words, 0 something else altogether."
)
_ON_LINES = re.compile(r"^[ \t]*\(?([A-Z])[.):]\s*", re.MULTILINE)
_IN_LINE = re.compile(r"(?<!\S)\(?([A-Z])[.):]\s*")
_SPLIT = re.compile(r"test_(.+)_oe-")


@BENCHMARKS.register("video_tt")
class VideoTT(FileBenchmark):
    """1,000 questions, each with options within its text; the first capital A to E counts.

    Reference:
        Video Thinking Test, arXiv 2507.15028; github.com/EvolvingLMMs-Lab/lmms-eval, ``lmms_eval/tasks/video-tt``.
    """

    title = "Video-TT"
    source = "hf.co/datasets/lmms-lab/video-tt, data/test-00000-of-00001.parquet"
    hub = "lmms-lab/video-tt"
    num_records = 1000
    media_kinds = ("video",)
    groups: ClassVar[tuple[str, ...]] = ("capability",)
    scorings = ("avatar", "official")
    published: ClassVar[Mapping[str, float]] = {"Qwen2.5-Omni-7B": 41.8, "+ GRPO": 43.0, "+ AVATAR": 44.2}
    default_root = "data/benchmarks/video_tt"
    annotation: ClassVar[tuple[str, ...]] = ("data/test-*.parquet", "test-*.parquet")

    def questions(self, root: Path) -> list[Question]:
        """Those of the parquet table; media are below ``Benchmark-AllVideos-LQ``."""
        records = [item for file in self.annotation_files(root) for item in read_records(file)]
        keys = unique_keys(str(take(record, "qid", (str, int), where)) for where, record in records)
        return [_choice(record, key, root, where) for key, (where, record) in zip(keys, records, strict=True)]

    def avatar(self, output: str, question: Question) -> Grade:
        """Our parser's answer; what was read of an open-ended one is for a judge."""
        if question.problem_type != "free":
            return super().avatar(output, question)
        answer = parse_answer(output, "free")
        return Grade(None if answer.parsed else 0.0, str(answer.value or ""), answer.how)

    def official(self, output: str, question: Question) -> Grade:
        """The first capital A to E, set phrases aside; an open-ended reply is for a judge."""
        if question.problem_type == "free":
            return read(None, output.strip())
        letter = first_character(output, LETTERS, VIDEO_TT_PHRASES)
        return read(letter == question.gold, letter)

    def judge_request(self, output: str, question: Question, scoring: Scoring) -> ChatRequest | None:
        """The whole reply officially, by our rule what was read of it."""
        grade = self.grade(output, question, scoring)
        if grade.score is not None:
            return None
        facts = {"Question": question.text, "Correct answer": question.gold}
        reply = output if scoring == "official" else grade.parsed
        return ChatRequest(judge_messages(TASK, facts, reply), VERDICT)

    def judged(self, verdict: Mapping[str, Any], question: Question, scoring: Scoring) -> Grade:
        """1 for three points of five or more."""
        points = float(verdict["score"])
        return Grade(float(points >= ENOUGH), f"{points:g} of 5", "judge", parts={"points": points})


@BENCHMARKS.register("video_tt_open")
class VideoTTOpen(VideoTT):
    """The same videos, asked for words: with no lead, with a right or a wrong one, and paraphrased; a judge grades."""

    title = "Video-TT, open-ended"
    source = "hf.co/datasets/lmms-lab/video-tt, data/test_*_oe-00000-of-00001.parquet"
    num_records = 4000
    groups: ClassVar[tuple[str, ...]] = ("split", "capability")
    published: ClassVar[Mapping[str, float]] = {}
    annotation: ClassVar[tuple[str, ...]] = ("data/test_*_oe-*.parquet", "test_*_oe-*.parquet")

    def questions(self, root: Path) -> list[Question]:
        """Those of all open-ended splits that are there; media are below ``Benchmark-AllVideos-LQ``."""
        records = [(_split(file), *item) for file in self.annotation_files(root) for item in read_records(file)]
        keys = unique_keys(f"{split}/{take(record, 'qid', (str, int), where)}" for split, where, record in records)
        return [
            _open(record, key, split, root, where) for key, (split, where, record) in zip(keys, records, strict=True)
        ]

    def problem_type(self, qtype: str, options: object) -> str:
        """Words, for a judge to compare."""
        return "free"


def _choice(record: Any, key: str, root: Path, where: str) -> Question:
    options = find_options(take(record, "question_prompt", str, where), where)
    base = _base(record, key, root, where)
    return replace(base, gold=take_letter(record, "answer", options, where), options=options)


def _open(record: Any, key: str, split: str, root: Path, where: str) -> Question:
    base = _base(record, key, root, where)
    return replace(base, problem_type="free", qtype=split, groups={"split": split, **base.groups})


def _base(record: Any, key: str, root: Path, where: str) -> Question:
    video = take(record, "video_id", str, where)
    folders = ("Benchmark-AllVideos-LQ/", "Benchmark-AllVideos-HQ-encoded/", "video/", "")
    names = [check_inside(f"{folder}{video}.{end}", where) for folder in folders for end in ("mp4", "MP4", "mkv")]
    return Question(
        key=key,
        text=take(record, "question", str, where),
        gold=take(record, "answer", str, where).strip(),
        media=(Medium("video", first_there(root, names)),),
        groups={"capability": take(record, "capability", str, where)},
    )


def find_options(text: str, where: str) -> tuple[str, ...]:
    """The options in a text that has them as ``A. dog``, ``(A) dog`` or ``A: dog``, one after the other from A on.

    They stand on lines of their own, or, where not two lines begin so, in one line. An option goes on to the next one;
    the last ends with its line.

    Raises:
        DataError: There are not two of them.
    """
    for form in (_ON_LINES, _IN_LINE):
        marks: list[re.Match[str]] = []
        for match in form.finditer(text):
            if match[1] == ascii_uppercase[len(marks) : len(marks) + 1]:
                marks.append(match)
        if len(marks) > 1:
            ends = [mark.start() for mark in marks[1:]] + [len(text)]
            *first, last = [text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
            return (*first, last.split("\n")[0].strip())
    raise DataError(
        f"{where}: field 'question_prompt' must hold options as 'A. ...' and so on, is {text!r:.120}",
        "broken annotation",
    )


def _split(file: Path) -> str:
    match = _SPLIT.match(file.name)
    if not match:
        raise DataError(f"{file}: the name must be as test_no_leading_oe-00000-of-00001.parquet", "broken annotation")
    return match[1]
