"""Hints that lie beside the shards, in a file of their own: laid over the records by key, clips are not copied.

``hints.jsonl`` holds one JSON object a line, ``{"key": ..., "hint": ...}`` with whatever else tells where the hint is
from. The last line of a key counts.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from avatar.data.columns import hash_of
from avatar.data.files import Index
from avatar.data.schema import check_text
from avatar.data.sources import Span, check_location, open_seekable, size_if_there
from avatar.errors import DataError

NAME = "hints.jsonl"
MAX_LINE = 2**20  # bytes
_BLOCK = 8 * 2**20  # bytes of a remote file that are fetched at once


class Hints:
    """Where the hint of each key lies: some 20 bytes a line in memory, and each line read when it is asked for.

    A last line that was cut off, as by a writer that was killed or is at work, is left out.

    Args:
        location: The file, or its address.

    Raises:
        DataError: It is missing, or a line of it holds no key and hint.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = os.fspath(location)
        check_location(self.location)
        hashes, offsets, sizes = array("Q"), array("q"), array("i")
        self.whole = 0  # bytes up to the end of the last whole line
        with open_seekable(self.location, _BLOCK) as file:
            for number, (at, line) in enumerate(_lines(file, self.location), 1):
                key, _ = _checked(line, f"{self.location}:{number}")
                hashes.append(hash_of(key))
                offsets.append(at)
                sizes.append(len(line))
                self.whole = at + len(line)
        order = np.argsort(np.frombuffer(hashes, np.uint64), kind="stable")
        self._hashes = np.frombuffer(hashes, np.uint64)[order]
        self._offsets = np.frombuffer(offsets, np.int64)[order]
        self._sizes = np.frombuffer(sizes, np.int32)[order]

    def __len__(self) -> int:
        """Lines."""
        return len(self._hashes)

    def lines_of(self, key: str) -> tuple[Span, ...]:
        """The lines that may be of ``key``, the last first; only they can tell, see :func:`read_hint`."""
        wanted = np.uint64(hash_of(key))
        first, end = (int(np.searchsorted(self._hashes, wanted, side)) for side in ("left", "right"))
        return tuple(self._span(i) for i in range(end - 1, first - 1, -1))

    def get(self, key: str) -> dict[str, Any] | None:
        """What stands in the last line of ``key``; None if there is none."""
        return read_line(self.lines_of(key), key)

    def num_of(self, index: Index) -> int:
        """How many records of ``index`` have a hint here, told by 64 bits of their keys."""
        return int(np.isin(index.key_hashes, self._hashes).sum())

    def _span(self, i: int) -> Span:
        return Span(self.location, int(self._offsets[i]), int(self._sizes[i]))


class Overlay:
    """The hints of the records of one folder.

    Args:
        index: Of the folder.
        setting: A file or its address; ``auto`` for the files ``hints.jsonl`` that lie beside the shards, if there are
            any; None for none.

    Attributes:
        files: Those that are read.

    Raises:
        DataError: See :class:`Hints`.
    """

    def __init__(self, index: Index, setting: str | None) -> None:
        self.index = index
        self.files = [Hints(location) for location in _locations(index, setting)]

    def lines_of(self, key: str) -> tuple[Span, ...]:
        """The lines that may be of ``key``, the one that counts first."""
        return tuple(span for file in self.files for span in file.lines_of(key))

    @property
    def num_hinted(self) -> int:
        """How many records have a hint in one of the files."""
        return sum(file.num_of(self.index) for file in self.files)

    @property
    def notes(self) -> list[str]:
        """A line on each file, for the start of a run."""
        return [f"{f.location}: hints for {f.num_of(self.index):,} of {len(self.index):,} records" for f in self.files]


def _locations(index: Index, setting: str | None) -> list[str]:
    if setting is None:
        return []
    if setting != "auto":
        return [setting]
    return [location for location in beside_shards(index) if size_if_there(location)]


def beside_shards(index: Index) -> list[str]:
    """Where hints of a folder's records may lie; in several places where its shards do."""
    homes = dict.fromkeys(shard.rpartition("/")[0] if "/" in shard else "." for shard in index.shards)
    return [f"{home}/{NAME}" for home in homes]


def read_hint(lines: Sequence[Span], key: str) -> str | None:
    """The hint of ``key``, from the lines that may hold it; None if none of them does.

    Raises:
        DataError: A line is not what it was.
    """
    found = read_line(lines, key)
    return None if found is None else str(found["hint"])


def read_line(lines: Sequence[Span], key: str) -> dict[str, Any] | None:
    """What stands in the first of these lines that is of ``key``."""
    for span in lines:
        name, fields = _checked(span.read(), f"{span.shard} at byte {span.offset}")
        if name == key:
            return fields
    return None


def _lines(file: BinaryIO, where: str) -> Iterator[tuple[int, bytes]]:
    """(offset, line); without a last one that was cut off."""
    at = 0
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise DataError(f"{where}: a line at byte {at} is longer than {MAX_LINE:,} bytes, and no hint", "too large")
        if not line.endswith(b"\n") and not _is_json(line):
            return
        yield at, line
        at += len(line)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _checked(line: bytes, where: str) -> tuple[str, dict[str, Any]]:
    """(key, fields) of a line."""
    try:
        fields = json.loads(line)
        key, hint = fields["key"], fields["hint"]
        if not (isinstance(key, str) and key and isinstance(hint, str) and hint):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DataError(
            f'{where}: a line must be {{"key": "...", "hint": "..."}}; correct or remove it, or write the hints anew '
            "with: avatar hints write FOLDER",
            "broken hints",
        ) from None
    check_text(hint, where)
    return key, fields
