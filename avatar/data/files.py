"""Questions about plain files below one folder: for benchmarks, which are read as they were downloaded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar.data.columns import HashTable
from avatar.data.index import Entry, ShardIndex
from avatar.data.schema import Record
from avatar.data.sources import Span
from avatar.errors import DataError

FRAMES = (".jpg", ".jpeg", ".png", ".webp")  # the images that make a folder a film
_DIGITS = re.compile(r"([0-9]+)")


class FileIndex:
    """Questions whose media are files, in the order given; an index as a :class:`ShardIndex` is one.

    A medium is named by its path below ``root``; a folder of images is a film. A file is looked for when the first
    question about it is asked, and what is not there is missed by its own questions alone. Questions that show the same
    files are of one sample, wherever they stand; one that shows none is a sample of its own.

    Args:
        root: The folder.
        items: (key, record) of each question. The records need no answer; their texts are checked when they are asked.

    Attributes:
        folder: As it was given.
        shards: Empty: it has none, and no hints beside them.
        shard_sizes: All questions, as if of one shard.

    Raises:
        DataError: A key comes twice.
    """

    def __init__(self, root: str | Path, items: Sequence[tuple[str, Record]]) -> None:
        self.folder = os.fspath(root)
        self.shards: list[str] = []
        self.shard_sizes = [len(items)]
        self._root, self._items = os.path.abspath(root), list(items)
        self._by_key = HashTable(self.keys(), len(items), lambda position: self._items[position][0])
        if twice := self._by_key.twice():
            key = self._items[twice[1]][0]
            raise DataError(f"{self.folder}: two questions have the key {key!r}; rename one of them", "duplicate key")
        self._samples = [_sample(record) or key for key, record in self._items]
        alike: dict[tuple[object, ...], dict[str, int]] = {}  # by kinds: the first question of each sample
        for position, (_, record) in enumerate(self._items):
            alike.setdefault(_kinds(record), {}).setdefault(self._samples[position], position)
        self._next = {kinds: _following(first) for kinds, first in alike.items()}
        self._found: dict[str, Span | tuple[Span, ...] | None] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, position: int) -> Entry:
        if not -len(self) <= position < len(self):
            raise IndexError(f"question {position} of {len(self)}")
        key, record = self._items[position]
        found = {medium.name: self._find(medium.name) for medium in record.media}
        members = {name: place for name, place in found.items() if isinstance(place, Span)}
        frames = {name: place for name, place in found.items() if isinstance(place, tuple)}
        return Entry(key, self._samples[position], record, members, self.folder, frames)

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(len(self)))

    def __contains__(self, key: str) -> bool:
        return self._by_key.find(key) is not None

    def keys(self) -> Iterator[str]:
        """Those of all questions, in order."""
        return (key for key, _ in self._items)

    @property
    def key_hashes(self) -> NDArray[np.uint64]:
        """[questions], sorted: 64 bits of each key."""
        return self._by_key.hashes

    def by_key(self, key: str) -> Entry:
        """The question called ``key``.

        Raises:
            DataError: There is none.
        """
        position = self._by_key.find(key)
        if position is None:
            raise DataError(f"{self.folder}: no question {key!r}")
        return self[position]

    def next_sample(self, entry: Entry) -> Entry | None:
        """The first question of the next other sample that shows media of the same kinds in the same order.

        Its films are heard if those of ``entry`` are. Round the end; None where there is no other such sample.
        """
        assert isinstance(entry.record, Record)
        following = self._next[_kinds(entry.record)][entry.sample]
        return None if self._samples[following] == entry.sample else self[following]

    def _find(self, name: str) -> Span | tuple[Span, ...] | None:
        if name not in self._found:
            self._found[name] = _look_up(os.path.join(self._root, name))
        return self._found[name]


Index = ShardIndex | FileIndex


def missing(root: str | Path, names: Iterable[str]) -> list[str]:
    """Which of these paths below ``root`` are neither files nor folders of frames; each folder is listed once."""
    there: dict[str, dict[str, os.DirEntry[str]]] = {}

    def is_there(name: str) -> bool:
        home, last = os.path.split(os.path.normpath(os.path.join(root, name)))
        if home not in there:
            there[home] = {entry.name: entry for entry in _list(home)}
        entry = there[home].get(last)
        return entry is not None and (entry.is_file() or bool(_frames(_list(entry.path))))

    return [name for name in names if not is_there(name)]


def _look_up(path: str) -> Span | tuple[Span, ...] | None:
    """A file, or the frames of a folder; None where there is neither."""
    if os.path.isfile(path):
        return Span(path, 0, os.path.getsize(path))
    frames = _frames(_list(path))
    return tuple(Span(frame.path, 0, frame.stat().st_size) for frame in frames) or None


def _list(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _frames(entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """The images among them, ``2.jpg`` before ``10.jpg``."""
    shown = [e for e in entries if e.name.lower().endswith(FRAMES) and not e.name.startswith(".") and e.is_file()]
    return sorted(shown, key=lambda entry: (_natural(entry.name), entry.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Runs of digits by their value."""
    return [(int(part) if i % 2 else 0, "" if i % 2 else part) for i, part in enumerate(_DIGITS.split(name))]


def _sample(record: Record) -> str:
    """Names the set of files that are shown."""
    return " | ".join(sorted({medium.name for medium in record.media}))


def _kinds(record: Record) -> tuple[object, ...]:
    return record.use_audio_in_video, *(medium.kind for medium in record.media)


def _following(first: dict[str, int]) -> dict[str, int]:
    """From each sample to the first question of the one after it, round the end."""
    places = list(first.values())
    return dict(zip(first, places[1:] + places[:1], strict=True))
