"""How strongly credit is shaped."""

from __future__ import annotations

from avatar.report.arms import Runs
from avatar.report.figures.base import Figure, Kind, first_few
from avatar.report.figures.dependence import about_budgets, about_spots, draw_spots, numbers_of, spots_by_series
from avatar.report.look import numbers
from avatar.report.settings import strength_of

FULL = 7  # so many labels stand too close


def draw(runs: Runs) -> Figure | None:
    """Accuracy by lambda; None where all runs with a credit shape have the same, or fewer than two were validated."""
    series = spots_by_series(runs, lambda run: strength_of(run.settings))
    if not series:
        return None
    shown, note = first_few(series)
    values = sorted({float(spot.value) for spots in shown.values() for spot in spots})
    picture = draw_spots(shown, float, r"strength $\lambda$")
    for panel in picture.axes:
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.margins(x=0.08)
        panel.tick_params(axis="x", labelsize=11 if len(values) < FULL else 8)
    caption = (
        f"{about_spots(shown, 'the strength of the credit shape')} At 0 every token has the same credit; bars that "
        f"overlap with those at 0 do not tell the shape from none.{about_budgets(runs)}{note}"
    )
    alt = f"Accuracy over strengths {', '.join(f'{value:g}' for value in values)}, two panels."
    return Figure(picture, caption, alt, numbers(numbers_of(series, lambda value: f"{value:g}")))


STRENGTH_FIGURE = Kind(
    "strength",
    "Strength of the credit shape (figure 10 of the paper)",
    draw,
    "runs that differ in model.advantage.strength; a sweep over it makes it",
)
