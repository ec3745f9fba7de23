"""How many new completions and how many replayed ones."""

from __future__ import annotations

from avatar.report.arms import Runs
from avatar.report.figures.base import Figure, Kind, first_few
from avatar.report.figures.dependence import about_budgets, about_spots, draw_spots, numbers_of, spots_by_series
from avatar.report.look import numbers
from avatar.report.runs import Run
from avatar.report.settings import ratio_of

Ratio = tuple[float, int, int]  # share of replayed ones, by which they are sorted; new, replayed


def draw(runs: Runs) -> Figure | None:
    """Accuracy by new : replayed; None where all runs have the same, or fewer than two were validated."""
    series = spots_by_series(runs, _setting)
    if not series:
        return None
    shown, note = first_few(series)
    values = sorted({spot.value for spots in shown.values() for spot in spots})
    picture = draw_spots(shown, lambda value: float(values.index(value)), "new : replayed")
    for panel in picture.axes:
        panel.set_xticks(range(len(values)), [_text(value) for value in values])
        panel.margins(x=0.12)
    caption = (
        f"{about_spots(shown, 'new : replayed completions of a prompt')} Points of one line share an estimator; "
        f"further right more is replayed.{about_budgets(runs)}{note}"
    )
    alt = f"Accuracy over the ratios {', '.join(map(_text, values))}, two panels."
    return Figure(picture, caption, alt, numbers(numbers_of(series, _text)))


def _setting(run: Run) -> Ratio | None:
    ratio = ratio_of(run.settings)
    return None if ratio is None else (ratio[1] / max(1, sum(ratio)), *ratio)


def _text(value: Ratio) -> str:
    return f"{value[1]}:{value[2]}"


RATIO_FIGURE = Kind(
    "ratio",
    "New and replayed completions (figure 8 of the paper)",
    draw,
    "runs that differ in model.num_generations or model.replay.num_replayed; a sweep over both makes it",
)
