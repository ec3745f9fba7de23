"""The records that want hints: of a shard folder, or of a file before it is packed."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from avatar.data.dataset import Decoders
from avatar.data.hints import Hints, beside_shards
from avatar.data.index import Entry, ShardIndex
from avatar.data.pack.files import MediaFiles
from avatar.data.pack.formats import Row, Shown
from avatar.data.pack.ours import OursFormat
from avatar.data.pack.plan import FileRef
from avatar.data.prepare import Task
from avatar.data.prompts import PromptStyle
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record, record_from_fields
from avatar.data.skipped import Failure
from avatar.data.sources import Span, is_remote
from avatar.errors import ConfigError, DataError
from avatar.types import Prompt


class Records(ABC):
    """Records in an order, each with the place of its media."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def entries(self) -> Iterator[Entry | Failure]:
        """All of them; a failure where one cannot be read."""

    @abstractmethod
    def place(self, out: str | None) -> Path:
        """Where the hints are written to.

        Raises:
            ConfigError: It cannot be there.
        """

    def finish(self, out: str | None) -> Path | None:
        """Lay the hints over the records where that makes another file; returns it."""
        return None


class ShardRecords(Records):
    """Those of a shard folder; hints lie beside the shards, which stay as they are."""

    def __init__(self, folder: str) -> None:
        self.index = ShardIndex(folder)

    def __len__(self) -> int:
        return len(self.index)

    def entries(self) -> Iterator[Entry | Failure]:
        """In shard order."""
        return iter(self.index)

    def place(self, out: str | None) -> Path:
        """``hints.jsonl`` beside the shards, or ``out``."""
        if out is not None:
            return Path(out)
        first, *more = beside_shards(self.index)
        if more or is_remote(first):
            why = "its shards lie in several folders" if more else "it is remote"
            raise ConfigError(
                f"{self.index.folder}: {why}, so there is no place beside the shards to write to; give --out FILE, and "
                "train with --data.hints FILE"
            )
        return Path(first)


@dataclass(frozen=True)
class _Given(Span):
    """A record that is in memory already."""

    payload: bytes = field(default=b"", repr=False)

    def read(self) -> bytes:
        """The record."""
        return self.payload


class LineRecords(Records):
    """Those of a JSONL file of ours; what comes of it is another one, with the hints filled in.

    A record without a ``key`` is known by a digest of all its fields, wherever it stands.
    """

    def __init__(self, source: Path, media_root: str | None) -> None:
        self.source, self.reader = source, OursFormat(source)
        root = Path(media_root) if media_root else source.parent
        if not root.is_dir():
            raise ConfigError(f"--media_root {root}: no such folder")
        self.media = MediaFiles(root, self.reader, root)
        first = next((row.fields for row in self.reader.rows() if row.fields), None)
        if first is None or not OursFormat.fits(first):
            raise ConfigError(
                f"{source}: no JSONL of our records (its first record has the fields {', '.join(first or ['none'])}). "
                "Pack it first (avatar data pack), then write hints for the folder"
            )
        self._total = sum(1 for _ in self.reader.rows())

    def __len__(self) -> int:
        return self._total

    def entries(self) -> Iterator[Entry | Failure]:
        """Line by line."""
        seen: dict[int, str] = {}
        for row in self.reader.rows():
            try:
                key = _key(row)
                first = seen.setdefault(hash(key), row.origin) if "key" in (row.fields or {}) else row.origin
                if first != row.origin:
                    raise DataError(f"the key {key!r} is that of {first} too; rename one of them", "duplicate key")
                yield self._entry(row, key)
            except DataError as error:
                yield Failure(row.origin, f"{self.source}: {row.origin}: {error}", error.cause)

    def place(self, out: str | None) -> Path:
        """``NAME.hints.jsonl`` beside the file to be written."""
        target = self.target(out)
        place = target.with_name(f"{target.stem}.hints.jsonl")
        if target.resolve() == self.source.resolve():
            raise ConfigError(f"--out {target} is the source itself; choose another file")
        if target.exists() and not place.exists():
            raise ConfigError(f"{target} is there, and not by this command; choose another --out, or remove it")
        return place

    def target(self, out: str | None) -> Path:
        """``NAME.hinted.jsonl`` beside the source, or ``out``."""
        return Path(out) if out is not None else self.source.with_name(f"{self.source.stem}.hinted.jsonl")

    def finish(self, out: str | None) -> Path:
        """Write all records that can be read, in their order, whole or not at all."""
        target, hints, seen = self.target(out), Hints(self.place(out)), set[int]()
        partial = target.with_name(f".{target.name}.partial")
        with partial.open("wb") as file:
            for row in self.reader.rows():
                if row.fields is None:
                    continue
                key, fields = _key(row), dict(row.fields)
                twice = "key" in fields and hash(key) in seen  # another record by the name of one that was asked
                if not twice and (found := hints.get(key)):
                    fields["hint"] = found["hint"]
                seen.add(hash(key))
                file.write(json.dumps(fields).encode() + b"\n")
        partial.replace(target)
        return target

    def _entry(self, row: Row, key: str) -> Entry:
        assert row.fields is not None
        draft = self.reader.read(row.fields)
        media = [Medium(s.kind, _name(s), s.start, s.end) for s in draft.media]
        fields = {**draft.fields, "media": [medium.to_fields() for medium in media]}
        record = record_from_fields(fields, row.origin).to_json()
        paths = {medium.name: self.media.find(FileRef(medium.name), 0) for medium in media}
        members = {name: Span(str(path), 0, path.stat().st_size) for name, path in paths.items()}
        return Entry(key, key, _Given(str(self.source), 0, len(record), record), members)


