"""What importance weights leave of the tokens."""

from __future__ import annotations

from avatar.report.arms import Runs
from avatar.report.figures.base import CROWD, Figure, Kind, about_bands, band_numbers, counted, first_few, looks_of
from avatar.report.look import counts_from_zero, draw_band, legend_below, panels
from avatar.report.stats import Band, band_of, smooth

WINDOW = 20  # rows of metrics.csv that a share is averaged over
ON_POLICY = 0.9999  # a share that is not told apart from 1


def draw(runs: Runs) -> Figure | None:
    """Effective sample size of replayed tokens over completions, or of fresh ones that are trained on repeatedly.

    None where nothing was replayed and every update was on-policy: the share is 1 throughout.
    """
    kind, bands = "replayed", _bands(runs, "replayed")
    if not bands:
        kind, bands = "fresh", _bands(runs, "fresh")
        bands = {label: band for label, band in bands.items() if band.mean.min() < ON_POLICY}
    if not bands:
        return None
    shown, note = first_few(bands)
    picture, (axes,) = panels(height=3.4)
    for label, look in looks_of(shown, runs).items():
        draw_band(axes, shown[label], look, label, 0.18 if len(shown) <= CROWD else 0.09)
    axes.set(xlabel="completions generated", ylabel="effective share of tokens", ylim=(0, 1.03))
    counts_from_zero(axes)
    legend_below(picture, axes)
    caption = (
        f"Effective sample size of the {kind} tokens as a share of their number, mean of {WINDOW} steps; "
        f"{counted([arm for arm in runs.arms if arm.label in bands])}. {about_bands(shown)} At 1 the policy is the one "
        f"that wrote them; near 0 a few tokens outweigh all others and little is learned from the rest.{note}"
    )
    ends = ", ".join(f"{label} {band.mean[-1]:.2f}" for label, band in shown.items())
    alt = f"Line chart of the effective sample size of {kind} tokens over completions. At the end: {ends}."
    return Figure(picture, caption, alt, {"of": kind, "arms": band_numbers(bands)})


def _bands(runs: Runs, kind: str) -> dict[str, Band]:
    found = {arm.label: band_of([smooth(run.points(f"ess/{kind}"), WINDOW) for run in arm.runs]) for arm in runs.arms}
    return {label: band for label, band in found.items() if band is not None}


SAMPLES_FIGURE = Kind(
    "samples",
    "Effective sample size",
    draw,
    "a run with replay (model.replay), or with model.updates_per_rollout above 1",
)
