"""The tables of a sweep for the screen, for Markdown and for LaTeX: how accurate, and how soon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from avatar.commands.sweep.table import Estimate, leaves_out

DAGGER = "†"
NOTE = (
    "Means over runs, with 95 % bootstrap intervals. Differences and ratios are to the baseline, over the seeds and "
    f"starts that both have; {DAGGER} marks those that may be none. \u2265: not every run got there, and one that did "
    "not counts with all that it was given."
)
Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
        head: Names of the columns.
        rows: Cells.
        num_names: How many columns say what a row is of.
        sections: Rows before which a line is drawn.
    """

    head: list[str]
    rows: list[list[str]]
    num_names: int
    sections: tuple[int, ...] = ()


def accuracy_grid(entries: Entries) -> Grid:
    """Accuracy at the end, and on the whole way there."""
    against = _against(entries)
    names = list(entries[0]["point"]) if entries else []
    extra = ["- baseline"] if against else []
    head = [*names, "runs", "accuracy", *extra, "mean on the way", *extra, "CPU ms"]
    rows = []
    for entry in entries:
        cells = [*entry["point"].values(), _runs(entry)]
        for name in ("accuracy", "mean_accuracy"):
            cells += [number(entry[name], ".3f"), *([difference(entry.get(f"{name}_difference"))] if against else [])]
        rows.append([*cells, _milliseconds(entry["cpu_per_completion"])])
    return Grid(head, rows, len(names))


def _milliseconds(estimate: Estimate) -> str:
    return number(Estimate(None if estimate.mean is None else 1000 * estimate.mean), ".1f")


def target_grid(entries: Entries) -> Grid:
    """New completions and training seconds until each target was first reached."""
    against = _against(entries)
    names = list(entries[0]["point"]) if entries else []
    targets = list(entries[0]["targets"]) if entries else []
    extra = ["/ baseline"] if against else []
    head = ["target", *names, "reached", "completions", *extra, "seconds", *extra]
    rows = [_target_row(entry, target, against) for target in targets for entry in entries]
    return Grid(head, rows, len(names) + 1, tuple(range(0, len(rows), max(1, len(entries)))))


def _target_row(entry: Mapping[str, Any], target: str, against: bool) -> list[str]:
    to = entry["targets"][target]
    bound = "\u2265" if to["reached"] < entry["runs"] else ""
    cells = [f"{float(target):.2f}", *entry["point"].values(), f"{to['reached']} of {entry['runs']}"]
    for unit, style in (("completions", ",.0f"), ("seconds", ",.1f")):
        cells += [bound + number(to[unit], style), *([ratio(to.get(f"{unit}_ratio"))] if against else [])]
    return cells


def _against(entries: Entries) -> bool:
    return any("accuracy_difference" in entry for entry in entries)


def _runs(entry: Mapping[str, Any]) -> str:
    return f"{entry['runs']}" if entry["runs"] == entry["of"] else f"{entry['runs']} of {entry['of']}"


def number(estimate: Estimate, style: str) -> str:
    """``mean [low, high]``."""
    if estimate.mean is None:
        return "-"
    ends = estimate.interval
    return f"{estimate.mean:{style}}" + (f" [{ends[0]:{style}}, {ends[1]:{style}}]" if ends else "")


def difference(estimate: Estimate | None) -> str:
    """``+mean [low, high]``, with a dagger where it may be none; empty for the baseline itself."""
    if estimate is None or estimate.mean is None:
        return ""
    return number(estimate, "+.3f") + ("" if estimate.significant else DAGGER)


def ratio(estimate: Estimate | None) -> str:
    """``mean [low, high]``, with a dagger where it may be 1; empty for the baseline itself."""
    if estimate is None or estimate.mean is None:
        return ""
    return number(estimate, ".2f") + ("" if leaves_out(estimate.interval, 1.0) else DAGGER)


def grids_of(entries: Entries) -> list[Grid]:
    """Both."""
    return [accuracy_grid(entries), target_grid(entries)]


def rich_tables(title: str, entries: Entries) -> Group:
    """For the screen; intervals stand below their means."""
    first, second = grids_of(entries)
    return Group(_rich(first, title, None), _rich(second, "until a target was first reached", NOTE))


def _rich(grid: Grid, title: str, caption: str | None) -> Table:
    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left", box=SIMPLE_HEAD)
    table.pad_edge = False
    for i, name in enumerate(grid.head):
        table.add_column(name, justify="left" if i < grid.num_names else "right", overflow="fold")
    for i, row in enumerate(grid.rows):
        if i and i in grid.sections:
            table.add_section()
        table.add_row(*(cell.replace(" [", "\n[").replace("[", r"\[") for cell in row))
    return table


def markdown_tables(entries: Entries) -> str:
    """Of the same cells."""
    return "\n".join("".join(markdown_lines(grid)) for grid in grids_of(entries))


def markdown_lines(grid: Grid) -> Iterable[str]:
    """Head, rule and rows, each with its line end."""
    for line in (grid.head, ["---"] * len(grid.head), *grid.rows):
        yield f"| {' | '.join(line)} |\n"


def latex_tables(entries: Entries) -> str:
    """Of the same cells, for ``booktabs``."""
    return "\n".join(_latex_table(grid) for grid in grids_of(entries))


def _latex_table(grid: Grid) -> str:
    columns = "l" * grid.num_names + "r" * (len(grid.head) - grid.num_names)
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", _latex_line(grid.head), "\\midrule"]
    for i, row in enumerate(grid.rows):
        lines += ["\\midrule"] if i and i in grid.sections else []
        lines.append(_latex_line(row))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\u2265", r"$\geq$").replace(DAGGER, r"$^\dagger$").replace("[", "{[}")
