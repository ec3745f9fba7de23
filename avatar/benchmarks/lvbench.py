"""LVBench: questions about videos of half an hour to two hours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, read_json_lines, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import take_letter, take_texts, unique_keys
from avatar.benchmarks.rules.authors import grade_authors
from avatar.data.schema import Medium
from avatar.errors import DataError


@BENCHMARKS.register("lvbench")
class LVBench(FileBenchmark):
    """103 long videos; a question may ask for several of six capabilities, and counts for each of them."""

    title = "LVBench"
    source = "hf.co/datasets/zai-org/LVBench (once THUDM/LVBench), video_info.meta.jsonl; videos from YouTube"
    hub = "zai-org/LVBench"
    licence = "CC-BY-NC-SA-4.0"
    num_records = 1549
    media_kinds = ("video",)
    groups = ("capability", "type")
    annotation = ("video_info.meta.jsonl", "data/video_info.meta.jsonl")
    default_root = "data/benchmarks/lvbench"
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 37.2,
        "+ GRPO": 37.8,
        "+ AVATAR": 38.4,
        "Ola-7B": 35.5,
        "Ola-7B + GRPO": 36.0,
        "Ola-7B + AVATAR": 36.6,
    }

    def questions(self, root: Path) -> list[Question]:
        """Video by video; the options stand in the text of a question and are taken out of it."""
        lines = (line for path in self.annotation_files(root) for line in read_json_lines(path))
        found = [question for where, video in lines for question in _of_video(root, video, where)]
        keys = unique_keys(question.key for question in found)
        return [replace(question, key=key) for question, key in zip(found, keys, strict=True)]

    def official(self, output: str, question: Question) -> Grade:
        """See :func:`first_mark`; capitals only."""
        mark = first_mark(output)
        return read(mark == question.gold, mark)

    def authors(self, output: str, question: Question) -> Grade:
        """The authors' extractor; where it finds nothing, the first letter from A to E, small or capital."""
        return grade_authors(output, question.gold, fallback="A-E")


def first_mark(reply: str) -> str:
    """The first character of what stands in the first brackets, or of the reply where none close or open before that.

    ``Answer: D`` gives ``A``, ``d`` gives ``d``.

    Reference:
        github.com/zai-org/LVBench, lvbench/utils/answer_util.py, ``polish_answer``.
    """
    text = reply.strip().split(")")[0].strip()
    if "(" in text:
        text = text.split("(")[1].strip()
    return text[:1]


def _of_video(root: Path, video: Any, where: str) -> Iterator[Question]:
    key = check_inside(take(video, "key", str, where), where)
    places = (f"videos/{key}.mp4", f"{key}.mp4", f"all_videos/{key}.mp4", f"scripts/videos/{key}.mp4")
    medium = Medium("video", first_there(root, places))
    kind = take(video, "type", str, where)
    for i, record in enumerate(take(video, "qa", list, where)):
        here = f"{where}, qa[{i}]"
        text, options = _split(take(record, "question", str, here), here)
        uid = str(take(record, "uid", (str, int), here))
        yield Question(
            key=f"{key}/{uid}",
            text=text,
            gold=take_letter(record, "answer", options, here),
            options=options,
            media=(medium,),
            groups={"capability": take_texts(record, "question_type", here), "type": kind},
            ident=uid,
        )


def _split(text: str, where: str) -> tuple[str, tuple[str, ...]]:
    """The question, and its options as ``(A) text``, one a line."""
    question, *options = re.split(r"\n\s*(?=\([A-Z]\))", text)
    letters = "".join(option[1] for option in options)
    if len(options) < 2 or letters != ascii_uppercase[: len(options)]:
        raise DataError(
            f"{where}: field 'question' must end with options (A), (B), ... on lines of their own, is {text!r:.120}",
            "broken annotation",
        )
    return question.strip(), tuple(option.strip() for option in options)
