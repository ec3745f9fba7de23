"""Tar shards through webdataset: ``KEY.mp4`` beside ``KEY.json`` or, one a question, ``KEY.NAME.json``."""

from __future__ import annotations

import os

os.environ.setdefault("WDS_SECURE", "1")  # before the import: without it `pipe:` runs a shell and .pth members unpickle

import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import webdataset as wds
from webdataset.tariterators import group_by_keys, tar_file_expander

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


def write_shards(
    folder: str | Path, samples: Iterable[tuple[str, bytes, list[Record]]], clips_per_shard: int = 250
) -> list[Path]:
    """Write (key, mp4, questions about it) to ``folder/00000.tar`` and on; equal samples give equal bytes.

    A clip is stored once however many questions it has. The folder appears when it is whole: a run that dies on the way
    leaves ``folder.partial`` behind and no half of a dataset.
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
            members = {f"q{i}.json": record.to_json() for i, record in enumerate(records)}
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
        with shard.open("rb") as file:
            try:
                for sample in group_by_keys(tar_file_expander([{"url": str(shard), "stream": file}])):
                    names = sorted(n for n in sample if n.endswith("json"))
                    where = f"{shard}: {sample['__key__']}"
                    yield sample["__key__"], sample.get("mp4", b""), [parse_record(sample[n], where) for n in names]
            except (tarfile.TarError, OSError, EOFError, ValueError) as error:
                raise DataError(
                    f"{shard}: the shard cannot be read ({error.args[0] if error.args else error})"
                ) from None
