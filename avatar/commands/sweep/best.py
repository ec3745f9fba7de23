"""What another sweep found best: one that chose on the dev split tells the next what to run on the test split."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatar.commands.sweep.axes import Point, grid, name_of
from avatar.commands.sweep.kept import read_kept
from avatar.commands.sweep.options import Sweep
from avatar.commands.sweep.record import Record
from avatar.commands.sweep.table import read_cells, read_sweep
from avatar.errors import ConfigError


@dataclass(frozen=True)
class Choice:
    """What did best for some labels of the axes that both sweeps have.

    Attributes:
        shared: These labels.
        chosen: The best labels of the axes that only the other sweep has.
        scores: Mean accuracy over the run of every candidate, means over repeats, by the candidate's labels.
        at_edge: Whether the best value is the first or last of a grid of three or more: it may lie beyond.
    """

    shared: Point
    chosen: Point
    scores: dict[str, float]
    at_edge: bool


def best_of(folder: Path, sweep: Sweep) -> tuple[list[Choice], dict[str, list[str]]]:
    """The best values of another sweep, and the further arguments of each cell of ``sweep`` that set them.

    Best is the highest mean accuracy over the run (area under the validation curve), mean over repeats; of equals the
    first.

    Args:
        folder: Of the other sweep, or the file that its finished cells are kept in.
        sweep: The one to run.

    Raises:
        ConfigError: The other sweep is not finished, shares no axis with this one, or has none of its own.
    """
    other, records = read_kept(folder) if folder.is_file() else (read_sweep(folder), None)
    if records is None:
        records = read_cells(folder, other["cells"])
    axes = {axis["name"]: axis for axis in other["axes"]}
    ours = {axis.name for axis in sweep.axes}
    shared = [name for name in axes if name in ours and name not in sweep.over and name not in other["over"]]
    own = [name for name in axes if name not in ours and name not in other["over"]]
    if not own:
        raise ConfigError(f"--best_of {folder}: it has no axis that this sweep lacks, so there is nothing to choose")
    scores = _scores(folder, other, records, shared, own)
    choices = []
    for key in sorted(scores):
        ranked = max(scores[key], key=lambda label: scores[key][label])
        chosen: Point = json.loads(ranked)
        edge = any(len(axes[n]["labels"]) > 2 and label in _ends(axes[n]["labels"]) for n, label in chosen.items())
        pretty = {name_of(json.loads(label)): round(score, 6) for label, score in scores[key].items()}
        choices.append(Choice(json.loads(key), chosen, pretty, edge))
    return choices, _arguments(folder, sweep, shared, axes, choices)


def _ends(labels: list[str]) -> tuple[str, str]:
    return labels[0], labels[-1]


def _scores(
    folder: Path, other: dict[str, Any], records: Sequence[Record], shared: list[str], own: list[str]
) -> dict[str, dict[str, float]]:
    """Mean score by shared labels and candidate."""
    seen: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    records = [record for record in records if record.name in other["cells"] and record.result is not None]
    missing = len(other["cells"]) - len(records)
    if missing:
        raise ConfigError(
            f"--best_of {folder}: {missing} of its {len(other['cells'])} cells are not finished; run it first"
        )
    for record in records:
        assert record.result is not None
        key, candidate = (json.dumps({n: record.point[n] for n in names}) for names in (shared, own))
        seen[key][candidate].append(float(record.result["mean_accuracy"]))
    return {key: {c: sum(v) / len(v) for c, v in candidates.items()} for key, candidates in seen.items()}


def _arguments(
    folder: Path, sweep: Sweep, shared: list[str], axes: dict[str, Any], choices: list[Choice]
) -> dict[str, list[str]]:
    by_shared = {json.dumps(choice.shared): choice for choice in choices}
    extra = {}
    for point in grid(sweep.axes):
        choice = by_shared.get(json.dumps({name: point[name] for name in shared}))
        if choice is None:
            raise ConfigError(f"--best_of {folder}: it has run nothing for cell {name_of(point)}")
        values = {
            name: axes[name]["values"][axes[name]["labels"].index(label)] for name, label in choice.chosen.items()
        }
        extra[name_of(point)] = [f"--{axes[name]['key']}={value}" for name, value in values.items()]
    return extra
