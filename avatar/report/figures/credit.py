"""How credit is spread over the tokens of a completion."""

from __future__ import annotations

import torch
from matplotlib.ticker import MaxNLocator

from avatar.advantages import CreditShape, Uniform
from avatar.report.arms import Runs
from avatar.report.figures.base import Figure, Kind, first_few
from avatar.report.files import Column
from avatar.report.look import LOOKS, MARKS, legend_below, numbers, panels
from avatar.report.settings import shape_of


def draw(runs: Runs) -> Figure | None:
    """Weights over token position, a line a shape that some run was trained with; None where none has one."""
    shapes = {name_of(shape): shape for run in runs.runs if (shape := shape_of(run.settings)) is not None}
    if not shapes:
        return None
    known = [length for run in runs.runs if (length := run.mean_length) is not None]
    length = max(2, round(sum(known) / len(known))) if known else 100
    weights = {name: weights_of(shape, length) for name, shape in shapes.items()}
    shown, note = first_few(weights)
    picture, (axes,) = panels(height=3.2)
    axes.axhline(1, color="0.35", linestyle=":", linewidth=1.1)
    for (name, values), look in zip(shown.items(), LOOKS, strict=False):
        axes.plot(
            range(1, length + 1), values, color=look.color, linestyle=look.line, marker=look.marker, linewidth=1.8,
            markersize=5, markevery=max(1, -(-length // MARKS)), label=name,
        )  # fmt: skip
    axes.set(xlabel="token of the completion", ylabel="weight of the advantage")
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    legend_below(picture, axes)
    caption = (
        f"What the advantage of a completion is multiplied by at each of its tokens, for {length} tokens, the mean of "
        "all runs; by formula, so without a band. Dotted: 1, the same credit everywhere. Above it a token counts "
        f"for more.{note}"
    )
    alt = f"Line chart of credit weights over {length} tokens: {'; '.join(shown)}."
    return Figure(picture, caption, alt, {"length": length, "weights": numbers(weights)})


def name_of(shape: CreditShape) -> str:
    """``Parabolic, strength 0.3``; a uniform shape is the same at any strength."""
    if isinstance(shape, Uniform):
        return "Uniform"
    return f"{type(shape).__name__}, strength {shape.strength:g}{', mean 1' if shape.normalize else ''}"


def weights_of(shape: CreditShape, length: int) -> Column:
    """[length]."""
    return shape.weights(torch.ones(1, length, dtype=torch.bool))[0].double().numpy()


CREDIT_FIGURE = Kind(
    "credit",
    "Credit over a completion (figure 2 of the paper)",
    draw,
    "a run whose advantage has a credit shape (AVATAR or TAS)",
)
