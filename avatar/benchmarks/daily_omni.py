"""Daily-Omni: everyday videos whose picture and sound must be put together in time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import read_records, take_letter, take_options, unique_keys
from avatar.benchmarks.rules.authors import grade_authors
from avatar.data.schema import Medium

_FIRST = re.compile(r"\s*([A-D])", re.IGNORECASE)


@BENCHMARKS.register("daily_omni")
class DailyOmni(FileBenchmark):
    """Four options; videos of 30 and 60 seconds, shown with their sound.

    Reference:
        Daily-Omni, arXiv 2505.17862; github.com/Lliar-liar/Daily-Omni, ``test_model/Qwen2.5-Omni/testmodel.py``.
    """

    title = "Daily-Omni"
    source = "github.com/Lliar-liar/Daily-Omni, qa.json; videos at hf.co/datasets/liarliar/Daily-Omni"
    hub = "liarliar/Daily-Omni"
    licence = "GPL-3.0 (the repository's)"
    num_records = 1197
    media_kinds = ("video",)
    groups = ("type", "category", "duration")
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 44.0,
        "+ GRPO": 44.8,
        "+ AVATAR": 47.0,
        "Ola-7B": 52.3,
        "Ola-7B + GRPO": 54.1,
        "Ola-7B + AVATAR": 55.7,
    }
    elsewhere: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B (Daily-Omni)": 47.45,
        "Qwen2.5-Omni-7B, no sound (Daily-Omni)": 41.19,
    }
    default_root = "data/benchmarks/daily_omni"
    annotation = ("qa.json",)

    def questions(self, root: Path) -> list[Question]:
        """Those of ``qa.json``; media are ``Videos/ID/ID_video.mp4``. Records have no id: keys count them by video."""
        records = [item for file in self.annotation_files(root) for item in read_records(file)]
        keys = unique_keys(take(record, "video_id", str, where) for where, record in records)
        return [_question(record, key, where) for key, (where, record) in zip(keys, records, strict=True)]

    def official(self, output: str, question: Question) -> Grade:
        """The first character, small or capital, of what follows the first ``assistant``, or of the whole reply."""
        before, cue, after = output.partition("assistant")
        match = _FIRST.match(after if cue else before)
        letter = match[1].upper() if match else ""
        return read(letter == question.gold, letter)

    def authors(self, output: str, question: Question) -> Grade:
        """Their common extractor, compared in capitals."""
        return grade_authors(output, question.gold, fold=True)


def _question(record: Any, key: str, where: str) -> Question:
    video, options = take(record, "video_id", str, where), take_options(record, "Choice", where)
    return Question(
        key=key,
        text=take(record, "Question", str, where),
        gold=take_letter(record, "Answer", options, where),
        options=options,
        media=(Medium("video", check_inside(f"Videos/{video}/{video}_video.mp4", where)),),
        groups={
            "type": take(record, "Type", str, where),
            "category": take(record, "video_category", str, where),
            "duration": take(record, "video_duration", str, where),
        },
    )
