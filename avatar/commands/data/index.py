"""``avatar data index``: sidecars that save reading the headers of every shard."""

from __future__ import annotations

from pathlib import Path

from rich.progress import track

from avatar.data.index import ShardIndex, write_shard_index
from avatar.data.sources import find_shards, is_remote
from avatar.errors import ConfigError


def index(folder: str) -> None:
    """Write NAME.index.json beside every shard of a folder, for shards that other tools have written.

    Without it all members' headers are read at each start, which is quick on a local disk and slow over a network.

    Args:
        folder: Holds ``*.tar``; a local one.
    """
    if is_remote(folder):
        raise ConfigError(f"{folder}: an index is written beside local shards; write it there and copy it up with them")
    for shard in track(find_shards(folder), "indexing"):
        write_shard_index(Path(shard))
    print(f"{folder}: {len(ShardIndex(folder))} records")
