"""``avatar report``: a page of figures from runs and sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from avatar.commands.bar import LateBar
from avatar.commands.subcommands import Parser
from avatar.commands.sweep.show import NOTE, grids_of
from avatar.commands.sweep.table import read_cells, read_sweep, summarize
from avatar.errors import ConfigError, DataError
from avatar.report.arms import group_runs
from avatar.report.find import find_runs
from avatar.report.page import table
from avatar.report.runs import Run, read_run
from avatar.report.sweeps import Place
from avatar.report.table import table_of
from avatar.report.write import check_out, write_report

MOST_NAMES, MOST_LINES = 3, 10  # in a title; of runs that are left out, on the screen


def main(argv: Sequence[str]) -> int:
    """Run ``avatar report ...``."""
    parser = Parser(prog="avatar report", description="Write a page of figures from runs and sweeps.")
    parser.add_argument("runs", nargs="+", type=str, help="run folders, sweep folders, or folders that hold such")
    parser.add_argument("--out", type=str, default="report", help="folder of the page, its figures and report.json")
    parser.add_argument("--baseline", type=str | None, help="arm that gains are over; else the sweep's or the first")
    config = parser.parse_args(list(argv[1:]))
    return report(config.runs, config.out, config.baseline)


def report(runs: Sequence[str], out: str = "report", baseline: str | None = None) -> int:
    """Write a page of figures from runs and sweeps.

    Args:
        runs: Run folders, sweep folders, or folders that hold such.
        out: Folder of the page, its figures and ``report.json``; a new one, or one of an earlier report.
        baseline: Arm that gains are over; by default that of the sweep, or the first.

    Raises:
        ConfigError: A folder is not there or holds no run, no run can be used, or ``out`` is not to be written to.
    """
    check_out(Path(out))
    places = find_runs([Path(path) for path in runs])
    found, left_out = read_all(places)
    if not found:
        some = "; ".join(f"{folder}: {why}" for folder, why in list(left_out.items())[:3])
        raise ConfigError(f"none of {len(places)} runs can be used. {some}")
    grouped = group_runs(found, baseline)
    sweeps = {run.place.sweep.folder: run.place.sweep.title for run in found if run.place.sweep}
    summaries = {folder: html for folder in sweeps if (html := _summary(folder))}
    written = write_report(grouped, Path(out), left_out, _title(runs, list(sweeps.values())), summaries)
    console = Console()
    console.print(table_of(grouped))
    for line in [*_shortened(left_out), *(f"not drawn: {name}: {why}" for name, why in written.missing.items())]:
        console.print(Text(line), soft_wrap=True)  # Text: brackets in a path would be markup
    console.print(Text(f"page: {written.page} ({len(written.drawn)} figures)"), soft_wrap=True)
    return 0


def read_all(places: Sequence[Place]) -> tuple[list[Run], dict[str, str]]:
    """The runs that can be used, and why others cannot, by folder."""
    found, left_out = [], {}
    with LateBar("reading runs", len(places)) as bar:
        for place in places:
            try:
                found.append(read_run(place))
            except DataError as error:
                left_out[str(place.folder)] = str(error)
            bar.advance()
    return found, left_out


def _title(runs: Sequence[str], sweeps: Sequence[str]) -> str:
    names = [*sweeps] or [path.rstrip("/") for path in runs]
    return f"Report of {', '.join(names)}" if len(names) <= MOST_NAMES else f"Report of {len(names)} folders"


def _shortened(left_out: Mapping[str, str]) -> list[str]:
    """A line a run; of many the first, for the page names all."""
    lines = [f"left out: {folder}: {why}" for folder, why in left_out.items()]
    return lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], f"left out: {len(lines) - MOST_LINES} more"]


def _summary(folder: Path) -> str:
    """HTML of a sweep's own tables."""
    sweep = read_sweep(folder)
    entries = summarize(sweep, read_cells(folder, sweep["cells"]))
    grids = grids_of(entries)
    return "".join(table(grid.head, grid.rows, grid.num_names) for grid in grids) + f'<p class="note">{NOTE}</p>'
