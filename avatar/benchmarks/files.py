"""Benchmarks whose files are read as they were downloaded: no conversion, no copy."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from avatar.benchmarks.base import Benchmark
from avatar.benchmarks.question import Question
from avatar.errors import DataError


class FileBenchmark(Benchmark):
    """A benchmark in a folder: an annotation file, and media below the same folder.

    Attributes:
        annotation: Names of the annotation file, as patterns below the folder; the first that is there is read, and all
            files that match it.
        hub: Id of the dataset on the Hugging Face hub, to find it in the hub's cache; empty if it is not there.
    """

    annotation: ClassVar[tuple[str, ...]]
    hub: ClassVar[str] = ""

    @abstractmethod
    def questions(self, root: Path) -> list[Question]:
        """All questions of the annotation files in ``root``, in their order; media need not be there.

        Raises:
            DataError: There is no annotation file, or a record of it is not what the benchmark's are.
        """

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


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DataError: It cannot be read, or is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})", "broken annotation") from None


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(``path:line``, value) of each line that is not blank.

    Raises:
        DataError: It cannot be read, or a line is no JSON; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", json.loads(line)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON lines ({error})", "broken annotation") from None


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
        raise DataError(f"{where}: field {name!r} is missing{known}", "broken annotation")
    value = record[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DataError(
            f"{where}: field {name!r} has the wrong type {type(value).__name__}: {value!r:.80}", "broken annotation"
        )
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
