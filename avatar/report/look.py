"""How figures look: told apart in black and white, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator

from avatar.report.stats import Band

WIDTH, DPI, MOST_ARMS, MARKS = 6.4, 150, 8, 12  # inches; of a PNG; in one figure; markers on a line
RULES = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "avatar",  # or every file had ids of its own
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Look:
    """Of one arm, wherever it is drawn."""

    color: str
    line: Any
    marker: str
    hatch: str


LOOKS = (
    Look("#000000", "-", "o", ""),
    Look("#c8443c", "--", "s", "///"),
    Look("#8a8a8a", "-", "^", "..."),
    Look("#2f6db3", "-.", "D", "\\\\\\"),
    Look("#b9b9b9", "--", "v", "xxx"),
    Look("#2e7d32", ":", "P", "---"),
    Look("#5a4a78", (0, (5, 1, 1, 1, 1, 1)), "X", "+++"),
    Look("#d98b00", (0, (1, 1)), "*", "ooo"),
)


@contextmanager
def style() -> Iterator[None]:
    """Everything that is drawn and saved under it."""
    with matplotlib.rc_context(RULES):
        yield


def panels(number: int = 1, columns: int = 1, height: float = 4.0, **shared: Any) -> tuple[Picture, list[Any]]:
    """A picture of so many panels in rows, and its axes; the rest of the last row is left empty.

    Args:
        number: Of panels, at least 1.
        columns: Most in a row.
        height: Of a row, in inches.
        **shared: ``sharex`` and ``sharey``.
    """
    columns = min(columns, number)
    rows = -(-number // columns)
    picture = Picture(figsize=(WIDTH, height * rows + 0.3), layout="constrained")
    axes = list(picture.subplots(rows, columns, squeeze=False, **shared).flat)
    for unused in axes[number:]:
        unused.set_axis_off()
    return picture, axes[:number]


def draw_band(axes: Any, band: Band, look: Look, label: str, alpha: float = 0.18) -> None:
    """A mean with its interval, so opaque; of one run the line alone."""
    every = max(1, -(-len(band.x) // MARKS))
    if band.low is not None and band.high is not None:
        axes.fill_between(band.x, band.low, band.high, color=look.color, alpha=alpha, linewidth=0)
    axes.plot(
        band.x, band.mean, color=look.color, linestyle=look.line, marker=look.marker, markevery=every, markersize=5,
        linewidth=1.8, label=label,
    )  # fmt: skip


def legend_below(picture: Picture, axes: Any) -> None:
    """What the lines or bars of ``axes`` are, under all panels: there it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = max(1, min(len(labels), 4, 75 // (longest + 7)))
    picture.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=10)


def label_bottom(axes: Sequence[Any], columns: int, text: str) -> None:
    """Ticks and a name for x under the last panel of each column alone; a row may end early."""
    for i, panel in enumerate(axes):
        is_last = i + columns >= len(axes)
        panel.tick_params(labelbottom=is_last)
        if is_last:
            panel.set_xlabel(text)


def counts_from_zero(axes: Any) -> None:
    """Completions or steps along x: no negative ones, thousands set apart."""
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def save(picture: Picture, folder: Path, name: str) -> None:
    """``name.png`` and ``name.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    picture.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    picture.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def numbers(values: Any) -> Any:
    """Arrays and floats, nested as they are, as JSON has them: six decimals, None for NaN."""
    if isinstance(values, dict):
        return {str(key): numbers(value) for key, value in values.items()}
    if isinstance(values, list | tuple | np.ndarray):
        return [numbers(value) for value in values]
    if isinstance(values, float | np.floating):
        return round(float(values), 6) if np.isfinite(values) else None
    return int(values) if isinstance(values, np.integer) else values
