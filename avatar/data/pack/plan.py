"""First pass: all records read and checked but for their media, and those that show the same files put together.

What comes of it depends on the source and the options alone, not on which media are there: a pack that was interrupted
makes the same plan again. Records wait in a file; a number or two for each stay in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avatar.data.members import MAX_RECORD
from avatar.data.pack.formats import Draft, Embedded, Row, SourceFormat
from avatar.data.pack.names import Names, clean_key
from avatar.data.schema import Medium, record_from_fields
from avatar.errors import DataError

KEPT_KEY = "source_key"  # where the metadata keep what the source called a record
_MARGIN = 2**16  # bytes by which a record in a shard may be longer than while it waits
_SHORT = 300  # characters of a message that quotes the source


@dataclass(frozen=True)
class FileRef:
    """A file that records show: a path as the source has it, or bytes in the source itself.

    Attributes:
        name: The path; of bytes, what they were called, or nothing.
        digest: sha256 of the bytes, or None.
    """

    name: str
    digest: str | None = None


@dataclass(frozen=True)
class Planned:
    """A record that waits for its media.

    Attributes:
        key: What the index will call it.
        name: What it is called within its sample; empty where it is the only one.
        origin: Where it stands in the source.
        fields: Of the schema, without ``key`` and ``media``.
        media: ``name`` counts the files of its group.
        source_key: What the source calls it, or None.
    """

    key: str
    name: str
    origin: str
    fields: dict[str, Any]
    media: list[Medium]
    source_key: str | None


@dataclass(frozen=True)
class Group:
    """The records that show the same files: one sample, in which each file is stored once.

    Attributes:
        sample: Its name.
        row: How many rows of the source come before that of its first record.
        files: What all of them show.
        records: In the order of the source.
    """

    sample: str
    row: int
    files: list[FileRef]
    records: list[Planned]


@dataclass(frozen=True)
class Quarantined:
    """A record that is not packed, and why."""

    key: str | None
    origin: str
    media: list[str]
    cause: str
    reason: str

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps(self.__dict__).encode() + b"\n"


@dataclass
class Plan:
    """What is to be packed, and what cannot be.

    Attributes:
        spool: Records, one a line.
        num_rows: Records in the source.
        num_left_out: Of these, how many are of a problem type that was not asked for.
        samples: Names of the groups.
    """

    spool: Path
    num_rows: int = 0
    num_left_out: int = 0
    samples: list[str] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)  # of the records
    _keys: list[str] = field(default_factory=list)  # the source's own, or made from the number of the row
    _own: bytearray = field(default_factory=bytearray)  # which of the two
    _offsets: array[int] = field(default_factory=lambda: array("q"))
    _group: array[int] = field(default_factory=lambda: array("q"))
    _order: np.ndarray[Any, Any] = field(default_factory=lambda: np.empty(0, int))
    _starts: np.ndarray[Any, Any] = field(default_factory=lambda: np.empty(0, int))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def num_records(self) -> int:
        """Records that wait for their media."""
        return len(self._offsets)

    def groups(self, start: int = 0) -> Iterator[Group]:
        """The groups in the order of their first records, from number ``start`` on."""
        with self.spool.open("rb") as spool:
            for number in range(start, len(self)):
                lines = []
                for i in self._members(number):
                    spool.seek(self._offsets[i])
                    lines.append((i, json.loads(spool.readline())))
                yield self._build(number, lines)

    def _shown(self, record: int) -> str:
        """The name of the first file that a record shows."""
        with self.spool.open("rb") as spool:
            spool.seek(self._offsets[record])
            return str(json.loads(spool.readline())["media"][0][1])

    def _members(self, number: int) -> list[int]:
        stop = self._starts[number + 1] if number + 1 < len(self) else len(self._order)
        return [int(i) for i in self._order[self._starts[number] : stop]]

    def _build(self, number: int, lines: list[tuple[int, dict[str, Any]]]) -> Group:
        files: list[FileRef] = []
        places: dict[str, int] = {}
        records = []
        for i, line in lines:
            media = []
            for kind, name, digest, start, end in line["media"]:
                place = places.setdefault(digest or f"path {name}", len(places))
                files += [FileRef(name, digest)] if place == len(files) else []
                media.append(Medium(kind, str(place), start, end))
            key = f"{self.samples[number]}/{self._names[i]}" if self._names[i] else self.samples[number]
            records.append(Planned(key, self._names[i], line["origin"], line["fields"], media, line["key"]))
        return Group(self.samples[number], lines[0][1]["row"], files, records)

    def add(self, offset: int, group: int, key: str, own: bool) -> None:
        """A record that stands at ``offset`` of the spool."""
        self._offsets.append(offset)
        self._group.append(group)
        self._keys.append(key)
        self._own.append(own)

    def finish(self) -> None:
        """Sort the records by group and give all their names."""
        groups = np.frombuffer(self._group, dtype=np.int64) if self._group else np.empty(0, np.int64)
        self._order = np.argsort(groups, kind="stable")
        num = int(groups.max()) + 1 if len(groups) else 0
        self._starts = np.searchsorted(groups[self._order], np.arange(num))
        self.samples, self._names = [""] * num, [""] * len(groups)
        keys, names, late = self._keys, Names(), []
        for number in range(num):  # first those that keep their own key as it is
            members = self._members(number)
            if len(members) == 1 and self._own[members[0]] and names.reserve(keys[members[0]]):
                self.samples[number] = keys[members[0]]
            else:
                late.append(number)
        for number in late:
            members = self._members(number)
            if len(members) == 1:
                self.samples[number] = names.one(keys[members[0]])
                continue
            self.samples[number], given = names.several([keys[i] for i in members], self._shown(members[0]))
            for i, name in zip(members, given, strict=True):
                self._names[i] = name
        self._keys = []


def make_plan(
    source: SourceFormat,
    spool: Path,
    quarantine: Callable[[Quarantined], None],
    problem_types: Sequence[str] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Plan:
    """Read the whole source, light as it is without its media.

    Args:
        source: What to read.
        spool: File to let the records wait in.
        quarantine: Takes what cannot be read.
        problem_types: Those wanted; None is all.
        advance: Called once a row.
    """
    plan, homes, owners = Plan(spool), dict[bytes, int](), dict[str, str]()
    stem = clean_key(source.source.name.partition(".")[0]) or "record"
    with spool.open("wb") as file:
        for number, row in enumerate(source.rows()):
            plan.num_rows += 1
            advance()
            draft = None
            try:
                draft = _draft(source, row)
                _check(draft, row.origin)
                if problem_types and draft.fields.get("problem_type", "exact") not in problem_types:
                    plan.num_left_out += 1
                    continue
                if source.unique_keys and draft.key is not None:
                    _claim(draft.key, row.origin, owners)
                refs = [_ref(shown.file) for shown in draft.media]
                line = _line(draft, refs, row.origin, number)
            except DataError as error:
                quarantine(_quarantined(draft, row, error))
                continue
            key = draft.key if draft.key is not None else f"{stem}-{number + 1:06d}"
            group = homes.setdefault(_identity(refs, number), len(homes))
            plan.add(file.tell(), group, key, draft.key is not None)
            file.write(line)
    plan.finish()
    return plan


def _draft(source: SourceFormat, row: Row) -> Draft:
    """A row in our fields."""
    if row.fields is None:
        assert row.error is not None
        raise row.error
    return source.read(row.fields)


def _check(draft: Draft, origin: str) -> None:
    """See that the schema takes it."""
    media = [{shown.kind: "file", "start": shown.start, "end": shown.end} for shown in draft.media]
    record_from_fields({**draft.fields, "media": media}, origin)
    for shown in draft.media:
        if isinstance(shown.file, str):
            _check_name(shown.file)


def _check_name(name: str) -> None:
    if "://" in name or name.startswith(("data:", "pipe:")):
        message = (
            f"{name[:_SHORT]!r} is no path; fetch the file first, put it below --media_root and name it by its path"
        )
        raise DataError(message, "not allowed")
    if "\0" in name or len(name) > 4096:
        raise DataError(f"{name[:60]!r} is no name that a file can have", "not allowed")


def _claim(key: str, origin: str, owners: dict[str, str]) -> None:
    if key in owners:
        raise DataError(f"the key {key!r} is that of {owners[key]} too; rename one of them", "duplicate key")
    owners[key] = origin


def _line(draft: Draft, refs: list[tuple[str, str | None]], origin: str, row: int) -> bytes:
    media = [(shown.kind, *ref, shown.start, shown.end) for shown, ref in zip(draft.media, refs, strict=True)]
    line = {"origin": origin, "row": row, "key": draft.key, "fields": draft.fields, "media": media}
    try:
        raw = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        raise DataError("the text is not UTF-8: it holds half of a surrogate pair, or bytes that are none") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"the record cannot be written as JSON ({error})") from None
    if len(raw) > MAX_RECORD - _MARGIN:
        raise DataError(f"the record has more than {MAX_RECORD // 2**20} MB of text", "too large")
    return raw


def digest_of(file: Embedded) -> str:
    """sha256 of its bytes."""
    return hashlib.sha256(file.payload).hexdigest()


def _ref(file: str | Embedded) -> tuple[str, str | None]:
    """Name and digest of a file; a path in its shortest form, so that a file has one name."""
    if isinstance(file, Embedded):
        return file.name or "", digest_of(file)
    return os.path.normpath(file), None


def _identity(refs: list[tuple[str, str | None]], row: int) -> bytes:
    """The same for records that show the same files in whatever order; one that shows none is like no other."""
    files = sorted({digest or f"path {name}" for name, digest in refs}) or [f"row {row}"]
    return hashlib.sha256("\n".join(files).encode(errors="surrogatepass")).digest()[:16]


def _quarantined(draft: Draft | None, row: Row, error: DataError) -> Quarantined:
    media = [s.file if isinstance(s.file, str) else f"<{s.file.name or s.kind}>" for s in draft.media] if draft else []
    reason = str(error).removeprefix(f"{row.origin}: ")
    return Quarantined(draft.key if draft else None, row.origin, media, error.cause, reason)
