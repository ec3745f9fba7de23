"""``avatar sweep``: every combination of some settings, compared in one table."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from avatar.cli import EXIT_INTERRUPTED
from avatar.commands.argv import without_option
from avatar.commands.folders import locked, set_folder_aside
from avatar.commands.sweep.best import Choice, best_of
from avatar.commands.sweep.cells import Cell, plan_cells
from avatar.commands.sweep.kept import keep, restore
from avatar.commands.sweep.live import Board
from avatar.commands.sweep.local import run_local
from avatar.commands.sweep.options import Options, Sweep, as_json, check_options, read_options, spelt_out
from avatar.commands.sweep.order import Order, order_of
from avatar.commands.sweep.ray import run_ray
from avatar.commands.sweep.record import Record, check_records, read_record
from avatar.commands.sweep.show import latex_tables, markdown_tables, rich_tables
from avatar.commands.sweep.slurm import run_slurm
from avatar.commands.sweep.table import read_cells, read_sweep, summarize
from avatar.commands.train import quieten
from avatar.modules.logs import replace_text

EXIT_FAILED_CELLS = 1
AT_WORK = "another `avatar sweep`, or a cell that it started,"


def main(argv: Sequence[str]) -> int:
    """Run ``avatar sweep``."""
    quieten()
    sweep = check_options(read_options(argv[1:]))
    choices, extra = best_of(Path(sweep.options.best_of), sweep) if sweep.options.best_of else ([], {})
    folder = sweep.options.folder
    cells = plan_cells(sweep, extra)
    anew = sweep.options.restart
    if anew and not sweep.options.dry_run and folder.exists():
        with locked(folder, AT_WORK):
            print(f"set aside: {set_folder_aside(folder)}")
    if sweep.options.kept and not sweep.options.dry_run and not anew:
        restore(Path(sweep.options.kept), folder, [cell.name for cell in cells])
    records = {} if anew else check_records(cells)
    console = Console()
    if sweep.options.dry_run:
        show_plan(sweep, cells, records, choices, console)
        return 0
    again = ["avatar", *without_option(spelt_out(argv), "--restart")]
    with locked(folder, AT_WORK) as lock:
        rename_axes(cells, records)
        replace_text(folder / "sweep.json", as_json(sweep, again, [cell.name for cell in cells]))
        replace_text(folder / "choices.json", json.dumps([dataclasses.asdict(c) for c in choices], indent=1) + "\n")
        interrupted = run(sweep, cells, records, lock, console)
    write_tables(folder)
    if sweep.options.kept:
        keep(folder, Path(sweep.options.kept))
    return finish(folder, cells, interrupted, again, console)


def rename_axes(cells: Sequence[Cell], records: dict[str, Record]) -> None:
    """Axes may have got other names since a cell was run; what it was run with is the same."""
    for cell in cells:
        if (record := records.get(cell.name)) and record.point != cell.point:
            record.point = cell.point
            record.save(cell.folder)


def run(sweep: Sweep, cells: Sequence[Cell], records: dict[str, Record], lock: int, console: Console) -> bool:
    """Run what is not finished; True if Ctrl-C stopped it."""
    left = [cell for cell in cells if cell.name not in records or records[cell.name].status != "finished"]
    if len(left) < len(cells):
        console.print(f"{len(cells) - len(left)} of {len(cells)} cells are finished already")
    orders = [order_of(cell, sweep.options.keep_checkpoints) for cell in left]
    with Board(sweep, cells, records, console) as board:
        return launch(sweep.options, orders, lock, board.tick)


def launch(options: Options, orders: Sequence[Order], lock: int, tick: Callable[[list[str]], None]) -> bool:
    """Run cells where ``--launcher`` says; True if Ctrl-C stopped it."""
    if options.launcher == "slurm":
        return run_slurm(orders, options, tick)
    if options.launcher == "ray":
        return run_ray(orders, options.jobs, tick)
    return run_local(orders, options.jobs, lock, tick)


def show_plan(
    sweep: Sweep, cells: Sequence[Cell], records: dict[str, Record], choices: Sequence[Choice], console: Console
) -> None:
    """The grid, and what has been done of it."""
    table = Table(title=f"{sweep.options.folder}: {len(cells)} cells")
    for name in [axis.name for axis in sweep.axes]:
        table.add_column(name)
    for name in ("steps", "status"):
        table.add_column(name, justify="right")
    for cell in cells:
        record = records.get(cell.name)
        status = (
            "to do" if record is None else "half done" if record.status in ("running", "stopped") else record.status
        )
        table.add_row(*cell.point.values(), f"{cell.max_steps:,}", status)
    console.print(table)
    for choice in choices:
        console.print(describe(choice), soft_wrap=True)


def describe(choice: Choice) -> str:
    """One line."""
    where = ", ".join(f"{name} {label}" for name, label in choice.shared.items()) or "all"
    what = ", ".join(f"{name} {label}" for name, label in choice.chosen.items())
    edge = " (at the edge of what was tried)" if choice.at_edge else ""
    return f"{where}: {what}{edge}; " + ", ".join(f"{label}: {score:.3f}" for label, score in choice.scores.items())


def write_tables(folder: Path) -> None:
    """``results.json``, ``results.md`` and ``results.tex`` from what has finished so far."""
    sweep = read_sweep(folder)
    entries = summarize(sweep, read_cells(folder, sweep["cells"]))
    plain = json.dumps(entries, indent=1, default=dataclasses.asdict)
    replace_text(folder / "results.json", plain + "\n")
    replace_text(folder / "results.md", markdown_tables(entries))
    replace_text(folder / "results.tex", latex_tables(entries))


def finish(folder: Path, cells: Sequence[Cell], interrupted: bool, again: Sequence[str], console: Console) -> int:
    """Show the table, and name what failed."""
    sweep = read_sweep(folder)
    entries = summarize(sweep, read_cells(folder, sweep["cells"]))
    if entries:
        console.print(rich_tables(sweep["title"], entries))
        console.print(f"Tables: {folder}/results.md, .tex, .json")
    failed = [record for cell in cells if (record := read_record(cell.folder)) and record.status == "failed"]
    for record in failed:
        print(f"failed: {record.name}: {record.error}; see {folder}/cells/{record.name}/log.txt", file=sys.stderr)
    if interrupted:
        print(f"Interrupted. Go on with: {shlex.join(again)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    if failed:
        print(f"Try them once more with: {shlex.join(again)}", file=sys.stderr)
    return EXIT_FAILED_CELLS if failed else 0
