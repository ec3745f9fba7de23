"""OmniBench: a question about a picture and a sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, read_json_lines, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question, letter_of
from avatar.benchmarks.records import take_options, unique_keys
from avatar.benchmarks.rules.authors import grade_authors
from avatar.benchmarks.rules.mmmu import OMNIBENCH_FORMS, mmmu_choice
from avatar.data.schema import Medium
from avatar.errors import DataError


@BENCHMARKS.register("omnibench")
class OmniBench(FileBenchmark):
    """Four options without letters; the gold answer is the text of one, and its letter follows from its place.

    The benchmark's own code finds that letter by parsing the text as if it were a reply, which misses or misreads some
    ("A man ..." becomes A). That is not followed here: ``official`` is its rule for replies.

    Reference:
        OmniBench, arXiv 2409.15272; github.com/multimodal-art-projection/OmniBench, ``inference/answer_parsing.py``.
    """

    title = "OmniBench"
    source = "github.com/multimodal-art-projection/OmniBench, dataset/batch-5_1142_20240817.jsonl"
    hub = "m-a-p/OmniBench"
    num_records = 1142
    media_kinds = ("image", "audio")
    groups = ("audio_type", "task_type")
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 44.2,
        "+ GRPO": 45.4,
        "+ AVATAR": 49.1,
        "Ola-7B": 45.3,
        "Ola-7B + GRPO": 46.8,
        "Ola-7B + AVATAR": 47.2,
    }
    elsewhere: ClassVar[Mapping[str, float]] = {"Qwen2.5-Omni-7B (Qwen)": 56.13}
    default_root = "data/benchmarks/omnibench"
    annotation = ("dataset/batch-5_1142_*.jsonl", "batch-5_1142_*.jsonl")

    def questions(self, root: Path) -> list[Question]:
        """Those of the JSON lines; media lie in ``mm_data/image`` and ``mm_data/audio``."""
        records = [line for file in self.annotation_files(root) for line in read_json_lines(file)]
        keys = unique_keys(str(take(record, "index", int, where)) for where, record in records)
        return [_question(record, key, where) for key, (where, record) in zip(keys, records, strict=True)]

    def official(self, output: str, question: Question) -> Grade:
        """``(C)``, else ``C`` before a blank, else ``C.``, else the option's text; ``N/A`` is wrong and counts."""
        texts = dict(zip(ascii_uppercase, question.options, strict=False))
        letter = mmmu_choice(output, texts, OMNIBENCH_FORMS)
        return read(letter == question.gold, letter)

    def authors(self, output: str, question: Question) -> Grade:
        """Their common extractor, compared in capitals."""
        return grade_authors(output, question.gold, fold=True)


def _question(record: Any, key: str, where: str) -> Question:
    options = take_options(record, "options", where)
    return Question(
        key=key,
        text=take(record, "question", str, where),
        gold=_gold(take(record, "answer", str, where), options, where),
        options=options,
        media=tuple(_media(record, where)),
        groups={
            "audio_type": take(record, "audio type", str, where).strip().lower(),
            "task_type": take(record, "task type", str, where).strip(),
        },
    )


def _gold(answer: str, options: tuple[str, ...], where: str) -> str:
    for wanted, texts in ((answer, options), (answer.strip(), tuple(option.strip() for option in options))):
        if wanted in texts:
            return letter_of(texts.index(wanted))
    raise DataError(f"{where}: the answer {answer!r} is none of the options {list(options)}", "broken annotation")


def _media(record: Any, where: str) -> Iterator[Medium]:
    for kind in ("image", "audio"):
        name = take(record, f"{kind}_path", str, where)
        yield Medium(kind, check_inside(f"mm_data/{kind}/{name}", where))
