"""Accuracy on held-out questions against what it cost in completions."""

from __future__ import annotations

from avatar.report.arms import Runs
from avatar.report.figures.base import CROWD, Figure, Kind, about_bands, band_numbers, counted, first_few, looks_of
from avatar.report.look import counts_from_zero, draw_band, legend_below, numbers, panels
from avatar.report.runs import ACCURACY
from avatar.report.stats import Band, band_of


def draw(runs: Runs) -> Figure | None:
    """Learning curves, a line an arm; None where no run was validated."""
    found = {arm.label: band_of([run.points(ACCURACY) for run in arm.runs]) for arm in runs.arms}
    bands = {label: band for label, band in found.items() if band is not None}
    if not bands:
        return None
    shown, note = first_few(bands)
    picture, (axes,) = panels(height=3.9)
    for label, look in looks_of(shown, runs).items():
        draw_band(axes, shown[label], look, label, 0.18 if len(shown) <= CROWD else 0.09)
    lowest = min(float((band.mean if band.low is None else band.low).min()) for band in shown.values())
    axes.set(xlabel="completions generated", ylabel="validation accuracy", ylim=(max(-0.02, lowest - 0.05), 1.02))
    counts_from_zero(axes)
    for target in runs.targets:
        axes.axhline(target, color="0.35", linestyle=":", linewidth=1.1)
    legend_below(picture, axes)
    arms = [arm for arm in runs.arms if arm.label in bands]
    targets = " and ".join(f"{target:.2f}" for target in runs.targets)
    caption = (
        f"Accuracy on the validation questions against completions generated so far; {counted(arms)}. "
        f"{about_bands(shown)} Dotted: {targets}. Of two lines at one height, the one further left paid with fewer "
        f"completions.{note}"
    )
    ends = ", ".join(f"{label} {band.mean[-1]:.2f}" for label, band in shown.items())
    return Figure(
        picture,
        caption,
        f"Line chart of validation accuracy over completions generated. At the end: {ends}.",
        {"targets": numbers(runs.targets), "arms": band_numbers(bands)} | _at_targets(bands, runs.targets),
    )


def _at_targets(bands: dict[str, Band], targets: tuple[float, ...]) -> dict[str, object]:
    """Where each mean curve first has a point at a target or above."""
    first = {
        label: {f"{target:g}": next((float(x) for x, y in zip(b.x, b.mean, strict=True) if y >= target), None)
                for target in targets}
        for label, b in bands.items()
    }  # fmt: skip
    return {"mean_curve_reaches": first}


ACCURACY_FIGURE = Kind(
    "accuracy",
    "Accuracy and completions (figure 5 of the paper)",
    draw,
    "a run with validation (data.val and trainer.val_check_interval)",
)
