"""Runs that differ in nothing but what is averaged over, side by side with others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avatar.errors import ConfigError
from avatar.registry import did_you_mean
from avatar.report.runs import Run
from avatar.report.sweeps import TARGETS, Sweep


@dataclass(frozen=True)
class Arm:
    """Several runs of one kind, or a single one.

    Attributes:
        label: Unique on the page.
        runs: In the order of their places on the axes that are averaged over.
        baseline: Label of the arm that this one is held against; None for a baseline itself.
    """

    label: str
    runs: tuple[Run, ...]
    baseline: str | None


@dataclass(frozen=True)
class Runs:
    """All that a page shows.

    Attributes:
        arms: In order.
        targets: Validation accuracies of interest, 0 to 1.
    """

    arms: tuple[Arm, ...]
    targets: tuple[float, ...]

    @property
    def runs(self) -> list[Run]:
        """Those of all arms."""
        return [run for arm in self.arms for run in arm.runs]

    def arm(self, label: str | None) -> Arm | None:
        """The arm of this label; None if there is none."""
        return next((arm for arm in self.arms if arm.label == label), None)


def group_runs(runs: Sequence[Run], baseline: str | None = None) -> Runs:
    """Make arms of runs: the cells of a sweep that differ on averaged axes alone are one, a plain run is one.

    Args:
        runs: As they were found.
        baseline: Label of the arm that all others are held against. Without it, that of each sweep or its first arm,
            and the first of the plain runs.

    Raises:
        ConfigError: No arm has that label.
    """
    labels = label_runs(runs)
    members: dict[str, list[Run]] = {}
    for run, label in zip(runs, labels, strict=True):
        members.setdefault(label, []).append(run)
    if baseline is not None and baseline not in members:
        known = list(members)
        raise ConfigError(
            f"--baseline: there is no arm {baseline!r}.{did_you_mean(baseline, known)} There are: {', '.join(known)}"
        )
    arms = []
    for label, group in members.items():
        against = baseline or _baseline_of(label, members)
        arms.append(Arm(label, tuple(sorted(group, key=seed_key)), None if against == label else against))
    sweeps = [run.place.sweep for run in runs if run.place.sweep]
    targets = sorted({target for sweep in sweeps for target in sweep.targets}) or TARGETS
    return Runs(tuple(arms), tuple(targets))


def label_runs(runs: Sequence[Run]) -> list[str]:
    """What the arm of each run is called.

    A cell of a sweep: its labels on the axes that are not averaged over and on which the sweep has more than one, the
    title of the sweep before them if there are other runs. A plain run: the parts of its path in which they differ.
    """
    plain = [run.place.folder for run in runs if run.place.sweep is None]
    sweeps = list({run.place.sweep.folder: run.place.sweep for run in runs if run.place.sweep}.values())
    names = dict(zip(plain, differing_parts(plain), strict=True))
    titles = [sweep.title for sweep in sweeps]
    if len(set(titles)) < len(titles):
        titles = differing_parts([sweep.folder for sweep in sweeps])
    alone = len(sweeps) == 1 and not plain
    before = {sweep.folder: "" if alone else title for sweep, title in zip(sweeps, titles, strict=True)}
    return [
        _label_of_cell(run, run.place.sweep, before[run.place.sweep.folder])
        if run.place.sweep
        else names[run.place.folder]
        for run in runs
    ]


def differing_parts(folders: Sequence[Path]) -> list[str]:
    """The parts of each path in which several differ, joined by ``/``; of a single one its name.

    Of paths that are equally deep, every part that is not the same for all; of others, what lies between the parts
    that all begin and end with. Where nothing would be left, the name.
    """
    paths = [folder.absolute().parts for folder in folders]
    if len(paths) == 1:
        return [folders[0].absolute().name]
    if len({len(path) for path in paths}) == 1:
        keep = [place for place, parts in enumerate(zip(*paths, strict=True)) if len(set(parts)) > 1]
        return ["/".join(path[place] for place in keep) for path in paths]
    start = _num_equal(paths)
    paths = [path[start:] for path in paths]
    end = _num_equal([path[::-1] for path in paths])
    short = ["/".join(path[: len(path) - end]) for path in paths]
    named = [label or folder.absolute().name for label, folder in zip(short, folders, strict=True)]
    return named if len(set(named)) == len(named) else [str(folder) for folder in folders]


def seed_key(run: Run) -> tuple[int, ...]:
    """Places of a run on the axes that are averaged over: runs of two arms with equal ones have the same seed."""
    sweep = run.place.sweep
    if sweep is None:
        return ()
    axes = [axis for axis in sweep.over if axis in sweep.axes and axis in run.place.point]
    return tuple(_index(sweep.axes[axis], run.place.point[axis]) for axis in axes)


def with_axis(axis: str, label: str) -> str:
    """``lr 1e-4`` and ``avatar``: a number alone says nothing, a name needs no axis."""
    try:
        float(label)
    except ValueError:
        return label
    return f"{axis} {label}"


def _index(labels: Sequence[str], label: str) -> int:
    return labels.index(label) if label in labels else len(labels)


def _label_of_cell(run: Run, sweep: Sweep, title: str) -> str:
    shown = [axis for axis, labels in sweep.axes.items() if axis not in sweep.over and len(labels) > 1]
    label = ", ".join(with_axis(axis, run.place.point.get(axis, "?")) for axis in shown)
    return f"{title}: {label}" if title and label else label or title or sweep.title


def _baseline_of(label: str, members: Mapping[str, Sequence[Run]]) -> str:
    """Of the arms of the same sweep that have the labels of its baseline, the one that shares most with this arm."""
    mine = members[label][0].place
    rivals = {name: group[0].place for name, group in members.items() if group[0].place.sweep == mine.sweep}
    wanted = mine.sweep.baseline.items() if mine.sweep else {}.items()
    if not wanted:
        return next(iter(rivals))
    fitting = {name: place for name, place in rivals.items() if wanted <= place.point.items()}
    shared = {name: _num_shared(place.point.items(), mine.point.items()) for name, place in fitting.items()}
    return max(shared, key=lambda name: shared[name], default=label)  # none, where no run of the baseline has finished


def _num_shared(one: Iterable[tuple[str, str]], other: Iterable[tuple[str, str]]) -> int:
    return len(set(one) & set(other))


def _num_equal(paths: Sequence[Sequence[str]]) -> int:
    """How many parts all paths begin with, one part of the shortest left over."""
    number = 0
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        number += 1
    return number
