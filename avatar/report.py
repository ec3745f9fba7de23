"""Tables and figures from what runs have written."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from rich.table import Table

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STYLES = ("-", "--", "-.", ":", (0, (8, 2, 1, 2, 1, 2)), (0, (1, 4)))


def read_curve(metrics: Path, x: str, y: str) -> list[tuple[float, float]]:
    """(x, y) of each row of a ``metrics.csv`` that has ``y``; an empty x is 0."""
    with metrics.open(newline="", encoding="utf-8") as file:
        return [(float(row.get(x) or 0), float(row[y])) for row in csv.DictReader(file) if row.get(y)]


def plot_learning_curve(metrics: Path, out: Path) -> None:
    """Validation accuracy against completions generated, over all questions and by kind; readable without colour.

    Args:
        metrics: ``metrics.csv`` of a reinforcement-learning run with validation.
        out: PNG or SVG to write.
    """
    with metrics.open(newline="", encoding="utf-8") as file:
        columns = csv.DictReader(file).fieldnames or []
    kinds = sorted(c for c in columns if c.startswith("val/accuracy/"))
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for kind, style in zip(kinds, STYLES * len(kinds), strict=False):
        points = read_curve(metrics, "completions/generated", kind)
        axes.plot(*zip(*points, strict=True), linestyle=style, linewidth=1.2, label=kind.removeprefix("val/accuracy/"))
    points = read_curve(metrics, "completions/generated", "val/accuracy")
    axes.plot(*zip(*points, strict=True), color="black", linewidth=2.8, marker="o", markersize=4, label="all")
    axes.set(xlabel="completions generated", ylabel="held-out accuracy (dev split)", ylim=(0, 1.03), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", ncols=2, frameon=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)


def before_after_table(title: str, by_kind: Mapping[str, Mapping[str, float]], total: Mapping[str, float]) -> Table:
    """Accuracy before and after training, by question kind and over all.

    Args:
        title: Of the table.
        by_kind: ``before`` and ``after`` of each kind.
        total: ``before`` and ``after`` over all.
    """
    table = Table(title=title)
    table.add_column("question kind")
    for name in ("before", "after", "gain"):
        table.add_column(name, justify="right")
    for kind, value in by_kind.items():
        table.add_row(kind, *_three(value))
    table.add_section()
    table.add_row("all", *_three(total), style="bold")
    return table


def _three(value: Mapping[str, float]) -> Sequence[str]:
    gain = value["after"] - value["before"]
    return f"{value['before']:.3f}", f"{value['after']:.3f}", f"{gain:+.3f}"
