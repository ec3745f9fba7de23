"""Video-MME: short, medium and long videos of six domains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import read_records, take_letter, take_options, unique_keys
from avatar.benchmarks.rules.authors import grade_authors
from avatar.benchmarks.rules.characters import first_character
from avatar.data.schema import Medium


@BENCHMARKS.register("video_mme")
class VideoMME(FileBenchmark):
    """Four options; videos with their sound and without their subtitles.

    Its own code leaves a reply without a capital A to D out of the mean, and so does ``official``.

    Reference:
        Video-MME, arXiv 2405.21075; github.com/thanku-all/parse_answer, ``eval_your_results.py``.
    """

    title = "Video-MME"
    source = "hf.co/datasets/lmms-lab/Video-MME, videomme/test-00000-of-00001.parquet"
    hub = "lmms-lab/Video-MME"
    licence = "academic use only, no redistribution"
    num_records = 2700
    media_kinds = ("video",)
    groups = ("duration", "domain", "task_type", "sub_category")
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 58.3,
        "+ GRPO": 60.5,
        "+ AVATAR": 62.8,
        "Ola-7B": 59.1,
        "Ola-7B + GRPO": 60.2,
        "Ola-7B + AVATAR": 61.4,
    }
    elsewhere: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B (Qwen)": 64.3,
        "Qwen2.5-Omni-7B, with subtitles (Qwen)": 72.4,
    }
    default_root = "data/benchmarks/video_mme"
    annotation = ("videomme.json", "videomme.jsonl", "videomme/test-*.parquet", "test-*.parquet")

    def questions(self, root: Path) -> list[Question]:
        """Those of the parquet table, or of an export of it to JSON; media are ``data/videoID.mp4`` (MP4, mkv)."""
        records = [item for file in self.annotation_files(root) for item in read_records(file)]
        keys = unique_keys(take(record, "question_id", str, where) for where, record in records)
        return [_question(record, key, root, where) for key, (where, record) in zip(keys, records, strict=True)]

    def official(self, output: str, question: Question) -> Grade:
        """The first capital A to D, set phrases aside; where there is none, the reply does not count."""
        letter = first_character(output)
        return read(letter == question.gold, letter, counted=bool(letter))

    def authors(self, output: str, question: Question) -> Grade:
        """Their common extractor."""
        return grade_authors(output, question.gold)


def _question(record: Any, key: str, root: Path, where: str) -> Question:
    video, options = take(record, "videoID", str, where), take_options(record, "options", where)
    names = [
        check_inside(f"{folder}{video}.{ending}", where) for folder in ("data/", "") for ending in ("mp4", "MP4", "mkv")
    ]
    return Question(
        key=key,
        text=take(record, "question", str, where),
        gold=take_letter(record, "answer", options, where),
        options=options,
        media=(Medium("video", first_there(root, names)),),
        groups={name: take(record, name, str, where) for name in VideoMME.groups},
    )
