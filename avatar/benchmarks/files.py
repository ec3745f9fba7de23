"""Benchmarks whose files are read as they were downloaded: no conversion, no copy."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from avatar.benchmarks.base import Benchmark
from avatar.benchmarks.places import find_home
from avatar.benchmarks.question import Question, letter_of
from avatar.benchmarks.recipe import Recipe
from avatar.data.dataset import PromptDataset
from avatar.data.files import FileIndex, missing
from avatar.data.modalities import limit_media
from avatar.data.prepare import Swap
from avatar.data.prompts import PromptStyle
from avatar.data.schema import Record
from avatar.errors import DataError
from avatar.types import Prompt

BROKEN = "broken annotation"
ONE_A_LINE = 'Each line must be one whole object, such as {"id": ...}, with no list around the lines'


class FileBenchmark(Benchmark):
    """A benchmark in a folder: an annotation file, and media below the same folder.

    Attributes:
        annotation: Names of the annotation file, as patterns below the folder; the first that is there is read, and all
            files that match it.
        hub: Id of the dataset on the Hugging Face hub, to find it in the hub's cache; empty if it is not there.
    """

    annotation: ClassVar[tuple[str, ...]]
    hub: ClassVar[str] = ""
    batch_size: ClassVar[int] = 8

    @abstractmethod
    def questions(self, root: Path) -> list[Question]:
        """All questions of the annotation files in ``root``, in their order; media need not be there.

        Raises:
            DataError: There is no annotation file, or a record of it is not what the benchmark's are.
        """

    def prompts(self, root: Path | None, recipe: Recipe, swap: Swap | None = None) -> PromptDataset:
        """See :meth:`Benchmark.prompts`; the folder is found by :func:`avatar.benchmarks.places.find_home`."""
        self.home = find_home(self.title, self.source, self.annotation, self.hub, self.default_root, root)
        questions = self.questions(self.home)
        index = FileIndex(self.home, items := [(question.key, to_record(question)) for question in questions])
        self._questions, self._records = {question.key: question for question in questions}, dict(items)
        style = PromptStyle(recipe.system, recipe.letter_options)
        rule = replace(recipe.rule(), cut_audio=True, silent_videos=True, late_ends=True)
        return PromptDataset([index], style, rule, swap=swap, modalities=recipe.modalities)

    def question(self, prompt: Prompt) -> Question:
        """See :meth:`Benchmark.question`."""
        return self._questions[prompt.key]

    def question_called(self, key: str) -> Question:
        """See :meth:`Benchmark.question_called`."""
        return self._questions[key]

    def missing(self, keys: Sequence[str], recipe: Recipe, allowed: bool) -> dict[str, str]:
        """See :meth:`Benchmark.missing`."""
        shown = {key: limit_media(self._records[key], recipe.modalities).media for key in keys}
        names = list(dict.fromkeys(medium.name for media in shown.values() for medium in media))
        absent = set(missing(self.home, names))
        if absent and not allowed:
            raise DataError(self._absent(absent, names), "missing media")
        found = {key: next((m.name for m in media if m.name in absent), None) for key, media in shown.items()}
        return {key: f"{name} is not in {self.home}" for key, name in found.items() if name}

    def _absent(self, absent: set[str], names: Sequence[str]) -> str:
        first = next(name for name in names if name in absent)
        how_many = f"all {len(names)}" if len(absent) == len(names) else f"{len(absent)} of {len(names)}"
        put = f"They come from {self.source}: put" if self.hub or self.num_records else "Put"
        return (
            f"{self.title}: {how_many} media files are missing in {self.home}, the first is {first}. "
            f"{put} them below {self.home}, or count the questions about them as wrong with --allow_missing true"
        )

    def annotation_files(self, root: Path) -> list[Path]:
        """The files to read.

        Raises:
            DataError: There are none; says which are looked for.
        """
        for pattern in self.annotation:
            if found := sorted(root.glob(pattern)):
                return found
        source = f" It comes from {self.source}." if self.source else ""
        raise DataError(
            f"{self.title}: no {' or '.join(self.annotation)} in {root}.{source} Put it there as it was downloaded, or "
            "give its folder with --benchmark_root",
            "missing annotation",
        )


def to_record(question: Question) -> Record:
    """What a prompt is made of: the text with its media before it, or in the places that ``parts`` give them."""
    common = {
        "problem_type": "exact",
        "media": list(question.media),
        "use_audio_in_video": any(medium.kind == "video" for medium in question.media),
    }
    if not question.parts:
        return Record(question=question.text, options=list(question.texts), **common)  # type: ignore[arg-type]
    lines = "".join(f"\n{letter_of(i)}. {text}" for i, text in enumerate(question.texts))
    content = [dict(part) for part in question.parts] + ([{"type": "text", "text": lines}] if lines else [])
    return Record(messages=[{"role": "user", "content": content}], **common)  # type: ignore[arg-type]


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DataError: It cannot be read, or is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})", BROKEN) from None


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(``path:line``, object) of each line that is not blank.

    Raises:
        DataError: It cannot be read, or a line is no JSON object in UTF-8; names the line.
    """
    try:
        with path.open("rb") as file:  # whole lines, so that one in another encoding can be named
            for number, line in enumerate(file, 1):
                line = line.removeprefix(BOM_UTF8) if number == 1 else line
                if line.strip():
                    yield (where := f"{path}:{number}"), _json_line(line, where)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})", BROKEN) from None


def _json_line(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be read as JSON lines, {no_json(error)}. {ONE_A_LINE}", BROKEN) from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: cannot be read as JSON lines, it is {value!r:.80}. {ONE_A_LINE}", BROKEN)
    return value


def no_json(error: Exception) -> str:
    """Why one line is no JSON, without the number of a line: that error counts from the line itself."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} of the line is not in UTF-8: save the file in that encoding"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON: {error.msg} at character {error.pos + 1}"
    return f"it is no JSON: {error}"


def take(record: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A field of a record.

    Args:
        record: The record.
        name: Of the field.
        kind: Type or types that it must have.
        where: Names the record in messages.

    Raises:
        DataError: The record is no object, or the field is missing or of another type.
    """
    if not isinstance(record, Mapping) or name not in record:
        known = f"; it has {', '.join(map(str, record))}" if isinstance(record, Mapping) else ""
        raise DataError(f"{where}: field {name!r} is missing{known}", BROKEN)
    value = record[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DataError(f"{where}: field {name!r} has the wrong type {type(value).__name__}: {value!r:.80}", BROKEN)
    return value


def first_there(root: Path, names: Iterable[str]) -> str:
    """The first of ``names`` that is there below ``root``; the first of all where none is: it will be told missing."""
    names = list(names)
    return next((name for name in names if os.path.exists(root / name)), names[0])


def check_inside(name: str, where: str) -> str:
    """A path below the benchmark's folder.

    Raises:
        DataError: It is absolute or leads out of it.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise DataError(f"{where}: {name!r} leads out of the benchmark's folder", "not allowed")
    return name
