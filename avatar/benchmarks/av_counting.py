"""CG-AV-Counting: how often something is seen or heard in a long video."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from avatar.answers import parse_answer
from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, take
from avatar.benchmarks.grades import Grade, Graded
from avatar.benchmarks.question import Question
from avatar.benchmarks.recipe import Recipe
from avatar.benchmarks.records import read_records, unique_keys
from avatar.benchmarks.rules.clue_grades import official_clues, our_clues
from avatar.benchmarks.rules.counting import count_parts
from avatar.benchmarks.rules.gold_number import gold_number
from avatar.benchmarks.rules.number_words import word_to_num
from avatar.data.schema import Medium

COUNT = "count"
MEANS = {"acc": "acc", "oboa": "oboa", "mae": "abs_err"}


@BENCHMARKS.register("av_counting")
class AVCounting(FileBenchmark):
    """A number for an answer, from the whole of the video; the headline is the share that is just right (Long Acc).

    Rows of either kind are graded by this and by ``av_counting_clues`` alike: their ``qtype`` is ``count``, or
    ``clue_event``, ``clue_object`` and ``clue_attribute``.

    Reference:
        AV-Reasoner, arXiv 2506.05328; github.com/AV-Reasoner/AV-Reasoner, ``eval/black_box_evaluation.py``.
    """

    title = "AV-Counting"
    source = "hf.co/datasets/CG-Bench/CG-AV-Counting, cg-av-counting.json"
    hub = "CG-Bench/CG-AV-Counting"
    num_records = 1027
    media_kinds = ("video",)
    groups = ("category", "type")
    qtypes = (COUNT, "clue_event", "clue_object", "clue_attribute")
    qtype_optional = True
    recipe = Recipe(max_frames=64)
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 22.3,
        "+ GRPO": 22.8,
        "+ AVATAR": 23.1,
        "Ola-7B": 17.4,
        "Ola-7B + GRPO": 18.2,
        "Ola-7B + AVATAR": 19.5,
    }
    elsewhere: ClassVar[Mapping[str, float]] = {"Qwen2.5-Omni-7B, Long Acc (AV-Reasoner)": 22.3}
    default_root = "data/benchmarks/av_counting"
    annotation = ("cg-av-counting.json",)

    def questions(self, root: Path) -> list[Question]:
        """Those of ``cg-av-counting.json``; media are below ``cg_videos_720p``."""
        records = [item for file in self.annotation_files(root) for item in read_records(file)]
        keys = unique_keys(str(take(record, "index", (int, str), where)) for where, record in records)
        return [self.to_question(record, key, root, where) for key, (where, record) in zip(keys, records, strict=True)]

    def to_question(self, record: Any, key: str, root: Path, where: str) -> Question:
        """The question of a record."""
        gold = take(record, "answer", (int, float, str), where)
        gold_number(gold, where)
        media = (Medium("video", video_of(record, root, where)),)
        groups = groups_of(record, where)
        return Question(key, text_of(record, where), gold, "number", media=media, qtype=COUNT, groups=groups)

    def problem_type(self, qtype: str, options: Sequence[str]) -> str:
        """A number, or clues; a number where the type is left out."""
        return "clue" if qtype.startswith("clue") else "number"

    def avatar(self, output: str, question: Question) -> Grade:
        """Our parser's number, wrong by twice the answer where there is none; or the clues of what was read."""
        if question.problem_type == "clue":
            return our_clues(output, question)
        if question.problem_type != "number":
            return super().avatar(output, question)
        answer = parse_answer(output, "number")
        said = answer.value if isinstance(answer.value, float) else None
        parts = count_parts(said, gold_number(question.gold, question.key))
        return Grade(parts["acc"], "" if said is None else f"{said:g}", answer.how, parts=parts)

    def official(self, output: str, question: Question) -> Grade:
        """Digits and nothing else, or number words; anything else is 0. Large errors are capped."""
        if question.problem_type == "clue":
            return official_clues(output, question)
        try:
            said: float | None = word_to_num(output)
        except ValueError:
            said = None
        parts = count_parts(said or 0, gold_number(question.gold, question.key))
        return _counted(parts, said is not None)

    def authors(self, output: str, question: Question) -> Grade:
        """The first whole number, else 0; errors are not capped, and clues not scored."""
        if question.problem_type == "clue":
            return Grade(None, "", "unparsed", counted=False)
        found = re.search(r"-?\d+", output.split("assistant\n")[-1])
        said = float(found[0]) if found else 0.0
        return _counted(count_parts(said, gold_number(question.gold, question.key), capped=False), found is not None)

    def figures(self, graded: Sequence[Graded]) -> dict[str, float]:
        """``acc`` and ``oboa`` as shares of 1, ``mae`` and ``rmse``; of clues ``wcs`` and ``ifa`` in %."""
        clues = [g.grade.parts for g in graded if g.question.problem_type == "clue"]
        counts = [_parts(g) for g in graded if g.question.problem_type == "number"]
        found: dict[str, float] = {}
        if counts:
            found = {name: _mean(counts, part) for name, part in MEANS.items()}
            found["rmse"] = math.sqrt(_mean(counts, "sq_err"))
        if clues:
            found |= {name: 100 * _mean(clues, name) for name in ("wcs", "ifa")}
        return found


def text_of(record: Any, where: str) -> str:
    """What is asked: its own code reads ``question_en``, all others ``question``."""
    return str(take(record, "question_en" if "question_en" in record else "question", str, where))


def video_of(record: Any, root: Path, where: str) -> str:
    """Path of the long video."""
    name = take(record, "video", str, where)
    return first_there(root, [check_inside(f"{folder}{name}", where) for folder in ("cg_videos_720p/", "videos/", "")])


def groups_of(record: Any, where: str) -> dict[str, str]:
    """What is counted, and whether it is seen or heard."""
    return {name: take(record, name, str, where) for name in AVCounting.groups}


def _counted(parts: Mapping[str, float], found: bool) -> Grade:
    return Grade(parts["acc"], f"{parts['pred']:g}" if found else "", "strict" if found else "unparsed", parts=parts)


def _parts(graded: Graded) -> Mapping[str, float]:
    """Those of the grade; what could not be asked is as wrong as no answer at all."""
    return graded.grade.parts or count_parts(None, gold_number(graded.question.gold, graded.question.key))


def _mean(parts: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(part.get(name, 0.0) for part in parts) / len(parts)
