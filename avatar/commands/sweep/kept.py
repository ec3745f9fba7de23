"""Finished cells as one small file, to lie in a repository: the table can be made from it, and the sweep can go on.

Curves, figures and settings are kept, and no weights. What most cells have set alike is written once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avatar.commands.sweep.record import Record
from avatar.commands.sweep.table import read_cells, read_sweep
from avatar.errors import ConfigError
from avatar.modules.logs import replace_text


def keep(folder: Path, file: Path) -> None:
    """Write the finished cells of the sweep in ``folder`` to ``file``, beside those that are kept there already."""
    sweep = read_sweep(folder)
    before, others = read_kept(file) if file.exists() else (sweep, [])
    known = {record.name: record for record in others}
    known |= {record.name: record for record in read_cells(folder, sweep["cells"]) if record.status == "finished"}
    records = [known[name] for name in sorted(known)]
    shared = _shared_settings(records)
    cells = [_without(record, shared) for record in records]
    lines = ",\n".join(json.dumps(cell) for cell in cells)
    whole = before if set(sweep["cells"]) < set(before["cells"]) else sweep  # a part of the grid was run
    head = json.dumps({"version": 1, "sweep": whole, "settings": shared})
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, head[:-1] + ', "cells": [\n' + lines + "\n]}\n")


def read_kept(file: Path) -> tuple[dict[str, Any], list[Record]]:
    """The sweep and the finished cells that were kept.

    Raises:
        ConfigError: The file is not one of ours.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        shared = content["settings"]
        cells = [Record(**{**cell, "settings": _whole(shared, cell["settings"])}) for cell in content["cells"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: no finished cells that `avatar sweep --kept` wrote ({error})") from None
    return content["sweep"], cells


def restore(file: Path, folder: Path, names: Sequence[str]) -> int:
    """Put kept cells of these names into the sweep's folder, where nothing lies yet; returns how many."""
    restored = 0
    for record in read_kept(file)[1] if file.exists() else []:
        home = folder / "cells" / record.name
        if record.name in names and not home.exists():
            record.kept = True
            record.save(home)
            restored += 1
    return restored


def _shared_settings(records: Sequence[Record]) -> dict[str, Any]:
    """The value that most cells have, of every setting that more than half have."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for key, value in record.settings.items():
            counts.setdefault(key, Counter())[json.dumps(value, sort_keys=True)] += 1
    common = {key: found.most_common(1)[0] for key, found in counts.items()}
    return {key: json.loads(value) for key, (value, num) in common.items() if 2 * num > len(records)}


def _without(record: Record, shared: dict[str, Any]) -> dict[str, Any]:
    """A record whose settings are what differs: other values, and null in a list for those that it lacks."""
    other = {k: v for k, v in record.settings.items() if k not in shared or shared[k] != v}
    lacking = sorted(key for key in shared if key not in record.settings)
    cell = asdict(record) | {"settings": {"other": other, "lacking": lacking}, "error": None}
    return {key: value for key, value in cell.items() if key not in ("kept", "attempts")}


def _whole(shared: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in shared.items() if k not in settings["lacking"]} | settings["other"]
