"""Video-Holmes: short suspense films, whose clues have to be put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import read_records, take_letter, take_lettered, unique_keys
from avatar.benchmarks.rules.authors import grade_authors
from avatar.data.schema import Medium


@BENCHMARKS.register("video_holmes")
class VideoHolmes(FileBenchmark):
    """270 films with questions of seven types and up to six options; a question's id is unique within its film only."""

    title = "Video-Holmes"
    source = "hf.co/datasets/TencentARC/Video-Holmes, test_Video-Holmes.json"
    hub = "TencentARC/Video-Holmes"
    licence = "Apache-2.0, for academic purposes only"
    num_records = 1837
    media_kinds = ("video",)
    groups = ("question_type",)
    annotation = ("test_Video-Holmes.json",)
    default_root = "data/benchmarks/video_holmes"
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 40.6,
        "+ GRPO": 43.2,
        "+ AVATAR": 45.1,
        "Ola-7B": 40.1,
        "Ola-7B + GRPO": 41.3,
        "Ola-7B + AVATAR": 42.4,
    }

    def questions(self, root: Path) -> list[Question]:
        """In the order of the file."""
        records = [found for path in self.annotation_files(root) for found in read_records(path)]
        found = [_question(root, record, where) for where, record in records]
        keys = unique_keys(question.key for question in found)
        return [replace(question, key=key) for question, key in zip(found, keys, strict=True)]

    def official(self, output: str, question: Question) -> Grade:
        """See :func:`first_in_alphabet`; capitals only."""
        letter = first_in_alphabet(output)
        return read(letter == question.gold, letter)

    def authors(self, output: str, question: Question) -> Grade:
        """The authors' extractor; where it finds nothing, the first letter from A to F, small or capital."""
        return grade_authors(output, question.gold, fallback="A-F")


def first_in_alphabet(reply: str) -> str:
    """The first of A to F, by the alphabet, with a blank or colon behind or ``[`` before it; else in any place.

    Looked for in the last ``<answer>`` payload, or in the reply where there is none. Parts of words count, too:
    ``C. The A4 paper`` gives ``A``. Nothing where there is no such letter.

    Reference:
        github.com/TencentARC/Video-Holmes, evaluate.py.
    """
    closed = [piece.partition("<answer>") for piece in reply.split("</answer>")[:-1]]
    answers = [payload.strip() for _, tag, payload in closed if tag]
    text = answers[-1] if answers else reply
    marked = [x for x in "ABCDEF" if f"{x} " in text or f"{x}:" in text or f"[{x}" in text]
    return next(iter(marked + [x for x in "ABCDEF" if x in text]), "")


def _question(root: Path, record: Any, where: str) -> Question:
    film = check_inside(take(record, "video ID", str, where), where)
    ident = str(take(record, "Question ID", (int, str), where))
    options = take_lettered(record, "Options", where)
    qtype = take(record, "Question Type", str, where)
    return Question(
        key=f"{film}/{ident}",
        text=take(record, "Question", str, where),
        gold=take_letter(record, "Answer", options, where),
        options=options,
        media=(Medium("video", first_there(root, (f"videos/{film}.mp4", f"videos_cropped/{film}.mp4"))),),
        qtype=qtype,
        groups={"question_type": qtype},
        ident=ident,
    )
