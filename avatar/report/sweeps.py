"""A sweep folder: its axes, and what became of each of its cells."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avatar.errors import ConfigError
from avatar.report.settings import plain_keys

VERSION = 1
TARGETS = (0.8, 0.9)  # validation accuracy, where a sweep names none


@dataclass(frozen=True)
class Sweep:
    """What ``sweep.json`` says.

    Attributes:
        folder: Where it lies.
        title: For people.
        command: How it was made; empty where that is not known.
        axes: Labels by the name of each axis, in order.
        over: Axes that are averaged over.
        baseline: Part of a point: the arm that others are held against; empty for the first one.
        targets: Validation accuracies of interest, 0 to 1.
        cells: Names of the runs, in order.
    """

    folder: Path
    title: str
    command: str
    axes: Mapping[str, tuple[str, ...]]
    over: tuple[str, ...]
    baseline: Mapping[str, str]
    targets: tuple[float, ...]
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A run folder that was found and not read yet.

    Attributes:
        folder: The run folder.
        sweep: Whose cell it is, if it is one.
        point: Label by axis; empty without a sweep.
        settings: Of the run, where the sweep has noted them.
        trouble: Why it cannot be used, in words; empty if it can.
    """

    folder: Path
    sweep: Sweep | None = None
    point: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""


def read_sweep(folder: Path) -> Sweep:
    """Read ``sweep.json``.

    Raises:
        ConfigError: It is no JSON, of another version, or lacks a part.
    """
    file = folder / "sweep.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            raise ConfigError(f"{file} is of version {found['version']}, this avatar reads {VERSION}: update avatar")
        return Sweep(
            folder=folder,
            title=str(found.get("title") or folder.name),
            command=shlex.join(map(str, found.get("command") or ())),
            axes={axis["name"]: tuple(map(str, axis["labels"])) for axis in found["axes"]},
            over=tuple(found.get("over") or ()),
            baseline=_labels(found.get("baseline")),
            targets=tuple(map(float, found.get("targets") or TARGETS)),
            cells=tuple(map(str, found["cells"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{file} cannot be read as a sweep ({what}); give its run folders instead") from None


def places_of(sweep: Sweep) -> list[Place]:
    """Every cell of a sweep, with what has become of those that cannot be used."""
    return [_place(sweep, sweep.folder / "cells" / name) for name in sweep.cells]


def _place(sweep: Sweep, folder: Path) -> Place:
    file = folder / "cell.json"
    if not file.is_file():
        return Place(folder, sweep, trouble="not started")
    try:
        cell = json.loads(file.read_text(encoding="utf-8"))
        point, settings = _labels(cell["point"]), plain_keys(cell.get("settings") or {})
        return Place(folder, sweep, point, settings, _trouble(str(cell["status"]), cell.get("error")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Place(folder, sweep, trouble=f"{file.name} cannot be read")


def _trouble(status: str, error: Any) -> str:
    """What to say of a cell that has not finished; empty for one that has."""
    if status == "finished":
        return ""
    lines = str(error or "").strip().splitlines()
    return f"{status}: {lines[-1]}" if lines else status


def _labels(point: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(axis): str(label) for axis, label in (point or {}).items()}
