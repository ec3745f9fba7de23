"""Where a benchmark's files lie: a folder, one named after it, or the cache of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE

from avatar.errors import DataError


def find_home(
    title: str, source: str, annotation: Sequence[str], hub: str, default_root: str, root: Path | None
) -> Path:
    """The folder that holds a benchmark's annotation file.

    Args:
        title: Of the benchmark, for messages.
        source: Likewise.
        annotation: Patterns of the annotation file.
        hub: Its id on the hub; empty if it is not there.
        default_root: Where it is expected; the last part is its name.
        root: Where to look: the folder itself, one that has a folder of the benchmark's name, or a hub cache. None
            looks into ``default_root`` and into the hub's own cache.

    Raises:
        DataError: It is in none of these; says where was looked.
    """
    folder, cache = root or Path(default_root), root or Path(HF_HUB_CACHE)
    places = [folder, folder / Path(default_root).name, *snapshots(cache, hub)]
    for place in places:
        if any(next(place.glob(pattern), None) is not None for pattern in annotation):
            return place
    in_cache = f", nor as {hub} in the hub cache {cache}" if hub else ""
    raise DataError(
        f"{title}: no {' or '.join(annotation)} in {folder}, nor in {places[1]}{in_cache}. It comes from {source}; put "
        "it there as it was downloaded, or give its folder with --benchmark_root",
        "missing annotation",
    )


def snapshots(cache: Path, hub: str) -> Iterator[Path]:
    """The downloaded revisions of a dataset in a hub cache, the newest first; none for an empty ``hub``."""
    folder = cache / f"datasets--{hub.replace('/', '--')}" / "snapshots"
    found = [path for path in folder.iterdir() if path.is_dir()] if hub and folder.is_dir() else []
    yield from sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
