"""Shards of bounded size, the same bytes each time, and a journal by which an interrupted pack goes on."""

from __future__ import annotations

import os

os.environ.setdefault("WDS_SECURE", "1")  # before the import: without it `pipe:` runs a shell

import fcntl
import hashlib
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import webdataset as wds

from avatar.data.index import write_shard_index
from avatar.data.pack.tally import Tally
from avatar.errors import ConfigError

_END = 2 * tarfile.BLOCKSIZE


class Shard:
    """A shard that is being written.

    Args:
        path: Where to.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.tally = path, Tally()
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._tar = wds.TarWriter(self, encoder=False, mtime=0)
        self.size = 0  # bytes of its members so far

    def write(self, block: bytes) -> int:
        """Called by the tar writer with the next bytes of the file; by one that is collected after an error too."""
        if self._file.closed:
            return len(block)
        self._digest.update(block)
        return self._file.write(block)

    def add(self, sample: str, members: Mapping[str, bytes]) -> None:
        """Write the members of a sample, by extension."""
        self._tar.write({"__key__": sample, **members})
        self.size += size_of(sample, members)

    def close(self) -> dict[str, Any]:
        """End the file, write its index beside it, and say what it is."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        write_shard_index(self.path)
        size = self.path.stat().st_size
        return {"name": self.path.name, "bytes": size, "sha256": self._digest.hexdigest()}

    def abandon(self) -> None:
        """Leave it as it is; the next run writes it again."""
        self._file.close()


def size_of(sample: str, members: Mapping[str, bytes]) -> int:
    """Bytes that a sample takes in a tar."""
    return sum(_header(f"{sample}.{name}") + _padded(len(payload)) for name, payload in members.items())


def tar_size(members: int) -> int:
    """Bytes of a tar whose members take so many."""
    return -(-(members + _END) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _header(name: str) -> int:
    return len(tarfile.TarInfo(name).tobuf(format=tarfile.DEFAULT_FORMAT))  # a long name takes blocks of its own


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


class Journal:
    """What is finished of a pack: a line at the start that says of what, and one for each shard.

    Args:
        path: The file.
        identity: Source and options; a journal of others is not gone on with.
        overwrite: Start anew in that case, as is done where it tells of no shard.

    Attributes:
        entries: Those of the shards, in order.

    Raises:
        ConfigError: Another process is writing it, or it is of another source or other options.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], overwrite: bool = False) -> None:
        self.entries: list[dict[str, Any]] = []
        self._file: BinaryIO = path.open("a+b")
        try:
            self._begin(path.parent, dict(identity), overwrite)
        except BaseException:
            self.close()
            raise

    def _begin(self, folder: Path, identity: dict[str, Any], overwrite: bool) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{folder} is being written by another process; wait for it, or stop it") from None
        self._file.seek(0)
        lines = [line for line in self._file.readlines() if line.endswith(b"\n")]  # the last may have been cut off
        first, *rest = [json.loads(line) for line in lines] or [None]
        if first not in (None, {"pack": identity}):
            if rest and not overwrite:
                raise _other(folder, first, identity)
            lines, first, rest = [], None, []
        self.entries = rest
        self._file.truncate(sum(map(len, lines)))
        if first is None:
            self._append({"pack": identity})

    def shard(self, entry: Mapping[str, Any]) -> None:
        """A shard is whole."""
        self.entries.append(dict(entry))
        self._append(entry)

    def _append(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _other(folder: Path, first: Mapping[str, Any], identity: Mapping[str, Any]) -> ConfigError:
    before = first.get("pack", {})
    changed = ", ".join(sorted(name for name in identity if before.get(name) != identity[name]))
    return ConfigError(
        f"{folder} holds a pack that was interrupted, and it is not the same ({changed} differs). Go on with the same "
        "source and options, or start anew with --overwrite true"
    )
