"""How accuracy hangs on one setting, over runs that differ in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure as Picture

from avatar.report.arms import Runs, with_axis
from avatar.report.look import LOOKS, legend_below, panels
from avatar.report.runs import ACCURACY, Run
from avatar.report.settings import estimator_of
from avatar.report.stats import mean_interval

MEASURES: Mapping[str, Callable[[Run], float | None]] = {
    "at the end": lambda run: run.last_accuracy,
    "mean over the run": lambda run: run.mean_accuracy,
}

SAME = 1.02  # ratio of completions up to which two runs are of one length


@dataclass(frozen=True)
class Spot:
    """Runs with one value of the setting.

    Attributes:
        value: Of the setting.
        means: By measure: mean, lower and upper end of its 95 % interval, both NaN for a single run.
        num_runs: How many.
    """

    value: Any
    means: Mapping[str, tuple[float, float, float]]
    num_runs: int


def spots_by_series(runs: Runs, setting: Callable[[Run], Any]) -> dict[str, list[Spot]]:
    """Spots by rising value, a series for each estimator, and for each label on what else the sweep varies beside it.

    Args:
        runs: All; those without validation, or for whom ``setting`` is None, are left out.
        setting: What is asked for.

    Returns:
        Empty where fewer than two values are found.
    """
    known = [(run, setting(run)) for run in runs.runs if run.last_accuracy is not None]
    known = [(run, value) for run, value in known if value is not None]
    if len({value for _, value in known}) < 2:
        return {}
    factors = _other_axes(known)
    series: dict[str, dict[Any, list[Run]]] = {}
    for run, value in sorted(known, key=lambda pair: pair[1]):
        series.setdefault(_name(run, factors), {}).setdefault(value, []).append(run)
    return {name: [_spot(value, group) for value, group in spots.items()] for name, spots in series.items()}


def draw_spots(series: Mapping[str, Sequence[Spot]], place: Callable[[Any], float], xlabel: str) -> Picture:
    """Two panels with all series: accuracy at the end, and its mean over the run.

    Args:
        series: At least one.
        place: Where a value lies along x.
        xlabel: What is varied.
    """
    picture, axes = panels(2, 2, 3.4, sharey=True)
    step = 0.012 * _width([place(spot.value) for spots in series.values() for spot in spots])
    for panel, measure in zip(axes, MEASURES, strict=True):
        for i, ((name, spots), look) in enumerate(zip(series.items(), LOOKS, strict=False)):
            at = [place(spot.value) + step * (i - (len(series) - 1) / 2) for spot in spots]  # or bars hide one another
            means, lows, highs = zip(*(spot.means[measure] for spot in spots), strict=True)
            panel.vlines(at, lows, highs, color=look.color, linewidth=1.2)
            panel.plot(at, means, color=look.color, linestyle=look.line, marker=look.marker, linewidth=1.6, label=name)
        panel.set_title(measure, fontsize=11)
        panel.set_xlabel(xlabel)
    axes[0].set_ylabel("validation accuracy")
    legend_below(picture, axes[0])
    return picture


def about_spots(series: Mapping[str, Sequence[Spot]], what: str) -> str:
    """The caption, but for what to read from it."""
    sizes = sorted({spot.num_runs for spots in series.values() for spot in spots})
    total = sum(spot.num_runs for spots in series.values() for spot in spots)
    text = f"Validation accuracy against {what}, at the end and as the area under the learning curve; {total} runs"
    if sizes == [1]:
        return f"{text}, one a point: nothing here tells how far another seed would move it."
    each = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"{text}, means of {each} a point. Upright bars are 95 % intervals by a bootstrap over runs."


def about_budgets(runs: Runs) -> str:
    """A sentence where runs did not generate as many completions, for then their ends do not compare; else empty."""
    ends = [run.points(ACCURACY)[0][-1] for run in runs.runs if run.last_accuracy is not None]
    least, most = min(ends, default=0), max(ends, default=0)
    if most <= SAME * least:
        return ""
    return f" Runs were not of one length: {least:,.0f} to {most:,.0f} completions."


def numbers_of(series: Mapping[str, Sequence[Spot]], name: Callable[[Any], str]) -> dict[str, Any]:
    """By series and value: means with intervals, and how many runs."""
    return {
        label: {name(spot.value): {**spot.means, "num_runs": spot.num_runs} for spot in spots}
        for label, spots in series.items()
    }


def _other_axes(known: Sequence[tuple[Run, Hashable]]) -> list[str]:
    """Axes, not averaged over, on which runs of one value and one estimator differ."""
    seen: dict[tuple[Hashable, str, str], set[str]] = {}
    for run, value in known:
        sweep = run.place.sweep
        for axis, label in run.place.point.items():
            if sweep and axis not in sweep.over:
                seen.setdefault((value, estimator_of(run.settings), axis), set()).add(label)
    return list(dict.fromkeys(axis for (_, _, axis), labels in seen.items() if len(labels) > 1))


def _name(run: Run, factors: Sequence[str]) -> str:
    labels = [with_axis(axis, run.place.point[axis]) for axis in factors if axis in run.place.point]
    return ", ".join([estimator_of(run.settings) or "run", *labels])


def _spot(value: Any, runs: Sequence[Run]) -> Spot:
    found = {name: [y for run in runs if (y := measure(run)) is not None] for name, measure in MEASURES.items()}
    return Spot(value, {name: mean_interval(values) for name, values in found.items()}, len(runs))


def _width(places: Sequence[float]) -> float:
    return max(places) - min(places)
