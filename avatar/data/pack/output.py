"""The folder that a pack is written to: another one until it is whole, then this."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avatar.data.pack.manifest import IDENTITY, read_manifest, write_manifest
from avatar.data.pack.plan import Quarantined
from avatar.data.pack.samples import Sample
from avatar.data.pack.tally import Tally
from avatar.data.pack.writer import Journal, Shard, size_of, tar_size
from avatar.errors import ConfigError

JOURNAL, SPOOL, CARRIED = "journal.jsonl", "records.jsonl", "carried"
QUARANTINE = "quarantine.jsonl"
UNREADABLE, UNSHOWN = "unreadable.jsonl", "unshown.jsonl"  # its two halves: found while reading, and while packing


def partial_of(folder: Path) -> Path:
    """Where it lies while it is written."""
    return folder.with_name(f"{folder.name}.partial")


def find_finished(folder: Path, identity: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The manifest of the same pack, if it is done already; None where it is to be made.

    Raises:
        ConfigError: The folder holds something else, and must not be overwritten.
    """
    if not folder.exists() or overwrite:
        return None
    if not any(folder.iterdir()):
        return None
    manifest = read_manifest(folder)
    if manifest is not None and not manifest["counts"]["samples"]:
        return None  # nothing could be packed then; there is nothing to lose
    if manifest is None or {name: manifest[name] for name in IDENTITY} != dict(identity):
        what = "something else" if manifest is None else "a pack of another source, or with other options"
        raise ConfigError(f"{folder} holds {what}; choose another --out, or replace it with --overwrite true")
    for shard in manifest["shards"]:
        path = folder / shard["name"]
        if not path.is_file() or path.stat().st_size != shard["bytes"]:
            raise ConfigError(f"{path} is not as it was packed; pack again with --overwrite true")
    return manifest


def check_place(folder: Path, kept: Mapping[str, Path]) -> None:
    """See that writing to ``folder`` harms nothing.

    Args:
        folder: Where to write.
        kept: What must not be in it, by its name in messages.

    Raises:
        ConfigError: One of these lies in it, or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; choose a folder")
    for name, path in kept.items():
        if path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"--out {folder} holds {name} ({path}); choose a folder of its own")


class Output:
    """What is being written: shards in order, a list of what could not be packed, and a journal of both.

    Args:
        folder: Where it will lie.
        identity: Of the pack.
        max_shard_mb: Bound of a shard's size.
        overwrite: Start anew where an interrupted pack is of another source or other options.

    Attributes:
        start: Number of the group to go on with.
        tally: Of all that is written.

    Raises:
        ConfigError: What is there cannot be gone on with.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], max_shard_mb: int, overwrite: bool) -> None:
        self.folder, self.partial, self.max_bytes = folder, partial_of(folder), max_shard_mb * 2**20
        self.identity = dict(identity)
        if self.partial.exists() and not (self.partial / JOURNAL).exists() and any(self.partial.iterdir()):
            if not overwrite:
                raise ConfigError(f"{self.partial} holds something else; move it, or remove it with --overwrite true")
            shutil.rmtree(self.partial)
        self.partial.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.partial / JOURNAL, identity, overwrite)
        self.tally, self._open = Tally(), Tally()  # of closed shards; since the last of them
        self.start, at = 0, 0
        for entry in self.journal.entries:
            self.start, at = entry["next"], entry["unshown"]
            self.tally.add(Tally.from_json(entry["tally"]))
        try:
            self._clean()
        except BaseException:
            self.journal.close()
            raise
        (self.partial / UNSHOWN).touch()
        self._unshown = (self.partial / UNSHOWN).open("r+b")
        self._unshown.truncate(at)
        self._unshown.seek(at)
        self._unreadable = (self.partial / UNREADABLE).open("wb")
        self._shard: Shard | None = None

    def _clean(self) -> None:
        """Remove what was not finished when an earlier run was ended."""
        whole = {entry["shard"]["name"]: entry["shard"]["bytes"] for entry in self.journal.entries}
        kept = {JOURNAL, UNSHOWN, *whole, *(f"{Path(name).stem}.index.json" for name in whole)}
        for path in self.partial.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, size in whole.items():
            path = self.partial / name
            if not path.exists() or path.stat().st_size != size:
                raise ConfigError(f"{path} is not as it was written; start anew with --overwrite true")

    def refuse(self, quarantined: Quarantined) -> None:
        """A record that cannot be read. Told anew by each run, for each reads the whole source."""
        self._unreadable.write(quarantined.to_json())
        self.tally.quarantined[quarantined.cause] += 1

    def take(self, sample: Sample, number: int) -> None:
        """Write the sample of group ``number``, if there is one, and what is not in it.

        A sample that does not fit into the open shard begins the next one; one that is larger than the bound has a
        shard of its own.
        """
        if sample.members:
            size = size_of(sample.name, sample.members)
            if self._shard and tar_size(self._shard.size + size) > self.max_bytes:
                self._close_shard(number)
            if self._shard is None:
                self._shard = Shard(self.partial / f"{len(self.journal.entries):05d}.tar")
            self._shard.add(sample.name, sample.members)
        self._unshown.writelines(q.to_json() for q in sample.quarantined)
        self._open.add(sample.tally)

    def _close_shard(self, following: int) -> None:
        if self._shard is None:
            return
        self._unshown.flush()
        entry = {
            "shard": self._shard.close(),
            "next": following,
            "unshown": self._unshown.tell(),
            "tally": self._open.to_json(),
        }
        self.journal.shard(entry)
        self.tally.add(self._open)
        self._shard, self._open = None, Tally()

    def finish(self, following: int) -> None:
        """Close the last shard and count what came behind it."""
        self._close_shard(following)
        self.tally.add(self._open)

    def publish(self, manifest: Mapping[str, Any]) -> None:
        """Make it the folder that was asked for, in place of what may lie there."""
        self._unshown.close()
        self._unreadable.close()
        with (self.partial / QUARANTINE).open("wb") as whole:
            for name in (UNREADABLE, UNSHOWN):
                with (self.partial / name).open("rb") as half:
                    shutil.copyfileobj(half, whole)
        write_manifest(self.partial, manifest)
        replaced = self.folder.with_name(f".{self.folder.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(replaced)
        self.partial.rename(self.folder)
        for name in (SPOOL, UNREADABLE, UNSHOWN, JOURNAL):
            (self.folder / name).unlink()
        shutil.rmtree(self.folder / CARRIED, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)

    def close(self) -> None:
        """Let go of all files; what is not finished stays as it is."""
        if self._shard:
            self._shard.abandon()
        self._unshown.close()
        self._unreadable.close()
        self.journal.close()
