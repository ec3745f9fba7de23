"""What a pack says of itself: where it comes from, what is in it, and what is not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avatar.data.pack.formats import SourceFormat
from avatar.data.pack.tally import Tally

NAME = "manifest.json"
VERSION = 1
IDENTITY = ("version", "source", "format", "options", "fingerprint")
WHOLE = 256 * 2**20  # bytes; of a larger binary table only both ends are read, where its directory lies
END = 16 * 2**20


def identify(source: SourceFormat, name: str, media_root: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What two packs must have in common for one to go on where the other stopped.

    Args:
        source: What is packed.
        name: Its format.
        media_root: Where its media are.
        options: All that the result depends on.
    """
    digest = hashlib.sha256(os.path.relpath(media_root.resolve(), source.source.parent.resolve()).encode())
    for file in source.files():
        digest.update(f"\n{file.name} {file.stat().st_size} ".encode())
        _digest_file(file, digest)
    values = (VERSION, source.source.name, name, dict(options), digest.hexdigest())
    return dict(zip(IDENTITY, values, strict=True))


def _digest_file(file: Path, digest: Any) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size > WHOLE and file.suffix in (".parquet", ".arrow"):
            digest.update(stream.read(END))
            stream.seek(size - END)
        while block := stream.read(2**20):
            digest.update(block)


def build_manifest(
    identity: Mapping[str, Any], shards: Sequence[Mapping[str, Any]], tally: Tally, num_rows: int, num_left_out: int
) -> dict[str, Any]:
    """The manifest.

    Args:
        identity: Of :func:`identify`.
        shards: The journal's entries.
        tally: Of the whole.
        num_rows: Records in the source.
        num_left_out: Of these, how many are of a problem type that was not asked for.
    """
    counts = tally.to_json()
    return {
        **identity,
        "counts": {
            "in_source": num_rows,
            "records": tally.records,
            "samples": tally.samples,
            "quarantined": sum(tally.quarantined.values()),
            "left_out": num_left_out,
            "problem_types": counts["problem_types"],
            "media": counts["media"],
            "sound": counts["sound"],
        },
        "hours": {
            "picture": round(tally.picture_seconds / 3600, 6),
            "sound": round(tally.sound_seconds / 3600, 6),
        },
        "streams": counts["streams"],
        "shards": [_shard(entry) for entry in shards],
        "quarantined": counts["quarantined"],
    }


def _shard(entry: Mapping[str, Any]) -> dict[str, Any]:
    tally = entry["tally"]
    counts = {"samples": tally["samples"], "records": tally["records"], "seconds": round(tally["seconds"], 3)}
    return {**entry["shard"], **counts}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a pack; None where the folder is none."""
    try:
        found = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and set(IDENTITY) <= set(found) else None


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write it."""
    (folder / NAME).write_text(json.dumps(manifest, indent=2) + "\n")
