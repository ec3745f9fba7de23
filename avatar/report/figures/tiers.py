"""How the replay buffer fills."""

from __future__ import annotations

from avatar.replay import TIERS, Replay
from avatar.report.arms import Arm, Runs
from avatar.report.figures.base import Figure, Kind, about_bands, band_numbers, counted, first_few
from avatar.report.look import LOOKS, counts_from_zero, draw_band, label_bottom, legend_below, panels
from avatar.report.runs import Run
from avatar.report.stats import Band, Curve, band_of

DEFAULTS = Replay()  # where a run does not tell


def draw(runs: Runs) -> Figure | None:
    """Stored completions of each tier over steps, a panel an arm; None where no run has replay."""
    found = {arm.label: bands for arm in runs.arms if (bands := _bands(arm))}
    if not found:
        return None
    shown, note = first_few(found)
    columns = 1 if len(shown) == 1 else 2
    picture, axes = panels(len(shown), columns, 3.0 if columns == 1 else 2.4, sharex=True, sharey=True)
    for panel, (label, bands) in zip(axes, shown.items(), strict=True):
        for (tier, band), look in zip(bands.items(), LOOKS, strict=False):
            draw_band(panel, band, look, tier)
        panel.set_title(label, fontsize=11)
        counts_from_zero(panel)
        panel.set_ylim(bottom=0)
    label_bottom(axes, columns, "step")
    picture.supylabel("completions stored", fontsize=11)
    legend_below(picture, axes[0])
    every = {f"{label}, {tier}": band for label, bands in shown.items() for tier, band in bands.items()}
    caption = (
        f"Completions stored in each tier of the replay buffer (prompts that earn least are hard); "
        f"{counted([arm for arm in runs.arms if arm.label in found])}. {about_bands(every)} A line that goes flat has "
        f"filled its share of the buffer, one that stays at 0 leaves its share unused.{note}"
    )
    ends = "; ".join(f"{name} {band.mean[-1]:,.0f}" for name, band in every.items())
    alt = f"Line charts of stored completions over steps, one an arm. At the end: {ends}."
    return Figure(picture, caption, alt, {label: band_numbers(bands) for label, bands in found.items()})


def _bands(arm: Arm) -> dict[str, Band]:
    found = {tier: band_of([_stored(run, tier) for run in arm.runs]) for tier in TIERS}
    return {tier: band for tier, band in found.items() if band is not None}


def _stored(run: Run, tier: str) -> Curve:
    """Completions in a tier, [n] over steps: its share that is taken, times the share of the capacity it may take."""
    x, taken = run.points(f"replay/occupancy_{tier}", "step")
    capacity = run.settings.get("model.replay.capacity") or DEFAULTS.capacity
    share = run.settings.get(f"model.replay.{tier}_share")
    return x, taken * capacity * (DEFAULTS.share(tier) if share is None else share)


TIERS_FIGURE = Kind("tiers", "Filling of the replay buffer", draw, "a run with replay (model.replay)")
