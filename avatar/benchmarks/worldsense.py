"""WorldSense: videos of eight domains that must be seen and heard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, read_json, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import take_letter, take_options, take_texts
from avatar.benchmarks.rules.authors import grade_authors
from avatar.benchmarks.rules.characters import first_character
from avatar.data.schema import Medium
from avatar.errors import DataError


@BENCHMARKS.register("worldsense")
class WorldSense(FileBenchmark):
    """Three or four options; videos with their sound and without their subtitles.

    Its repository has no scorer and points to VLMEvalKit, whose rule ``official`` is, without the judge model that can
    be asked there about a reply without a letter: such a reply is wrong, as by that toolkit's default.

    Reference:
        WorldSense, arXiv 2502.04326; github.com/open-compass/VLMEvalKit, ``vlmeval/dataset/utils/worldsense.py``.
    """

    title = "WorldSense"
    source = "hf.co/datasets/honglyhly/WorldSense, worldsense_qa.json"
    hub = "honglyhly/WorldSense"
    licence = "CC-BY-NC-4.0 (by third parties)"
    num_records = 3172
    media_kinds = ("video",)
    groups = ("domain", "task_domain", "task_type", "audio_class", "duration", "sub_category")
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 44.2,
        "+ GRPO": 45.1,
        "+ AVATAR": 46.0,
        "Ola-7B": 44.2,
        "Ola-7B + GRPO": 44.7,
        "Ola-7B + AVATAR": 45.0,
    }
    elsewhere: ClassVar[Mapping[str, float]] = {"Qwen2.5-Omni-7B (as quoted by others)": 45.4}
    default_root = "data/benchmarks/worldsense"
    annotation = ("worldsense_qa.json",)

    def questions(self, root: Path) -> list[Question]:
        """Those of ``worldsense_qa.json``, a video's ``task0``, ``task1`` ... each; media are ``videos/ID.mp4``."""
        return [question for file in self.annotation_files(root) for question in _questions(file, root)]

    def official(self, output: str, question: Question) -> Grade:
        """The first capital A to D, set phrases aside; none is wrong and counts."""
        letter = first_character(output)
        return read(letter == question.gold, letter)

    def authors(self, output: str, question: Question) -> Grade:
        """The last letter A to D that stands alone, tags or not."""
        return grade_authors(output, question.gold, "A-D", "A-D", tags=False)


def _questions(file: Path, root: Path) -> Iterator[Question]:
    videos = read_json(file)
    if not isinstance(videos, dict):
        raise DataError(f"{file}: must be an object of videos, got {type(videos).__name__}", "broken annotation")
    for video, record in videos.items():
        where = f"{file}: {video}"
        groups = _groups(record, where)
        names = [check_inside(f"{folder}{video}.mp4", where) for folder in ("videos/", "")]
        media = (Medium("video", first_there(root, names)),)
        for task in (name for name in record if name.startswith("task")):
            yield _question(record[task], f"{video}_{task}", media, groups, f"{where}: {task}")


def _groups(record: Any, where: str) -> dict[str, str | tuple[str, ...]]:
    """Those of the video."""
    groups = {name: take(record, name, str, where) for name in ("domain", "duration", "sub_category")}
    return {**groups, "audio_class": take_texts(record, "audio_class", where)}


def _question(
    task: Any, key: str, media: tuple[Medium, ...], groups: dict[str, str | tuple[str, ...]], where: str
) -> Question:
    options = take_options(task, "candidates", where)
    return Question(
        key=key,
        text=take(task, "question", str, where),
        gold=take_letter(task, "answer", options, where),
        options=options,
        media=media,
        groups={**groups, **{name: take(task, name, str, where) for name in ("task_domain", "task_type")}},
    )
