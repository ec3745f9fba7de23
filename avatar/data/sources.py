"""Where bytes come from: local paths, and URLs that fsspec knows. No command is run, no protocol leads to another."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from braceexpand import braceexpand

from avatar.data import remote
from avatar.errors import DataError

GAP = 64 * 1024  # bytes between two members that are cheaper to fetch along than to ask twice
MAX_SHARDS = 1_000_000
MAX_MANIFEST = 256 * 2**20  # bytes
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(//)?")  # two letters at least: C: is a drive
_HOST_IN_BRACKETS = re.compile(r"//\[[0-9a-f:.]+\]")  # an IPv6 address may hold ::
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")


def check_location(location: str) -> None:
    """Refuse what is neither a local path nor a URL of a protocol that only gives bytes.

    Raises:
        DataError: ``pipe:``, a chain of protocols (``::``), an unknown protocol, control characters, or nothing at all.
    """
    plain = location.strip().lower()
    scheme = _SCHEME.match(plain)
    if "pipe:" in plain:
        raise _refused(location, "'pipe:' would run a command; give a path or a URL")
    if not plain or _CONTROL.search(location):
        raise _refused(location, "it is empty or holds control characters; give a path or a URL")
    if "::" in _HOST_IN_BRACKETS.sub("//", plain):
        raise _refused(location, "'::' chains protocols; give the path or URL that it leads to")
    if scheme and (scheme[1] not in ("file", *remote.PACKAGES) or not scheme[2] or location != location.strip()):
        known = ", ".join(f"{name}://" for name in ("file", *remote.PACKAGES))
        raise _refused(location, f"it begins with none of {known}; a local path with a colon in it begins with ./")


def _refused(location: str, reason: str) -> DataError:
    return DataError(f"{location!r}: not a place to read from: {reason}", "not allowed")


def is_remote(location: str) -> bool:
    """Whether it is a URL and no local path."""
    scheme = _SCHEME.match(location.lower())
    return bool(scheme and scheme[2] and scheme[1] in remote.PACKAGES)


def _local(location: str) -> Path:
    return Path(location[len("file://") :] if location.lower().startswith("file://") else location)


@dataclass(frozen=True)
class Span:
    """A member of a shard: ``size`` bytes at ``offset``."""

    shard: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The member's bytes.

        Raises:
            DataError: The shard ends before they do, is gone, or cannot be reached.
        """
        if is_remote(self.shard):
            payload = remote.fetch(self.shard, self.offset, self.offset + self.size)
        else:
            payload = self._read_local()
        if len(payload) != self.size:
            raise DataError(
                f"{self.shard}: truncated at byte {self.offset + len(payload)}, inside what its headers or its index "
                "promise; copy it again",
                "broken shard",
            )
        return payload

    def _read_local(self) -> bytes:
        try:
            with _local(self.shard).open("rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.shard}: {error.strerror}", "broken shard") from None


def read_all(spans: Sequence[Span]) -> list[bytes]:
    """The bytes of each span; those that lie side by side in a remote shard come by one request.

    Raises:
        DataError: See :meth:`Span.read`.
    """
    found: dict[Span, bytes] = {}
    for run in _runs(set(spans)):
        start, end = run[0].offset, max(span.offset + span.size for span in run)
        block = Span(run[0].shard, start, end - start).read()
        found |= {span: block[span.offset - start : span.offset - start + span.size] for span in run}
    return [found[span] for span in spans]


def _runs(spans: set[Span]) -> list[list[Span]]:
    runs: list[list[Span]] = []
    reached = 0
    for span in sorted(spans, key=lambda span: (span.shard, span.offset)):
        near = runs and span.shard == runs[-1][0].shard and span.offset <= reached + GAP
        if near and is_remote(span.shard):
            runs[-1].append(span)
            reached = max(reached, span.offset + span.size)
        else:
            runs.append([span])
            reached = span.offset + span.size
    return runs


def size_of(location: str) -> int:
    """Bytes of a file.

    Raises:
        DataError: There is no such file, it is none, or it cannot be reached.
    """
    if is_remote(location):
        return remote.size_of(location)
    path = _local(location)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{location}: {error.strerror}", "broken shard") from None
    if not path.is_file():  # opening a named pipe would wait for ever
        raise DataError(f"{location}: a folder or a device, and no file", "broken shard")
    return size


