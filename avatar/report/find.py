"""Which runs lie under the folders that were given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from avatar.errors import ConfigError
from avatar.registry import did_you_mean
from avatar.report.sweeps import Place, places_of, read_sweep

DEPTH = 4  # folders below the one that was given; a run of a curriculum lies two below runs/
MARKS = ("metrics.csv", "config.yaml", "completions.jsonl")  # one of these makes a run folder


def find_runs(paths: Sequence[Path]) -> list[Place]:
    """Run folders in the order of ``paths``, those below a folder by name; each once.

    A folder with ``sweep.json`` stands for its cells, one that is a run for itself, any other for all that lies in it.

    Raises:
        ConfigError: A folder is not there or holds no run, or a sweep cannot be read.
    """
    found: dict[Path, Place] = {}
    for path in paths:
        _check(path)
        places = list(_below(path, DEPTH))
        if not places:
            raise ConfigError(
                f"{path} holds no run: a folder with metrics.csv (as `avatar fit` writes it), with sweep.json, or one "
                f"with such folders in it, at most {DEPTH} deep, was wanted"
            )
        for place in places:
            found.setdefault(place.folder.resolve(), place)
    return list(found.values())


def _below(folder: Path, depth: int) -> Iterator[Place]:
    if (folder / "sweep.json").is_file():
        yield from places_of(read_sweep(folder))
    elif any((folder / mark).is_file() for mark in MARKS):
        yield Place(folder, trouble="" if (folder / "metrics.csv").is_file() else "no metrics.csv: it made no step")
    elif depth:
        for child in sorted(child for child in folder.iterdir() if child.is_dir()):
            yield from _below(child, depth - 1)


def _check(path: Path) -> None:
    if path.is_dir():
        return
    if path.exists():
        raise ConfigError(f"{path} is a file; give the folder of the run that it lies in")
    beside = sorted(child.name for child in path.parent.iterdir()) if path.parent.is_dir() else []
    raise ConfigError(f"there is no folder {path}.{did_you_mean(path.name, beside)}")
