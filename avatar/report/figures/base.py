"""What a figure of the page is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from matplotlib.figure import Figure as Picture

from avatar.report.arms import Arm, Runs
from avatar.report.look import LOOKS, MOST_ARMS, Look, numbers
from avatar.report.stats import Band

T = TypeVar("T")

CROWD = 4  # arms whose bands can lie over one another and be told apart
BAND = "The band is the 95 % interval of that mean, by a bootstrap over runs."


@dataclass(frozen=True)
class Figure:
    """A figure that has been drawn.

    Attributes:
        picture: Not saved yet.
        caption: What is shown, of how many runs, what bands and bars are, what to read from it.
        alt: What it looks like, for those who do not see it.
        numbers: What was drawn, as JSON has it; of all arms, those that found no room included.
    """

    picture: Picture
    caption: str
    alt: str
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A figure that may be drawn.

    Attributes:
        name: Of its files.
        title: Its heading.
        draw: Draws it; None where the runs have nothing to show.
        needs: What runs must have for it, and how to get it; said where it is left out.
    """

    name: str
    title: str
    draw: Callable[[Runs], Figure | None]
    needs: str


def first_few(found: dict[str, T]) -> tuple[dict[str, T], str]:
    """As many as one figure holds, and a sentence about the others, empty where there are none."""
    if len(found) <= MOST_ARMS:
        return found, ""
    kept = dict(list(found.items())[:MOST_ARMS])
    return kept, f" Of {len(found)} arms the first {MOST_ARMS} are drawn; report.json has all."


def looks_of(labels: Iterable[str], runs: Runs) -> dict[str, Look]:
    """How each of at most ``MOST_ARMS`` arms is drawn: the same in every figure, unless the page has more arms."""
    labels = list(labels)
    order = labels if len(runs.arms) > MOST_ARMS else [arm.label for arm in runs.arms]
    return {label: LOOKS[order.index(label)] for label in labels}


def counted(arms: Sequence[Arm]) -> str:
    """``3 arms of 3 runs each``; of arms that differ, from how many to how many."""
    sizes = sorted({len(arm.runs) for arm in arms})
    if len(arms) == 1:
        return _plural(sizes[0], "run")
    if sizes == [1]:
        return f"{len(arms)} runs"
    each = f"{_plural(sizes[0], 'run')} each" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} runs"
    return f"{len(arms)} arms of {each}"


def about_bands(bands: dict[str, Band]) -> str:
    """What line and band are."""
    if all(band.low is None for band in bands.values()):
        return "Every arm is one run, so nothing here tells how far another seed would move a line."
    return f"Lines are means over runs. {BAND}"


def band_numbers(bands: dict[str, Band]) -> dict[str, Any]:
    """Of each arm x, mean and interval."""
    fields = ("x", "mean", "low", "high", "num_runs")
    return {label: {field: numbers(getattr(band, field)) for field in fields} for label, band in bands.items()}


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
