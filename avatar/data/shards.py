"""Tar shards through webdataset: ``KEY.mp4`` beside ``KEY.json`` or, one a question, ``KEY.NAME.json``."""

from __future__ import annotations

import os

os.environ.setdefault("WDS_SECURE", "1")  # before the import: without it `pipe:` runs a shell and .pth members unpickle

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import webdataset as wds

from avatar.data.index import write_shard_index
from avatar.data.schema import Record
from avatar.errors import DataError


def write_shards(
    folder: str | Path, samples: Iterable[tuple[str, bytes, list[Record]]], clips_per_shard: int = 250
) -> list[Path]:
    """Write (key, mp4, questions about it) to ``folder/00000.tar`` and on; equal samples give equal bytes.

    A clip is stored once however many questions it has. ``00000.index.json`` beside a shard says where its members lie.
    The folder appears when it is whole: a run that dies on the way leaves ``folder.partial`` behind and no half of a
    dataset.

    Returns:
        The shards, in order.

    Raises:
        DataError: A key has a dot in its last part: what follows would be read back as an extension. Or it leads out of
            its folder.
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
    for shard in partial.glob("*.tar"):
        write_shard_index(shard)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return sorted(folder.glob("*.tar"))
