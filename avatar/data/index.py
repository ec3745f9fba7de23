"""Where every record and clip lies in its shard: random access by key, and a length."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from avatar.data.columns import Columns, HashTable, join_columns, key_of, to_columns
from avatar.data.members import MAX_SIDECAR, list_members, scan_tar, sidecar_of, to_sidecar
from avatar.data.schema import Record, check_texts, parse_record
from avatar.data.sources import Span, find_shards, is_remote, size_of
from avatar.errors import DataError

_THREADS = 16  # that wait for a network; each shard takes one or two requests where it has a sidecar
_QUIET = 2.0  # seconds before a progress bar is shown


@dataclass(frozen=True)
class Entry:
    """One question, in a shard or about plain files.

    Attributes:
        key: Of the question.
        sample: Names what it shows: the sample of a shard, or a set of files. Decoded clips are shared within it.
        record: Where the record lies, or the record itself.
        members: The files of the sample: by extension in a shard, else by path below ``folder``.
        folder: Of the plain files; empty in a shard.
        frames: Of each folder that is shown as a film, its images in order.
    """

    key: str
    sample: str
    record: Span | Record
    members: dict[str, Span]
    folder: str = ""
    frames: dict[str, tuple[Span, ...]] = field(default_factory=dict)

    @property
    def home(self) -> str:
        """The shard, or the folder of the files."""
        return self.record.shard if isinstance(self.record, Span) else self.folder

    @property
    def where(self) -> str:
        """Names the question in messages."""
        return f"{self.home}: {self.key}"

    def file_name(self, name: str) -> str:
        """A medium as people would look for it: ``SAMPLE.mp4`` in a shard, else a path."""
        return f"{self.sample}.{name}" if isinstance(self.record, Span) else os.path.join(self.folder, name)

    def read_record(self) -> Record:
        """The record, checked.

        Raises:
            DataError: It cannot be read or is wrong; of one that is in memory only the texts are looked at.
        """
        if isinstance(self.record, Span):
            return parse_record(self.record.read(), self.where)
        check_texts(self.record, self.where)
        return self.record


class ShardIndex:
    """All questions of a shard folder, in shard order.

    Built from the sidecars ``NAME.index.json`` where there are any, else by reading the tar headers: one seek a member
    and no decoding. Entries are made when they are asked for; what is kept takes some 50 bytes a member.

    Args:
        folder: Holds ``*.tar``: a path, a URL, or a list in braces; see :func:`avatar.data.sources.find_shards`.

    Attributes:
        folder: As it was given.
        shards: Their paths or URLs.
        shard_sizes: How many questions each of them holds.

    Raises:
        DataError: The folder or its shards are missing, a shard is broken, holds no question or what is not allowed,
            or a key comes twice or a sample in two shards.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = os.fspath(folder)
        self.shards = find_shards(folder)
        self._columns = columns = join_columns(list(_shown(_read(self.shards), len(self.shards))))
        self._samples_of = columns.sample_of(columns.questions).astype(np.int32)
        homes = columns.shards[self._samples_of]
        self.shard_sizes: list[int] = np.bincount(homes).tolist()  # none is empty
        self._by_key = HashTable(columns.keys(), len(self), columns.key)
        if twice := self._by_key.twice():
            home, key = self.shards[homes[twice[1]]], columns.key(twice[1])
            raise DataError(f"{home}: key {key!r} comes twice in {self.folder}; rename one of them", "duplicate key")
        self._check_samples()

    def _check_samples(self) -> None:
        columns, total = self._columns, len(self._columns.name_ends)
        if twice := HashTable(map(columns.name, range(total)), total, columns.name).twice():
            first, later = (self.shards[columns.shards[sample]] for sample in twice)
            raise DataError(
                f"{later}: sample {columns.name(twice[1])!r} is in {first} too; rename one of them", "duplicate key"
            )

    def __len__(self) -> int:
        return len(self._columns.questions)

    def __getitem__(self, position: int) -> Entry:
        if not -len(self) <= position < len(self):
            raise IndexError(f"question {position} of {len(self)}")
        columns, sample = self._columns, int(self._samples_of[position])
        shard, name = self.shards[columns.shards[sample]], columns.name(sample)
        members = {
            columns.kinds[columns.extensions[i]]: Span(shard, int(columns.offsets[i]), int(columns.sizes[i]))
            for i in columns.members(sample)
        }
        record = columns.kinds[columns.extensions[columns.questions[position]]]
        return Entry(key_of(name, record), name, members[record], members)

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(len(self)))

    def __contains__(self, key: str) -> bool:
        return self._by_key.find(key) is not None

    def keys(self) -> Iterator[str]:
        """Those of all questions, in order; no entries are made for them."""
        return self._columns.keys()

    @property
    def key_hashes(self) -> NDArray[np.uint64]:
        """[questions], sorted: 64 bits of each key."""
        return self._by_key.hashes

    def by_key(self, key: str) -> Entry:
        """The question called ``key``.

        Raises:
            DataError: There is none.
        """
        return self[self._position(key)]

    def _position(self, key: str) -> int:
        position = self._by_key.find(key)
        if position is None:
            raise DataError(f"{self.folder}: no record {key!r}")
        return position

    def next_sample(self, entry: Entry) -> Entry:
        """The first question of the sample after ``entry``'s, round the end; of its own where there is no other."""
        sample = self._samples_of[self._position(entry.key)]
        following = int(np.searchsorted(self._samples_of, sample, side="right")) % len(self)
        return self[following]


def write_shard_index(shard: Path) -> Path:
    """Write the sidecar of a local shard, whole or not at all.

    Raises:
        DataError: See :func:`avatar.data.members.scan_tar`; or it has too many members for one.
    """
    members, sidecar = scan_tar(str(shard)), Path(sidecar_of(str(shard)))
    raw = to_sidecar(size_of(str(shard)), members)
    if len(raw) > MAX_SIDECAR:
        raise DataError(f"{shard}: {len(members):,} members are too many for one; write smaller shards", "too large")
    partial = sidecar.with_name(f".{sidecar.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(raw)
        partial.replace(sidecar)
    finally:
        partial.unlink(missing_ok=True)
    return sidecar


def _columns_of(shard: str) -> Columns:
    return to_columns(shard, list_members(shard))


def _read(shards: list[str]) -> Iterator[Columns]:
    if not any(map(is_remote, shards)):
        yield from map(_columns_of, shards)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(_columns_of, shards)


def _shown(parts: Iterable[Columns], total: int) -> Iterator[Columns]:
    """The same, with a progress bar if it takes a while; in a run of several processes the first one shows it."""
    begun, task = time.monotonic(), None
    with ExitStack() as stack:
        progress = Progress(console=Console(stderr=True), transient=True)
        for done, part in enumerate(parts, 1):
            yield part
            if task is None and time.monotonic() - begun > _QUIET and os.environ.get("LOCAL_RANK", "0") == "0":
                task = stack.enter_context(progress).add_task("reading the index of the shards", total=total)
            if task is not None:
                progress.update(task, completed=done)
