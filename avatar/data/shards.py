"""Tar shards through webdataset: ``KEY.mp4`` beside ``KEY.json`` or, one a question, ``KEY.NAME.json``."""

from __future__ import annotations

import os

os.environ.setdefault("WDS_SECURE", "1")  # before the import: without it `pipe:` runs a shell and .pth members unpickle

import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import webdataset as wds
from webdataset.tariterators import group_by_keys, tar_file_iterator

from avatar.data.schema import Record, parse_record
from avatar.errors import DataError


def find_shards(folder: str | Path) -> list[Path]:
    """The ``*.tar`` files of ``folder`` in order.

    Raises:
        DataError: There is no such folder, or no shard in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such shard folder. Write the micro-world with: avatar data synth --out data/micro"
        )
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise DataError(f"{folder}: no shard (*.tar) in this folder")
    return shards


def list_members(shard: Path) -> list[tarfile.TarInfo]:
    """The plain files in a shard, read from its headers alone.

    A tar that was cut between two members, or whose next header is garbled, looks to :mod:`tarfile` as if it ended
    there; only the blocks of zeros that end every tar tell it from a whole one.

    Raises:
        DataError: The shard is missing, cut short, garbled, compressed, or no tar.
    """
    try:
        with tarfile.open(shard, "r:") as tar:
            members = [member for member in tar if member.isfile()]
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            end = tar.fileobj.read(tarfile.RECORDSIZE + tarfile.BLOCKSIZE)  # a record is the most that tars are padded
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _unreadable(shard, error) from None
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        raise _unreadable(shard, "it is cut short or garbled: no end marker after its last member")
    return members


def _unreadable(shard: Path, error: object) -> DataError:
    reason = error.args[0] if isinstance(error, ValueError) and error.args else error
    return DataError(
        f"{shard}: the shard cannot be read ({reason}). It must be a plain, whole tar: write or copy it again"
    )


def write_shards(
    folder: str | Path, samples: Iterable[tuple[str, bytes, list[Record]]], clips_per_shard: int = 250
) -> list[Path]:
    """Write (key, mp4, questions about it) to ``folder/00000.tar`` and on; equal samples give equal bytes.

    A clip is stored once however many questions it has. The folder appears when it is whole: a run that dies on the way
    leaves ``folder.partial`` behind and no half of a dataset.

    Raises:
        DataError: A key has a dot in its last part: what follows would be read back as an extension.
    """
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with ExitStack() as files:
        writer = wds.ShardWriter(
            "%05d.tar", maxcount=clips_per_shard, verbose=0, mtime=0,
            opener=lambda name: files.enter_context((partial / name).open("wb")),
        )  # fmt: skip
        for key, mp4, records in samples:
            if "." in key.rsplit("/", 1)[-1]:
                raise DataError(f"the key {key!r} has a dot, where extensions begin; rename it, with '_' say")
            width = len(str(len(records) - 1))  # members are read back in the order of their names
            members = {f"q{i:0{width}}.json": record.to_json() for i, record in enumerate(records)}
            writer.write({"__key__": key, "mp4": mp4, **members})
        writer.close()
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return find_shards(folder)


def stream_samples(folder: str | Path) -> Iterator[tuple[str, bytes, list[Record]]]:
    """Read shards back in order, in one pass and without an index; the counterpart of :func:`write_shards`.

    Raises:
        DataError: A shard is truncated, or a record is wrong.
    """
    for shard in find_shards(folder):
        list_members(shard)
        for sample in _samples(shard):
            names = sorted(n for n in sample if n == "json" or n.endswith(".json"))
            where = f"{shard}: {sample['__key__']}"
            yield sample["__key__"], sample.get("mp4", b""), [parse_record(sample[n], where) for n in names]


def _samples(shard: Path) -> Iterator[dict[str, Any]]:
    try:
        with shard.open("rb") as file:
            members = tar_file_iterator(file, skip_meta=None)  # a folder called __x__ is a folder like any other
            yield from group_by_keys({**member, "__url__": str(shard)} for member in members)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise _unreadable(shard, error) from None