def size_if_there(location: str) -> int | None:
    """Bytes of a file; None if there is none.

    Raises:
        DataError: It is no file, or cannot be reached.
    """
    if is_remote(location):
        return remote.size_if_there(location)
    return size_of(location) if _local(location).exists() else None


def open_seekable(location: str, block: int = remote.BLOCK) -> BinaryIO:
    """A file to read and seek in; of a remote one only blocks of so many bytes that are read come over the network.

    Raises:
        DataError: See :func:`size_of`; reading may raise it too.
    """
    size = size_of(location)
    if is_remote(location):
        return cast(BinaryIO, io.BufferedReader(remote.RangedFile(location, size), block))
    try:
        return _local(location).open("rb")
    except OSError as error:
        raise DataError(f"{location}: {error.strerror}", "broken shard") from None


def read_if_there(location: str, limit: int) -> bytes | None:
    """A whole small file of at most ``limit`` bytes; None if there is none.

    Raises:
        DataError: It is larger, or cannot be read.
    """
    if is_remote(location):
        return remote.read_if_there(location, limit)
    path = _local(location)
    if not path.is_file():
        return None
    if path.stat().st_size > limit:
        raise remote.too_large(location, limit)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{location}: {error.strerror}", "broken shard") from None


def find_shards(location: str | Path) -> list[str]:
    """The shards of a folder in order, or those that ``location`` spells out.

    A local folder is searched for ``*.tar``; a remote one says in its ``manifest.json`` what it holds. Braces are
    expanded as a shell does, ``train-{000..099}.tar``; what ends in ``.tar`` is a shard itself.

    Raises:
        DataError: The location is not allowed, there is no such folder, no shard in it, or a manifest is broken.
    """
    location = os.fspath(location)
    check_location(location)
    if set("{}") & set(location) and (is_remote(location) or not _local(location).exists()):
        return list(chain.from_iterable(map(find_shards, _expanded(location))))
    if is_remote(location):
        return [location] if location.endswith(".tar") else _from_manifest(location.rstrip("/"))
    path = _local(location)
    if path.suffix == ".tar" and not path.is_dir():
        return [str(path)]
    if not path.is_dir():
        raise DataError(
            f"{path}: no such shard folder. Write the micro-world with: avatar data synth --out data/micro",
            "broken shard",
        )
    shards = sorted(path.glob("*.tar"))
    if not shards:
        raise DataError(f"{path}: no shard (*.tar) in this folder", "broken shard")
    return [str(shard) for shard in shards]


def _expanded(location: str) -> list[str]:
    total = 1
    for first, last in _RANGE.findall(location):
        total *= abs(int(last) - int(first)) + 1
    if total > MAX_SHARDS:
        raise DataError(f"{location}: spells out {total:,} shards, more than {MAX_SHARDS:,}", "too large")
    with suppress(ValueError):
        names = [name for name in braceexpand(location, escape=False) if "{" not in name and "}" not in name]
        if names:
            return names
    raise DataError(f"{location}: braces that spell out nothing; write train-{{000..099}}.tar", "broken shard")


def _from_manifest(folder: str) -> list[str]:
    where = f"{folder}/manifest.json"
    raw = read_if_there(where, MAX_MANIFEST)
    if raw is None:
        raise DataError(
            f"{where}: there is none, and a remote folder cannot be searched. Pack with avatar data pack, which writes "
            "one, or give the shards themselves: .../train-{000..099}.tar",
            "broken shard",
        )
    try:
        names = [shard["name"] for shard in json.loads(raw)["shards"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DataError(f'{where}: must hold {{"shards": [{{"name": "00000.tar"}}, ...]}}', "broken shard") from None
    if not names:
        raise DataError(f"{where}: no shard in this folder", "broken shard")
    for name in names:
        _check_listed(name, where)
    return [f"{folder}/{name}" for name in names]


def _check_listed(name: Any, where: str) -> None:
    parts = name.split("/") if isinstance(name, str) else [""]
    if {"", ".", ".."} & set(parts) or re.search(r"[\\:?#%{}]", name) or _CONTROL.search(name):
        raise DataError(
            f"{where}: lists {name!r}, which is not the name of a file in its folder; nothing else is read",
            "not allowed",
        )
    if not name.endswith(".tar"):
        raise DataError(f"{where}: lists {name!r}, which is no shard (*.tar)", "not allowed")
