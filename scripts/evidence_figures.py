"""The pictures of docs/evidence.md: learning curves by regime, and what each arm needs beside GRPO-4."""

from pathlib import Path
from typing import Any

import numpy as np

from avatar.commands.sweep.table import rows_of, summarize
from avatar.report.look import LOOKS, counts_from_zero, draw_band, legend_below, panels, save, style
from avatar.report.stats import band_of

ARMS = ("grpo8", "grpo4", "grpo4_tas", "grpo4_twice", "replay_only", "avatar", "avatar_floor", "avatar_twice")
LOOK = dict(zip(ARMS, LOOKS, strict=True))  # of an arm, in every panel
Kept = dict[str, Any]  # (sweep, records) by name


def draw_curves(kept: Kept, regimes: dict[str, str], home: Path) -> None:
    """Accuracy against new completions, a panel a regime: means over runs with 95 % bands."""
    shown = [name for name in regimes if name in kept]
    with style():
        picture, axes = panels(len(shown), columns=2, height=2.9, sharey=True)
        for panel, name in zip(axes, shown, strict=True):
            sweep, records = kept[name]
            for row in rows_of(sweep, records):
                curves = [tuple(np.array(record.result["curve"], dtype=float).T) for record in row.records]
                if band := band_of(curves):
                    draw_band(panel, band, LOOK[row.point["arm"]], row.point["arm"], alpha=0.05)
            for target in sweep["targets"]:
                panel.axhline(target, color="0.5", linestyle=":", linewidth=1)
            panel.set_title(regimes[name], fontsize=11)
            panel.set_ylim(0, 1)
            counts_from_zero(panel)
        for panel in axes[::2]:
            panel.set_ylabel("accuracy (test)")
        for panel in axes[-2:]:
            panel.set_xlabel("new completions")
        legend_below(picture, max(axes, key=lambda panel: len(panel.get_legend_handles_labels()[1])))
        save(picture, home, "curves")


def draw_ratios(kept: Kept, regimes: dict[str, str], home: Path) -> None:
    """Completions to 0.80 of each arm over those of GRPO-4, with 95 % intervals: left of 1 is fewer."""
    shown = [name for name in regimes if name in kept]
    with style():
        picture, axes = panels(len(shown), columns=2, height=2.4, sharex=True)
        for panel, name in zip(axes, shown, strict=True):
            sweep, records = kept[name]
            entries = [e for e in summarize(sweep, records) if "accuracy_difference" in e]
            for place, entry in enumerate(entries):
                look = LOOK[entry["point"]["arm"]]
                ratio = entry["targets"]["0.8"]["completions_ratio"]
                if ratio.interval:
                    panel.plot(ratio.interval, [place, place], color="0.45", linewidth=3, solid_capstyle="butt")
                panel.plot([ratio.mean], [place], color="black", marker=look.marker, markersize=7, linestyle="")
            panel.axvline(1, color="black", linewidth=1)
            panel.set_title(regimes[name], fontsize=11)
            panel.set(xscale="log", ylim=(len(entries) - 0.5, -0.5))
            panel.set_yticks(range(len(entries)), [entry["point"]["arm"] for entry in entries], fontsize=9)
            panel.set_xticks([0.5, 1, 2, 4], ["½", "1", "2", "4"])
            panel.minorticks_off()
        for panel in axes[-2:]:
            panel.set_xlabel("to 0.80, over GRPO-4", fontsize=10)
        save(picture, home, "ratios")
