"""Where an arm is better than its baseline: in short reasoning or in long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Picture

from avatar.report.arms import Arm, Runs
from avatar.report.figures.base import Figure, Kind, counted, first_few, looks_of
from avatar.report.gains import Bins, Gain, bins_of, gain_of
from avatar.report.look import Look, legend_below, numbers, panels


def draw(runs: Runs) -> Figure | None:
    """Gain in accuracy reward, a group of bars a bin of lengths; None where no arm and its baseline have replies."""
    pairs = [(arm, base) for arm in runs.arms if (base := runs.arm(arm.baseline)) and _has(arm) and _has(base)]
    if not pairs:
        return None
    both = list({arm.label: arm for pair in pairs for arm in pair}.values())
    bins = bins_of(np.concatenate([run.lengths for arm in both for run in arm.runs]))
    found = {arm.label: gain_of(arm, base, bins) for arm, base in pairs}
    shown, note = first_few(found)
    rivals = {arm.label: base.label for arm, base in pairs}
    drawn = [arm for arm in both if arm.label in shown or arm.label in {rivals[label] for label in shown}]
    per_bin = _replies_by_bin(drawn, bins)
    caption = (
        f"Accuracy reward of an arm less that of its baseline ({_who(rivals)}), in points, by the length of the reply; "
        f"new replies without a hint from the last quarter of steps, {counted(drawn)}, n = {sum(per_bin):,}. "
        f"{_about_bars(shown)} Above 0 the arm is better at that length; "
        f"as lengths are of what each wrote itself, the questions in a bin need not be the same.{note}"
    )
    only, *_ = names = sorted(set(rivals.values()))
    ends = "; ".join(f"{label} {_points(gain.mean)}" for label, gain in shown.items())
    return Figure(
        _draw(shown, looks_of(shown, runs), bins, per_bin, only if len(names) == 1 else ""),
        caption,
        f"Bar chart of gains by reply length ({', '.join(bins.labels)} tokens), in points: {ends}.",
        {
            "bins": list(bins.labels),
            "replies": dict(zip(bins.labels, per_bin, strict=True)),
            "baseline": rivals,
            "gain": {label: numbers(asdict(gain)) for label, gain in found.items()},
        },
    )


def _draw(
    gains: Mapping[str, Gain], looks: Mapping[str, Look], bins: Bins, per_bin: list[int], baseline: str
) -> Picture:
    picture, (axes,) = panels(height=3.6)
    width = 0.8 / len(gains)
    for i, (label, gain) in enumerate(gains.items()):
        look = looks[label]
        places = np.arange(len(bins.labels)) + (i - (len(gains) - 1) / 2) * width
        face = "white" if look.hatch else look.color
        axes.bar(places, 100 * gain.mean, width, color=face, hatch=look.hatch, edgecolor=look.color, label=label)
        known = ~np.isnan(gain.low) & ~np.isnan(gain.mean)
        # An interval of percentiles need not hold the mean: its two ends are drawn, not distances from it.
        axes.vlines(places[known], 100 * gain.low[known], 100 * gain.high[known], color="black", linewidth=2.6)
        axes.vlines(places[known], 100 * gain.low[known], 100 * gain.high[known], color="white", linewidth=1.0)
    axes.axhline(0, color="black", linewidth=0.8)
    names = [f"{label}\nn = {n:,}" for label, n in zip(bins.labels, per_bin, strict=True)]
    axes.set_xticks(range(len(names)), names)
    over = f" over {baseline}" if baseline else ""
    axes.set(xlim=(-0.5, len(names) - 0.5), xlabel="tokens of the reply", ylabel=f"gain{over}, points")
    axes.grid(visible=False, axis="x")
    legend_below(picture, axes)
    return picture


def _has(arm: Arm) -> bool:
    return any(len(run.lengths) for run in arm.runs)


def _replies_by_bin(arms: list[Arm], bins: Bins) -> list[int]:
    lengths = np.concatenate([run.lengths for arm in arms for run in arm.runs])
    place = np.searchsorted(bins.inner, lengths, side="right")
    return [int(n) for n in np.bincount(place, minlength=len(bins.labels))]


def _about_bars(gains: Mapping[str, Gain]) -> str:
    if all(np.isnan(gain.low).all() for gain in gains.values()):
        return "An arm here is one run, so there is no interval, and small differences mean nothing."
    how = ", seed by seed" if all(gain.paired for gain in gains.values()) else ""
    return f"The thin bars are 95 % intervals by a bootstrap over runs{how}."


def _who(rivals: Mapping[str, str]) -> str:
    names = set(rivals.values())
    return next(iter(names)) if len(names) == 1 else "; ".join(f"of {arm}: {base}" for arm, base in rivals.items())


def _points(values: Any) -> str:
    return ", ".join("no reply" if np.isnan(value) else f"{100 * value:+.1f}" for value in values)


LENGTHS_FIGURE = Kind(
    "lengths",
    "Gain by length of the reasoning (figure 6 of the paper)",
    draw,
    "two arms or more with completions.jsonl and an accuracy reward",
)
