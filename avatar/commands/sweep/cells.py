"""The cells of a sweep: what each runs, settled and checked before any compute."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import track

from avatar.commands.folders import data_fingerprint, fingerprint
from avatar.commands.parsed import MODEL_PATH, ParsedCLI, flatten, folders_of, naming, num_devices
from avatar.commands.sweep.axes import CONFIG, SEED, Axis, Point, grid, name_of
from avatar.commands.sweep.options import Options, Sweep
from avatar.errors import ConfigError

# Where a run lies and how it is shown: cells that differ in these alone are the same.
PLACES = ("trainer.default_root_dir", "trainer.enable_progress_bar", "ckpt_path", "config")


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        name: Of its folder.
        point: Where in the grid it lies.
        folder: Its run folder.
        args: Of ``avatar fit``.
        settings: All arguments and their values, dotted, but for those that only say where things lie.
        inputs: The model that it starts from and the data that it reads, by content.
        max_steps: Optimizer steps.
        data: Its data section, as JSON: cells that share it can share what they have decoded.
    """

    name: str
    point: Point
    folder: Path
    args: list[str]
    settings: dict[str, Any]
    inputs: dict[str, str]
    max_steps: int
    data: str

    @property
    def checkpoint(self) -> Path:
        """The last one."""
        return self.folder / "checkpoints" / "last.ckpt"


def plan_cells(sweep: Sweep, extra: dict[str, list[str]] | None = None) -> list[Cell]:
    """Parse what every cell will run.

    Cells that differ only in the seed are parsed once: that is half a second each.

    Args:
        sweep: Checked.
        extra: Further arguments of each cell, by its name: what was found best elsewhere.

    Raises:
        ConfigError: A config or a value is wrong; the message names the cell.
    """
    points = list(grid(sweep.axes))
    names = [name_of(point) for point in points]
    if len(set(names)) < len(names):
        raise ConfigError("two cells would have one folder: give the values of the axes other names")
    parsed: dict[str, Cell] = {}
    contents: dict[str, str] = {}
    cells = []
    for point in _tracked(points):
        cell = _plan_cell(sweep, point, (extra or {}).get(name_of(point), []), parsed)
        cells.append(replace(cell, inputs={path: _content(path, contents) for path in cell.inputs}))
    return cells


def _tracked(points: list[Point]) -> Iterable[Point]:
    return track(points, "checking configs", transient=True) if len(points) > 8 else points


def _plan_cell(sweep: Sweep, point: Point, extra: list[str], parsed: dict[str, Cell]) -> Cell:
    args = arguments(sweep.options, sweep.axes, point) + extra
    seed = next((axis.value(point[axis.name]) for axis in sweep.axes if axis.key == SEED), None)
    unseeded = json.dumps([arg for arg in args if not arg.startswith(f"--{SEED}=")])
    if seed is None or not seed.isdigit() or unseeded not in parsed:
        with naming(f"cell {name_of(point)}"):
            parsed[unseeded] = _parse(args, sweep.options)
    cell = parsed[unseeded]
    settings = cell.settings | ({SEED: int(seed)} if seed is not None and seed.isdigit() else {})
    folder = sweep.options.folder / "cells" / name_of(point)
    budget = cell.args[len(args) :]
    placed = [f"--trainer.default_root_dir={folder}", "--trainer.enable_progress_bar=false"]
    return replace(
        cell, name=name_of(point), point=point, folder=folder, args=args + budget + placed, settings=settings
    )


def arguments(options: Options, axes: Sequence[Axis], point: Point) -> list[str]:
    """Of ``avatar fit``, without budget and place: configs first, those of the axes over the base."""
    overlays = [axis for axis in axes if axis.key == CONFIG]
    rest = [axis for axis in axes if axis.key != CONFIG]
    return [
        "fit",
        *(f"--config={path}" for path in options.config),
        *(axis.argument(point[axis.name]) for axis in overlays),
        *(f"--{text.removeprefix('--')}" for text in options.set),
        *(axis.argument(point[axis.name]) for axis in rest),
    ]


def _parse(args: list[str], options: Options) -> Cell:
    config = ParsedCLI(args).config["fit"]
    settings = dict(flatten(json.loads(json.dumps(config.as_dict(), default=str))))
    devices = num_devices(config.trainer) * int(config.trainer.num_nodes)
    if devices > 1:
        raise ConfigError(
            f"a cell is one process on one device, and this config asks for {devices}: pass --set trainer.devices=1 "
            "(and trainer.num_nodes=1), or run it with `avatar fit`"
        )
    budget = _budget(settings, devices, options)
    settings |= {key: value for key, value in budget.items() if key != "trainer.check_val_every_n_epoch"}
    args = args + [f"--{key}={json.dumps(value)}" for key, value in budget.items()]
    data = json.dumps(config.data.as_dict(), default=str, sort_keys=True)
    inputs = dict.fromkeys([str(settings.get(MODEL_PATH)), *sorted(set(folders_of(config.data.as_dict())))], "")
    kept = {key: value for key, value in settings.items() if key not in PLACES}
    return Cell("", {}, Path(), args, kept, inputs, int(settings.get("trainer.max_steps") or 0), data)


def _budget(settings: dict[str, Any], devices: int, options: Options) -> dict[str, Any]:
    """Steps, and steps between validations, that make the completions asked for."""
    if options.completions is None and options.validate_every is None:
        return {}
    group = settings.get("model.init_args.num_generations")
    if group is None:
        raise ConfigError("--completions and --validate_every are of training by reinforcement; this config has none")
    per_step = int(group) * int(settings.get("data.init_args.batch_size") or 1) * devices
    updates = int(settings.get("model.init_args.updates_per_rollout") or 1)  # steps of the optimizer on each batch
    steps: dict[str, Any] = {}
    for key, wanted, times in (
        ("trainer.max_steps", options.completions, updates),
        ("trainer.val_check_interval", options.validate_every, 1),
    ):
        if wanted is None:
            continue
        if wanted % per_step:
            raise ConfigError(
                f"{wanted:,} completions are no whole number of steps of {per_step} (num_generations {group} x prompts "
                f"a step x devices); take a multiple of {per_step}"
            )
        steps[key] = wanted // per_step * times
    return steps | ({"trainer.check_val_every_n_epoch": None} if options.validate_every else {})


def _content(path: str, known: dict[str, str]) -> str:
    """What lies there, in a few digits; each place is looked at once."""
    if path not in known:
        is_data = Path(path).is_dir() and any(Path(path).glob("*.tar"))
        known[path] = data_fingerprint(path) if is_data else fingerprint(path)
    return known[path]
