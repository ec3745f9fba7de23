"""Do advantages vanish: their histograms, of new completions and of replayed ones."""

from __future__ import annotations

from avatar.modules.health import ADVANTAGE_LABELS
from avatar.report.arms import Arm, Runs
from avatar.report.figures.bars import draw_histograms, shares_of
from avatar.report.figures.base import Figure, Kind, counted, first_few
from avatar.report.files import Column
from avatar.report.look import numbers

ZERO = ADVANTAGE_LABELS.index("0")


def draw(runs: Runs) -> Figure | None:
    """Histograms of advantages, a panel an arm; None where no run kept ``health.jsonl``."""
    found = {arm.label: counts for arm in runs.arms if (counts := summed(arm, ("fresh", "replayed")))}
    if not found:
        return None
    shown, note = first_few(found)
    picture = draw_histograms(shown, ADVANTAGE_LABELS, "advantage of a completion")
    vanished = {label: {kind: float(shares_of(c)[ZERO]) for kind, c in kinds.items()} for label, kinds in found.items()}
    caption = (
        f"Advantages of completions in health.jsonl, {counted([a for a in runs.arms if a.label in found])}; a bin is "
        "named by its lower end, and bars of a kind sum to 1. From the bar at 0 nothing is learned: the lower it is, "
        f"the more of what was generated is used.{note}"
    )
    at_zero = ", ".join(f"{label} {kinds.get('fresh', 0):.0%}" for label, kinds in vanished.items() if label in shown)
    return Figure(
        picture,
        caption,
        f"Bar charts of advantages, one an arm. Share of new completions at zero: {at_zero}.",
        {"bins": list(ADVANTAGE_LABELS), "counts": numbers(found), "share_at_zero": numbers(vanished)},
    )


def summed(arm: Arm, kinds: tuple[str, ...]) -> dict[str, Column]:
    """Counts [bins] by kind, over the runs of an arm; kinds that none has are left out."""
    found = {kind: [run.histograms[kind] for run in arm.runs if kind in run.histograms] for kind in kinds}
    return {kind: sum(counts[1:], start=counts[0]) for kind, counts in found.items() if counts}


ADVANTAGES_FIGURE = Kind(
    "advantages",
    "Advantages, new and replayed (figure 4 of the paper)",
    draw,
    "health.jsonl, which a run writes from its 100th step on",
)
