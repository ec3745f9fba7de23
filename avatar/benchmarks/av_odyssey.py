"""AV-Odyssey Bench: 26 tasks on what sounds are like, with pictures, sounds and videos within the question."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS, uncounted
from avatar.benchmarks.files import FileBenchmark, check_inside, take
from avatar.benchmarks.grades import Grade, Graded, Scoring, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import parquet_columns, read_records, take_letter, take_options, unique_keys
from avatar.benchmarks.rules.authors import grade_authors
from avatar.benchmarks.rules.mmmu import AV_ODYSSEY_FORMS, MARKS, mmmu_choice
from avatar.data.schema import Medium
from avatar.errors import DataError

_TAG = re.compile(r"\[(img|video|audio)(\d+)\]")
_KINDS = {"img": "image", "video": "video", "audio": "audio"}
_COLUMNS = ("question_id", "question_type_id", "question", "options", "answer", "subfield", "data_type")
_PATHS = ("image_path", "video_path", "audio_path")


@BENCHMARKS.register("av_odyssey")
class AVOdyssey(FileBenchmark):
    """Four options; up to four pictures and four sounds, or a video and a sound, each shown where the question has it.

    The tables in which the media themselves lie are not read: the files of ``AV_Odyssey_Bench_LMMs_Eval`` are, or a
    JSON of the same fields.

    Reference:
        AV-Odyssey Bench, arXiv 2412.02611; github.com/AV-Odyssey/AV-Odyssey, ``evaluation.py``.
    """

    title = "AV-Odyssey"
    source = "hf.co/datasets/AV-Odyssey/AV_Odyssey_Bench_LMMs_Eval, as av_odyssey.json or as parquet"
    hub = "AV-Odyssey/AV_Odyssey_Bench_LMMs_Eval"
    licence = "Apache-2.0 on the hub; academic use only by the repository"
    num_records = 4555
    media_kinds = ("image", "video", "audio")
    groups = ("subfield", "data_type", "question_type")
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 29.8,
        "+ GRPO": 31.3,
        "+ AVATAR": 32.1,
        "Ola-7B": 25.6,
        "Ola-7B + GRPO": 27.0,
        "Ola-7B + AVATAR": 28.8,
    }
    default_root = "data/benchmarks/av_odyssey"
    annotation = ("av_odyssey.json", "av_odyssey.jsonl", "av_odyssey*.parquet", "*.parquet", "data/*.parquet")

    def questions(self, root: Path) -> list[Question]:
        """Those of the table; media are named by its ``image_path``, ``video_path`` and ``audio_path``."""
        records = [item for file in self.annotation_files(root) for item in _records(file)]
        keys = unique_keys(take(record, "question_id", str, where) for where, record in records)
        return [_question(record, key, where) for key, (where, record) in zip(keys, records, strict=True)]

    def official(self, output: str, question: Question) -> Grade:
        """Any capital A to D, be it in a word; of several the first in the alphabet, unless in brackets; else ``A``."""
        texts = dict(zip(ascii_uppercase, question.options, strict=False))
        letter = mmmu_choice(output, texts, AV_ODYSSEY_FORMS, "A", MARKS)
        return read(letter == question.gold, letter)

    def authors(self, output: str, question: Question) -> Grade:
        """Their common extractor, down to any letter A to D."""
        return grade_authors(output, question.gold, fallback="A-D")

    def settle(self, graded: Sequence[Graded], scoring: Scoring) -> list[Graded]:
        """By its own rule an id counts once in a subfield: the first time."""
        if scoring != "official":
            return list(graded)
        seen: set[tuple[object, str]] = set()
        settled = []
        for one in graded:
            name = (one.question.groups.get("subfield"), one.question.ident or one.question.key)
            settled.append(uncounted(one) if name in seen else one)
            seen.add(name)
        return settled


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix == ".parquet" and not set(_PATHS) & set(parquet_columns(file)):
        raise DataError(
            f"{file}: holds the media themselves, which cannot be shown from there. Take the files of {AVOdyssey.hub}, "
            f"or save the media as files and name them in av_odyssey.json ({', '.join(_PATHS)}: lists of paths)",
            "broken annotation",
        )
    return read_records(file, (*_COLUMNS, *_PATHS))


def _question(record: Any, key: str, where: str) -> Question:
    options = take_options(record, "options", where)
    text = take(record, "question", str, where)
    found = dict(_media(record, where))
    parts, media = _interleaved(text, options, found, where)
    return Question(
        key=key,
        text=text,
        gold=take_letter(record, "answer", options, where),
        options=options,
        media=media,
        groups={
            "subfield": take(record, "subfield", str, where),
            "data_type": take(record, "data_type", str, where),
            "question_type": str(take(record, "question_type_id", (int, str), where)),
        },
        parts=parts,
        ident=take(record, "question_id", str, where),
    )


def _media(record: Any, where: str) -> Iterator[tuple[str, Medium]]:
    """(tag, medium): the first of ``audio_path`` is ``[audio1]``."""
    for tag, kind in _KINDS.items():
        names = record.get(f"{kind}_path") or []
        if not isinstance(names, list) or not all(isinstance(name, str | None) for name in names):
            raise DataError(
                f"{where}: field '{kind}_path' must be a list of paths, got {names!r:.80}", "broken annotation"
            )
        for number, name in enumerate(names, 1):
            if name:
                yield f"[{tag}{number}]", Medium(kind, check_inside(name, where))


def _interleaved(
    text: str, options: Sequence[str], found: Mapping[str, Medium], where: str
) -> tuple[tuple[Mapping[str, str], ...], tuple[Medium, ...]]:
    """The parts of the question, and the media in their order.

    A tag gives way to what it stands for; where options name tags too, it stays, before that. What no tag in the
    question stands for is shown first, after a tag of its own.
    """
    keep = any(_TAG.search(option) for option in options)
    first = "".join(tag for tag in found if tag not in text)
    pieces: list[Mapping[str, str]] = []
    media: list[Medium] = []
    text, end = first + text, 0
    for match in _TAG.finditer(text):
        if match[0] not in found:
            raise DataError(
                f"{where}: the question has {match[0]}, but names {', '.join(found) or 'no media'}", "broken annotation"
            )
        shown = match.end() if keep or match.start() < len(first) else match.start()
        pieces += [{"type": "text", "text": text[end:shown]}, {"type": found[match[0]].kind}]
        media.append(found[match[0]])
        end = match.end()
    pieces.append({"type": "text", "text": text[end:]})
    return tuple(part for part in pieces if part.get("text") != ""), tuple(media)
