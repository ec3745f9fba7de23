"""Where every record and clip lies in its shard: random access by key, and a length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from webdataset.tariterators import base_plus_ext

from avatar.data.shards import find_shards, list_members
from avatar.errors import DataError


@dataclass(frozen=True)
class Span:
    """A member of a shard: ``size`` bytes at ``offset``."""

    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The member's bytes.

        Raises:
            DataError: The shard ends before they do, or is gone.
        """
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                payload = file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.shard}: {error.strerror}") from None
        if len(payload) != self.size:
            raise DataError(f"{self.shard}: truncated at byte {self.offset + len(payload)}")
        return payload


@dataclass(frozen=True)
class Entry:
    """One question: its record, and the members of its sample by extension."""

    key: str
    sample: str
    record: Span
    members: dict[str, Span]


class ShardIndex:
    """All questions of a shard folder, in shard order.

    Built by reading the tar headers alone, so it costs one seek a member and no decoding.

    Args:
        folder: Holds ``*.tar``.

    Raises:
        DataError: The folder or its shards are missing, a shard is broken or holds no question, or a key comes twice
            or a sample in two shards.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.entries: list[Entry] = []
        self._by_key: dict[str, int] = {}
        home: dict[str, Path] = {}
        for shard in find_shards(folder):
            for entry in _entries(shard):
                if entry.key in self._by_key:
                    raise DataError(f"{shard}: key {entry.key!r} comes twice in {self.folder}; rename one of them")
                if home.setdefault(entry.sample, shard) != shard:
                    raise DataError(
                        f"{shard}: sample {entry.sample!r} is in {home[entry.sample]} too; rename one of them"
                    )
                self._by_key[entry.key] = len(self.entries)
                self.entries.append(entry)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, position: int) -> Entry:
        return self.entries[position]

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def by_key(self, key: str) -> Entry:
        """The question called ``key``.

        Raises:
            DataError: There is none.
        """
        if key not in self._by_key:
            raise DataError(f"{self.folder}: no record {key!r}")
        return self.entries[self._by_key[key]]

    def next_sample(self, entry: Entry) -> Entry:
        """The first question of the sample after ``entry``'s, round the end; of its own where there is no other."""
        start = self._by_key[entry.key]
        following = (self.entries[(start + i) % len(self)] for i in range(1, len(self)))
        return next((e for e in following if e.sample != entry.sample), entry)


def _entries(shard: Path) -> list[Entry]:
    samples = _samples(shard)
    entries = []
    for sample, members in samples.items():
        for extension in sorted(e for e in members if e == "json" or e.endswith(".json")):
            key = sample if extension == "json" else f"{sample}/{extension.removesuffix('.json')}"
            entries.append(Entry(key, sample, members[extension], members))
    if not entries:
        raise DataError(f"{shard}: the shard is empty (no *.json record in it)")
    return entries


def _samples(shard: Path) -> dict[str, dict[str, Span]]:
    samples: dict[str, dict[str, Span]] = {}
    for member in list_members(shard):
        sample, extension = base_plus_ext(member.name)
        if sample is None:  # no extension, or a hidden file
            continue
        members = samples.setdefault(sample, {})
        if extension.lower() in members:
            raise DataError(f"{shard}: member {member.name!r} comes twice; write the shard again with one of them")
        members[extension.lower()] = Span(shard, member.offset_data, member.size)
    return samples
