"""Where the time of a step goes."""

from __future__ import annotations

from avatar.report.arms import Arm, Runs
from avatar.report.figures.base import Figure, Kind, counted, first_few
from avatar.report.look import legend_below, numbers, panels

# phase: (grey level, hatch), in the order of a step
PHASES = {
    "encode": ("white", ""),
    "generate": ("0.75", ""),
    "reward": ("white", "xxxx"),
    "replay": ("0.45", ""),
    "reference": ("white", "////"),
    "score": ("0.75", "...."),
    "update": ("0.1", ""),
}


def draw(runs: Runs) -> Figure | None:
    """Mean seconds of a step by phase, a bar an arm; None where no run kept ``timings.csv``."""
    found = {arm.label: seconds for arm in runs.arms if (seconds := mean_seconds(arm))}
    if not found:
        return None
    shown, note = first_few(found)
    picture, (axes,) = panels(height=1.2 + 0.42 * len(shown))
    left = dict.fromkeys(shown, 0.0)
    for phase, (color, hatch) in PHASES.items():
        if not any(phase in seconds for seconds in shown.values()):
            continue
        widths = [seconds.get(phase, 0.0) for seconds in shown.values()]
        axes.barh(
            list(shown), widths, 0.7, left=list(left.values()), color=color, hatch=hatch, edgecolor="black",
            linewidth=0.6, label=phase,
        )  # fmt: skip
        left = {label: before + width for (label, before), width in zip(left.items(), widths, strict=True)}
    for i, total in enumerate(left.values()):
        axes.annotate(f"{total:#.3g} s", (total, i), (5, 0), textcoords="offset points", va="center", fontsize=10)
    axes.set(xlabel="seconds a step", xlim=(0, 1.15 * max(left.values())))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    legend_below(picture, axes)
    caption = (
        "Wall-clock seconds of a training step by phase, means over all steps of "
        f"{counted([arm for arm in runs.arms if arm.label in found])}, without validation. Compare runs of one quiet "
        f"machine alone, and look for the phase that has the most to give.{note}"
    )
    alt = "Stacked bars of seconds a step. In all: " + ", ".join(f"{k} {v:#.3g} s" for k, v in left.items()) + "."
    return Figure(picture, caption, alt, numbers(found))


def mean_seconds(arm: Arm) -> dict[str, float]:
    """Mean over runs of the seconds a step takes in each phase; a phase that a run lacks counts as 0."""
    timed = [run.seconds for run in arm.runs if run.seconds]
    return {p: sum(s.get(p, 0.0) for s in timed) / len(timed) for p in PHASES if any(p in s for s in timed)}


SECONDS_FIGURE = Kind("seconds", "Seconds by phase", draw, "timings.csv, which `avatar fit` writes")
