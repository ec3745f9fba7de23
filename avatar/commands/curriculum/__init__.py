"""``avatar curriculum``: stages in order, each from the last one's weights, to be gone on with at any point."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from avatar.commands.curriculum import plan, run, show, state
from avatar.commands.curriculum.plan import Planned
from avatar.commands.curriculum.recipe import (
    DataCommand,
    Recipe,
    Stage,
    StageTest,
    StrictParser,
    check_recipe,
    check_there,
)
from avatar.commands.curriculum.state import Record
from avatar.commands.folders import locked
from avatar.commands.train import quieten
from avatar.errors import ConfigError
from avatar.registry import did_you_mean

__all__ = ["Options", "main", "read"]


@dataclass(frozen=True)
class Options:
    """Which part of the curriculum is run.

    Attributes:
        first: Start with this stage; those before it are taken as they lie there.
        until: End with this stage and its tests.
        restart: Set this stage and those after it aside, and run them anew.
        dry_run: Check all, show the plan and what of it is done, and start nothing.
    """

    first: str | None = None
    until: str | None = None
    restart: str | None = None
    dry_run: bool = False


def main(argv: Sequence[str]) -> int:
    """Run ``avatar curriculum``."""
    from avatar.cli import EXIT_INTERRUPTED

    quieten()
    recipe, options = read(argv[1:])
    try:
        curriculum(recipe, options)
    except (KeyboardInterrupt, SystemExit) as stop:
        # The Trainer makes an exit of a Ctrl-C that comes while it loads or tests.
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print(f"Interrupted. Go on with: {shlex.join(['avatar', *_without_restart(argv)])}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def read(args: Sequence[str]) -> tuple[Recipe, Options]:
    """The curriculum and the options of a command line.

    Raises:
        ConfigError: An argument or the YAML is wrong.
    """
    parser = StrictParser(
        prog="avatar curriculum",
        description="Run stages in order, each from the last one's weights; the same command goes on after a stop.",
    )
    parser.add_argument("-c", "--config", action="config", help="YAML of the curriculum")
    parser.add_class_arguments(Recipe)
    parser.add_argument("--from", type=str | None, default=None, help="first stage to run; those before it stay")
    parser.add_argument("--until", type=str | None, default=None, help="last stage to run")
    parser.add_argument("--restart", type=str | None, default=None, help="set it and later ones aside, then run them")
    parser.add_argument("--dry_run", action="store_true", help="check all, show the plan, and start nothing")
    if not any(arg.startswith(("-c", "--config", "-h", "--help")) for arg in args):
        raise ConfigError("give --config FILE, for example --config configs/micro/curriculum.yaml")
    given = parser.parse_args(list(args)).as_dict()
    # By hand, and not by the parser: it would make an object of any class that an override names.
    stages, tests = [Stage(**s) for s in given["stages"]], [StageTest(**t) for t in given["tests"] or []]
    recipe = Recipe(given["out"], stages, tests, given["data"], given["seed"])
    options = Options(given["from"], given["until"], given["restart"], given["dry_run"])
    for option, name in (("from", options.first), ("until", options.until), ("restart", options.restart)):
        if name is not None and name not in (names := [stage.name for stage in recipe.stages]):
            raise ConfigError(f"--{option}: no stage {name!r}.{did_you_mean(name, names)} Known: {', '.join(names)}")
    return recipe, options


def curriculum(recipe: Recipe, options: Options) -> None:
    """Check everything, make the data, run the stages and their tests, and show the table."""
    commands = check_recipe(recipe)
    stages = plan.plan(recipe, [command.out for command in commands if command.out])
    chosen = _chosen(stages, options)
    if options.dry_run:
        Console().print(plan_table(chosen, state.check_records(_kept(chosen, options.restart)), recipe, commands))
        return
    plan.check_machine(chosen)
    state.check_records(_kept(chosen, options.restart), contents=False)
    with locked(Path(recipe.out), "another `avatar curriculum`, or a stage that it started,") as lock:
        if options.restart:
            for folder in state.restart(stages, options.restart):
                print(f"set aside: {folder}")
        make_data(commands)
        for test in recipe.tests or []:  # now that the data are made
            check_there(f"test {test.label}", [test.folder], [])
        records = state.check_records(chosen)
        for stage in chosen:
            if not (record := records[stage.name]) or not record.finished:
                plan.rehearse(stage)
        run_all(recipe, stages, chosen, records, lock)


def make_data(commands: Sequence[DataCommand]) -> None:
    """Call the data commands; each knows by itself what it has done already."""
    for command in commands:
        Console().rule(f"data: {command.name}")
        if status := command.function(**command.arguments):
            raise ConfigError(f"`avatar data {command.name}` ended with status {status}; what it said stands above")


def run_all(
    recipe: Recipe, stages: Sequence[Planned], chosen: Sequence[Planned], records: dict[str, Record | None], lock: int
) -> None:
    """Train and test what is not done, and keep table and picture up to date on the way."""
    known = {stage.name: state.read_record(stage) for stage in stages}
    for stage in chosen:
        record = records[stage.name]
        place = f"{stage.title} ({list(stages).index(stage) + 1} of {len(stages)})"
        if record is None or not record.finished:
            Console().rule(f"{place}: from {stage.start}")
            record = run.run_stage(stage, record, lock)
        else:
            Console().rule(f"{place}: done already")
        known[stage.name] = record
        for test in recipe.tests or []:
            run.run_test(stage, record, test)
        show.write(show.summarize(recipe, stages, known), Path(recipe.out))
    console = Console()
    console.rule()
    console.print(show.table_of(show.summarize(recipe, stages, known)))
    console.print(f"Table, figures and picture: {recipe.out}/curriculum.md, .json, .png")


def plan_table(
    stages: Sequence[Planned], records: dict[str, Record | None], recipe: Recipe, commands: Sequence[DataCommand]
) -> Table:
    """What would be run, and what is done already."""
    table = Table(title=f"{recipe.out}: the plan")
    for name in ("stage", "config", "starts from", "devices", "training", "tests done"):
        table.add_column(name, overflow="fold")
    for command in commands:
        table.add_row("data", f"avatar data {command.name}", "", "", f"makes {command.out}", "")
    for stage in stages:
        record, num = records.get(stage.name), len(recipe.tests or [])
        status = "to do" if record is None else "done" if record.finished else "half done"
        if status == "half done" and not stage.checkpoint.is_file():
            status = "begun, nothing saved"
        done = len(record.tests) if record else 0
        table.add_row(stage.title, stage.config, stage.start, str(stage.devices), status, f"{done} of {num}")
    return table


def _chosen(stages: Sequence[Planned], options: Options) -> list[Planned]:
    """From ``first`` to ``until``; what lies before must have left a model."""
    names = [stage.name for stage in stages]
    first = names.index(options.first) if options.first else 0
    last = names.index(options.until) if options.until else len(names) - 1
    if first > last:
        raise ConfigError(f"--from {options.first} comes after --until {options.until}")
    if first and not stages[first - 1].exported.is_dir():
        raise ConfigError(
            f"--from {options.first}: the stage before it has left no model in {stages[first - 1].exported}; "
            "leave --from out to run it"
        )
    return list(stages[first : last + 1])


def _kept(stages: list[Planned], restart: str | None) -> list[Planned]:
    """Those that ``--restart`` leaves where they are."""
    names = [stage.name for stage in stages]
    return stages[: names.index(restart)] if restart in names else stages


def _without_restart(argv: Sequence[str]) -> list[str]:
    """The command that goes on: what was set aside once must not be set aside again."""
    kept, skip = [], False
    for arg in argv:
        if skip or arg == "--restart" or arg.startswith("--restart="):
            skip = arg == "--restart"
            continue
        kept.append(arg)
    return kept
