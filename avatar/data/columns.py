"""Millions of members in a few flat arrays: some 50 bytes each, where Python's own objects take a kilobyte.

S samples, M members, E questions. The members of a sample lie together, in the order of their extensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from avatar.data.members import Member, is_record
from avatar.errors import DataError

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """The samples of one shard or of many.

    Attributes:
        names: The samples' names in UTF-8, one after another.
        name_ends: [S], where each ends in ``names``.
        member_ends: [S], where the members of each end in the columns below.
        shards: [S] int32, the number of the shard that each lies in.
        kinds: The different extensions that there are.
        extensions: [M] int32, which of ``kinds`` each member has.
        offsets: [M], where its bytes begin in the shard.
        sizes: [M], how many they are.
        questions: [E], the members that are records, ascending.
    """

    names: bytes
    name_ends: Array
    member_ends: Array
    shards: NDArray[np.int32]
    kinds: list[str]
    extensions: NDArray[np.int32]
    offsets: Array
    sizes: Array
    questions: Array

    def sample_of(self, members: Array) -> Array:
        """Which sample each of these members belongs to."""
        return np.searchsorted(self.member_ends, members, side="right")

    def name(self, sample: int) -> str:
        """Its name."""
        return self.names[self._start(self.name_ends, sample) : self.name_ends[sample]].decode()

    def members(self, sample: int) -> range:
        """Its members."""
        return range(self._start(self.member_ends, sample), int(self.member_ends[sample]))

    def key(self, question: int) -> str:
        """What a question is called: by its sample, and by what its extension says before ``json``."""
        member = self.questions[question]
        return key_of(self.name(int(self.sample_of(member))), self.kinds[self.extensions[member]])

    def keys(self) -> Iterator[str]:
        """Those of all questions, in order."""
        step = 65_536  # some at a time: no list of all
        for start in range(0, len(self.questions), step):
            members = self.questions[start : start + step]
            samples, extensions = self.sample_of(members), self.extensions[members]
            for sample, extension in zip(samples.tolist(), extensions.tolist(), strict=True):
                yield key_of(self.name(sample), self.kinds[extension])

    @staticmethod
    def _start(ends: Array, i: int) -> int:
        return int(ends[i - 1]) if i else 0


def key_of(sample: str, extensions: str) -> str:
    """``SAMPLE`` for ``SAMPLE.json``, ``SAMPLE/NAME`` for ``SAMPLE.NAME.json``."""
    return sample if extensions == "json" else f"{sample}/{extensions.removesuffix('.json')}"


def to_columns(shard: str, members: Sequence[Member]) -> Columns:
    """The columns of one shard.

    Raises:
        DataError: A member comes twice, or none is a record.
    """
    samples: dict[str, dict[str, int]] = {}
    for number, (sample, extensions, _, _) in enumerate(members):
        if samples.setdefault(sample, {}).setdefault(extensions, number) != number:
            raise DataError(
                f"{shard}: member {f'{sample}.{extensions}'!r} comes twice; write the shard again with one of them",
                "duplicate key",
            )
    kinds: dict[str, int] = {}
    ordered = [item for slots in samples.values() for item in sorted(slots.items())]
    column = np.array([kinds.setdefault(extensions, len(kinds)) for extensions, _ in ordered], np.int32)
    questions = np.flatnonzero(np.array([is_record(kind) for kind in kinds], bool)[column])
    if not len(questions):
        raise DataError(f"{shard}: the shard is empty (no *.json record in it)", "broken shard")
    names = [sample.encode() for sample in samples]
    return Columns(
        names=b"".join(names),
        name_ends=np.cumsum([len(name) for name in names], dtype=np.int64),
        member_ends=np.cumsum([len(slots) for slots in samples.values()], dtype=np.int64),
        shards=np.zeros(len(samples), np.int32),
        kinds=list(kinds),
        extensions=column,
        offsets=np.array([members[i][2] for _, i in ordered], np.int64),
        sizes=np.array([members[i][3] for _, i in ordered], np.int64),
        questions=questions,
    )


def join_columns(parts: Sequence[Columns]) -> Columns:
    """The columns of many shards, in their order."""
    kinds: dict[str, int] = {}
    numbers = [np.array([kinds.setdefault(kind, len(kinds)) for kind in part.kinds], np.int32) for part in parts]
    bytes_before = np.cumsum([0, *(len(part.names) for part in parts)])
    members_before = np.cumsum([0, *(len(part.offsets) for part in parts)])

    def joined(column: Callable[[Columns], Array], before: Array) -> Array:
        return np.concatenate([column(part) + start for part, start in zip(parts, before, strict=False)])

    return Columns(
        names=b"".join(part.names for part in parts),
        name_ends=joined(lambda part: part.name_ends, bytes_before),
        member_ends=joined(lambda part: part.member_ends, members_before),
        shards=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.shards) for part in parts]),
        kinds=list(kinds),
        extensions=np.concatenate([lut[part.extensions] for lut, part in zip(numbers, parts, strict=True)]),
        offsets=np.concatenate([part.offsets for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        questions=joined(lambda part: part.questions, members_before),
    )


class HashTable:
    """Positions by name: sorted 64-bit hashes, 12 bytes a name, whose names are compared before one is believed.

    Args:
        names: All names, in order of position.
        total: How many.
        name_at: The name at a position.

    Attributes:
        hashes: [total] uint64, sorted.
    """

    def __init__(self, names: Iterable[str], total: int, name_at: Callable[[int], str]) -> None:
        hashes = np.fromiter(map(hash_of, names), np.uint64, total)
        order = np.argsort(hashes, kind="stable")
        self.hashes, self._order = hashes[order], order.astype(np.int32)
        self._name_at = name_at

    def find(self, name: str) -> int | None:
        """The first position of ``name``."""
        wanted = np.uint64(hash_of(name))
        for i in range(int(np.searchsorted(self.hashes, wanted)), len(self.hashes)):
            if self.hashes[i] != wanted:
                break
            if self._name_at(position := int(self._order[i])) == name:
                return position
        return None

    def twice(self) -> tuple[int, int] | None:
        """Two positions of one name, if there are any."""
        for i in np.flatnonzero(self.hashes[1:] == self.hashes[:-1]).tolist():
            later = int(self._order[i + 1])
            first = self.find(self._name_at(later))
            if first is not None and first != later:
                return first, later
        return None


def hash_of(name: str) -> int:
    """64 bits of it."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
