"""Histograms of several arms, one small panel each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Picture

from avatar.report.files import Column
from avatar.report.look import label_bottom, legend_below, panels

FACES = {"fresh": ("0.3", ""), "replayed": ("white", "////"), "staleness": ("0.6", "")}  # grey level, hatch


def draw_histograms(found: Mapping[str, Mapping[str, Column]], labels: Sequence[str], x: str) -> Picture:
    """A panel an arm, with bars of the share in each bin, side by side where there are several kinds.

    Args:
        found: By arm and by kind (a key of ``FACES``), counts [bins].
        labels: Of the bins.
        x: What they are bins of.
    """
    columns = 1 if len(found) == 1 else 2
    picture, axes = panels(len(found), columns, 2.9 if columns == 1 else 2.3, sharex=True, sharey=True)
    kinds = list(dict.fromkeys(kind for histograms in found.values() for kind in histograms))
    width = 0.84 / len(kinds)
    for panel, (arm, histograms) in zip(axes, found.items(), strict=True):
        for i, kind in enumerate(kinds):
            places = [j + (i - (len(kinds) - 1) / 2) * width for j in range(len(labels))]
            heights = shares_of(histograms[kind]) if kind in histograms else [0.0] * len(labels)
            color, hatch = FACES[kind]
            panel.bar(places, heights, width, color=color, hatch=hatch, edgecolor="black", linewidth=0.5, label=kind)
        panel.set_title(arm, fontsize=11)
        panel.set_xticks(range(len(labels)), labels, rotation=55, ha="right", rotation_mode="anchor", fontsize=9)
        panel.grid(visible=False, axis="x")
    label_bottom(axes, columns, x)
    picture.supylabel("share", fontsize=11)
    if len(kinds) > 1:
        legend_below(picture, axes[0])
    return picture


def shares_of(counts: Column) -> list[float]:
    """[bins] that sum to 1; 0 where nothing was counted."""
    return list(map(float, counts / max(1.0, float(counts.sum()))))
