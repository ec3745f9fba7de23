"""The table and the two pictures that ``avatar demo`` ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from rich.table import Table

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from avatar.modules.health import ADVANTAGE_LABELS, STALENESS_LABELS
from avatar.replay import TIERS
from avatar.report.curves import read_curve

STYLES = (("black", "-", "o"), ("0.45", "--", "s"), ("tab:red", "-", "^"), ("tab:blue", "-.", "D"), ("0.6", ":", "v"))
WINDOW = 20  # steps that a share is averaged over in a figure


def arms_table(summary: Mapping[str, Any]) -> Table:
    """The arms of a demo side by side: accuracy by question kind, and what it took."""
    arms = summary["arms"]
    table = Table(title=f"Accuracy on {summary['num_questions']} held-out questions (seed {summary['seed']})")
    table.add_column("question kind")
    for name in ("before", *arms):
        table.add_column(name, justify="right")
    for kind, value in summary["by_kind_before"].items():
        table.add_row(kind, f"{value:.3f}", *(f"{arm['by_kind'][kind]:.3f}" for arm in arms.values()))
    table.add_section()
    whole = (f"{arm['accuracy']:.3f}" for arm in arms.values())
    table.add_row("all", f"{summary['accuracy_before']:.3f}", *whole, style="bold")
    table.add_section()
    target = next(iter(arms.values()))["target"]
    for label, key, style in (
        ("completions generated", "completions_generated", ","),
        (f"... to {target:.2f} (dev split)", "completions_to_target", ","),
        ("groups without spread", "zero_spread_share", ".2f"),
        ("replay: hit rate", "replay_hit_rate", ".2f"),
        ("seconds a step", "seconds_per_step", ".3f"),
        ("seconds of training", "seconds", ".1f"),
    ):
        values = (arm[key] for arm in arms.values())
        table.add_row(label, "", *("-" if value is None else f"{value:{style}}" for value in values))
    table.add_section()
    table.add_row("seconds in all", f"{summary['seconds']['total']:.1f}", *("" for _ in arms), style="bold")
    return table


def plot_learning_curves(runs: Mapping[str, Path], out: Path) -> None:
    """Validation accuracy, and the share of groups without spread, against completions generated.

    Args:
        runs: ``metrics.csv`` of each run, by the name it is to have; runs with validation.
        out: PNG or SVG to write.
    """
    figure, (top, bottom) = plt.subplots(2, figsize=(7, 5.6), layout="constrained", sharex=True, height_ratios=(3, 1.2))
    for (name, metrics), (color, line, marker) in zip(runs.items(), STYLES * len(runs), strict=False):
        look = {"color": color, "linestyle": line, "linewidth": 2}
        points = read_curve(metrics, "completions/generated", "val/accuracy")
        top.plot(*zip(*points, strict=True), marker=marker, markersize=5, label=name, **look)
        spread = _smooth(read_curve(metrics, "completions/generated", "advantage/zero_spread_share"))
        bottom.plot(*zip(*spread, strict=True), **look)
    top.set(ylabel="held-out accuracy (dev split)", ylim=(0, 1.03))
    bottom.set(xlabel="completions generated", ylabel="groups\nwithout spread", ylim=(0, 1), xlim=(0, None))
    top.legend(loc="lower right", frameon=True)
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    _save(figure, out)


def plot_health(run: Path, out: Path) -> None:
    """Advantages fresh and replayed, staleness, tiers, and the worth of importance weights of a run with replay.

    Args:
        run: Folder with ``metrics.csv`` and, if it was long enough for one, ``health.jsonl``.
        out: PNG or SVG to write.
    """
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    file = run / "health.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    _bars(axes[0, 0], "advantage of a completion", ADVANTAGE_LABELS, lines, {"fresh": "0.35", "replayed": "tab:red"})
    _bars(axes[0, 1], "staleness of what is replayed (steps)", STALENESS_LABELS, lines, {"staleness": "tab:red"})
    for tier, style in zip(TIERS, STYLES, strict=False):
        points = read_curve(run / "metrics.csv", "step", f"replay/prompts_{tier}")
        if points:
            axes[1, 0].plot(*zip(*points, strict=True), color=style[0], linestyle=style[1], label=tier)
    axes[1, 0].set(xlabel="step", ylabel="prompts with something stored")
    shares = {"ess/replayed": "effective sample share", "replay/hit_rate": "hit rate", "hint/share": "prompts hinted"}
    for (key, label), style in zip(shares.items(), STYLES, strict=False):
        points = _smooth(read_curve(run / "metrics.csv", "step", key))
        if points:
            axes[1, 1].plot(*zip(*points, strict=True), color=style[0], linestyle=style[1], label=label)
    axes[1, 1].set(xlabel="step", ylabel="share", ylim=(-0.02, 1.05))
    for panel in axes.flat:
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=True)
    _save(figure, out)


def _bars(axes: Any, title: str, labels: Sequence[str], lines: Sequence[Any], kinds: Mapping[str, str]) -> None:
    width = 0.8 / len(kinds)
    for i, (kind, color) in enumerate(kinds.items()):
        counts = [sum(line[f"histogram/{kind}"][j] for line in lines) for j in range(len(labels))]
        shares = [count / max(1, sum(counts)) for count in counts]
        places = [j + (i - (len(kinds) - 1) / 2) * width for j in range(len(labels))]
        axes.bar(places, shares, width, color=color, label=kind if len(kinds) > 1 else None, edgecolor="black", lw=0.4)
    axes.set(xlabel=title, ylabel="share", xticks=range(len(labels)))
    axes.set_xticklabels(labels, rotation=45, ha="right", fontsize=8)


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of y over the last ``WINDOW`` points."""
    ys = [y for _, y in points]
    means = (sum(part) / len(part) for part in (ys[max(0, i + 1 - WINDOW) : i + 1] for i in range(len(ys))))
    return [(x, mean) for (x, _), mean in zip(points, means, strict=True)]


def _save(figure: Any, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)