def _key(row: Row) -> str:
    if row.fields is None:
        raise row.error or DataError("the line cannot be read")
    if key := row.fields.get("key"):
        return str(key)
    given = {name: value for name, value in row.fields.items() if name != "hint"}
    return f"record-{hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]}"


def _name(shown: Shown) -> str:
    if not isinstance(shown.file, str):
        raise DataError("media in the record itself are not read here; pack it first, then write hints for the folder")
    return shown.file


def open_records(data: str, media_root: str | None) -> Records:
    """Those of a JSONL file, or of a shard folder or its address.

    Raises:
        DataError: There are none.
        ConfigError: The file is none of ours.
    """
    path = Path(data)
    if not is_remote(data) and path.suffix in (".jsonl", ".json"):
        if not path.is_file():
            raise DataError(f"{data}: no such file")
        return LineRecords(path, media_root)
    if media_root is not None:
        raise ConfigError("--media_root is for JSONL files; the media of shards lie in them")
    return ShardRecords(data)


def read_record(entry: Entry) -> Record | Failure:
    """The record itself, without its media."""
    try:
        return entry.read_record()
    except DataError as error:
        return Failure(entry.key, str(error), error.cause)


def decode(
    entries: Iterator[Entry | Failure], decoders: Decoders, rule: ClipRule, ahead: int
) -> Iterator[Prompt | Failure]:
    """What becomes of each, in order, ``ahead`` of them on their way before they are asked for."""
    waiting: list[tuple[Entry, int] | Failure] = []

    def collect() -> Prompt | Failure:
        first = waiting.pop(0)
        if isinstance(first, Failure):
            return first
        entry, ticket = first
        try:
            return decoders.collect(ticket)
        except DataError as error:
            reason = str(error)
            known = any(map(reason.startswith, (entry.home, *(span.shard for span in entry.members.values()))))
            return Failure(entry.key, reason if known else f"{entry.where}: {reason}", error.cause)

    for item in entries:
        waiting.append(item if isinstance(item, Failure) else (item, decoders.submit(_task(item, rule))))
        if len(waiting) >= ahead:
            yield collect()
    while waiting:
        yield collect()


def _task(entry: Entry, rule: ClipRule) -> Task:
    return Task(entry, PromptStyle(), rule)
