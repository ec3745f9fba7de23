"""The table and the picture of ``avatar bench curves``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

Figures = Mapping[str, Any]
NAMES = {"avatar": "avatar", "trl": "TRL"}
# Told apart in black and white too: a full line with dots, a broken one with empty squares.
LOOKS: dict[str, dict[str, Any]] = {
    "avatar": {"color": "black", "linestyle": "-", "marker": "o"},
    "trl": {"color": "tab:orange", "linestyle": "--", "marker": "s", "markerfacecolor": "white"},
}


def curves_table(figures: Figures) -> Table:
    """Both sides, and their difference over the seeds."""
    summary, options = figures["summary"], figures["options"]
    seeds = options["seeds"].split(",")
    title = (
        f"Greedy accuracy on {figures['num_questions']} held-out questions; {options['num_generations']} completions a "
        f"step, lr {options['lr']:g}, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    )
    table = Table(title=title, caption="mean (least-most); [95 % interval, seeds drawn again]", title_justify="left")
    for name in ("", "avatar", f"TRL {figures['versions']['trl']}", "avatar - TRL"):
        table.add_column(name, justify="right" if name else "left")
    sides = [summary[side] for side in NAMES]
    for mark in map(str, summary["marks"]):
        cells = [spread(side["accuracy"][mark]) for side in sides]
        table.add_row(f"at {int(mark):,}", *cells, gap(summary["difference"][mark]))
    whole = [spread(side["whole_curve"]) for side in sides]
    table.add_row("whole curve", *whole, gap(summary["difference"]["whole_curve"]), style="bold")
    reached = [reach(side["to_target"]) for side in sides]
    table.add_row(f"first at {summary['target']:.2f}", *reached, "")
    for label, name in (("seconds a step", "step_s"), ("CPU s a step", "step_cpu_s")):
        ours, peer = (side[name] for side in sides)
        table.add_row(label, f"{ours:.3f}", f"{peer:.3f}", f"TRL / ours {peer / ours:.2f}")
    _add_draws(table, figures["checks"]["sampling"])
    return table


def _add_draws(table: Table, sampling: Mapping[str, Any]) -> None:
    """What the two draw before they have learnt anything."""
    table.add_section()
    for name in ("reward", "length"):
        ours, peer = (f"{sampling[name][side]:.3f}" for side in NAMES)
        table.add_row(f"start: {name}", ours, peer, gap(sampling[name]["difference"], 3))


def spread(values: Sequence[float]) -> str:
    """``0.93 (0.91-0.95)``."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else mean


def gap(found: Mapping[str, Any], digits: int = 2) -> str:
    """``+0.01 [-0.04, +0.06]``."""
    mean = f"{found['mean']:+.{digits}f}"
    low, high = (f"{side:+.{digits}f}" for side in found["interval"] or (0.0, 0.0))
    return f"{mean} [{low}, {high}]" if found["interval"] else mean


def reach(found: Sequence[int | None]) -> str:
    """The median of completions, those that never got there last; of two in the middle the later."""
    never = sum(value is None for value in found)
    median = statistics.median_high([float("inf") if value is None else value for value in found])
    text = "never" if median == float("inf") else f"{median:,.0f}"
    return f"{text} ({never} never)" if never and text != "never" else text


def update_table(update: Mapping[str, Any]) -> Table:
    """How far the two are apart when both train on our completions."""
    table = Table(title=f"Both on our completions, {update['num_steps']} steps", show_header=False)
    table.add_row("largest difference of a reward", f"{update['worst_reward_gap']:.1g}")
    table.add_row("largest difference of a loss", f"{update['worst_loss_gap']:.1g}")
    if update["worst_cosine"] is not None:
        table.add_row("smallest cosine of two gradients", f"1 - {1 - update['worst_cosine']:.1g}")
        table.add_row("largest difference of their norms", f"{update['worst_grad_norm_gap']:.1g} of the norm")
    table.add_row("weights apart at the end", f"{update['weights_apart']:.1g} of the way they have gone")
    return table


def plot_curves(figures: Figures, out: Path) -> None:
    """Accuracy against completions: each seed thin, the mean of each side thick.

    Args:
        figures: Of ``curves.json``.
        out: PNG or SVG to write.
    """
    import matplotlib  # half a second, which no other bench should wait for

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for side, look in LOOKS.items():
        curves = [run["points"] for run in figures["runs"] if run["side"] == side]
        thin = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 0.7, "alpha": 0.45}
        for points in curves if len(curves) > 1 else []:
            axes.plot(*zip(*points, strict=True), **thin)
        heights = [[accuracy for _, accuracy in points] for points in curves]
        means = list(map(statistics.mean, zip(*heights, strict=True)))
        label = f"{NAMES[side]}, mean of {len(curves)} seeds" if len(curves) > 1 else NAMES[side]
        axes.plot([x for x, _ in curves[0]], means, label=label, linewidth=2.2, markersize=5, **look)
    axes.set(xlabel="completions generated", ylabel="held-out accuracy (dev split)", ylim=(0, 1.03), xlim=(0, None))
    axes.legend(loc="lower right", frameon=True)
    axes.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(out, dpi=150)
    plt.close(drawing)
