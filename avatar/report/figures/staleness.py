"""How old what is replayed is."""

from __future__ import annotations

from avatar.modules.health import STALENESS_LABELS
from avatar.report.arms import Runs
from avatar.report.figures.advantages import summed
from avatar.report.figures.bars import draw_histograms, shares_of
from avatar.report.figures.base import Figure, Kind, counted, first_few
from avatar.report.look import numbers


def draw(runs: Runs) -> Figure | None:
    """Histograms of age in steps, a panel an arm; None where nothing was replayed or no ``health.jsonl`` was kept."""
    found = {arm.label: counts for arm in runs.arms if (counts := summed(arm, ("staleness",)))}
    if not found:
        return None
    shown, note = first_few(found)
    peaks = {label: STALENESS_LABELS[int(kinds["staleness"].argmax())] for label, kinds in shown.items()}
    return Figure(
        draw_histograms(shown, STALENESS_LABELS, "age in steps"),
        "Age of what was replayed, in optimizer steps since it was generated, as shares of all replayed completions "
        f"of {counted([a for a in runs.arms if a.label in found])}; bins widen to the right. Far to the right, the "
        f"policy learns from one that it hardly is any more: see the effective sample size.{note}",
        "Bar charts of the age of replayed completions, one an arm. Most are of: "
        + ", ".join(f"{label} {peak} steps" for label, peak in peaks.items()) + ".",
        {
            "bins": list(STALENESS_LABELS),
            "counts": numbers({label: kinds["staleness"] for label, kinds in found.items()}),
            "shares": numbers({label: shares_of(kinds["staleness"]) for label, kinds in found.items()}),
        },
    )  # fmt: skip


STALENESS_FIGURE = Kind(
    "staleness",
    "Age of what is replayed",
    draw,
    "a run with replay (model.replay) of 100 steps or more, which keeps health.jsonl",
)
