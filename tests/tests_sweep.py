"""Sweeps for tests: records made by hand, a folder with the micro-world, and the command without processes."""

import json
import os
import shutil
import sys
from pathlib import Path

import yaml

from avatar.cli import main
from avatar.commands import sweep as command
from avatar.commands.sweep.axes import grid, name_of, parse_axis
from avatar.commands.sweep.options import Options, check_options
from avatar.commands.sweep.outcome import area
from avatar.commands.sweep.record import Record
from avatar.commands.sweep.worker import run_order

ROOT = Path(__file__).parent.parent
TIMES = ("seconds", "seconds_per_step", "cpu_per_step")  # of a result: no two runs share them
RUN_FILES = ("metrics.csv", "completions.jsonl", "model/model.safetensors")


def a_sweep(*axes: str, over=("seed",), baseline=None, targets=(0.8,), cells=None) -> dict:
    """``sweep.json`` of these axes."""
    parsed = [parse_axis(text) for text in axes]
    return {
        "version": 1,
        "title": "by hand",
        "axes": [{"name": a.name, "key": a.key, "labels": list(a.labels), "values": list(a.values)} for a in parsed],
        "over": [name for name in over if name in {a.name for a in parsed}],
        "baseline": baseline,
        "targets": list(targets),
        "cells": [name_of(point) for point in grid(parsed)] if cells is None else cells,
    }


def a_result(curve, seconds=None, cpu_per_step=0.5) -> dict:
    """Of a run with this curve in steps of four completions; a second a completion unless given."""
    return {
        "curve": curve,
        "seconds": seconds or [x for x, _ in curve],
        "accuracy": curve[-1][1],
        "mean_accuracy": area(curve),
        "completions": int(curve[-1][0]),
        "steps": int(curve[-1][0]) // 4,
        "seconds_per_step": 4.0,
        "cpu_per_step": cpu_per_step,
    }


def a_record(result=None, status="finished", **point: str) -> Record:
    """Of the cell at ``point``."""
    return Record(name_of(point), point, {}, {}, status=status, attempts=1, seconds=1.0, result=result)


def level(height: float, end: float = 100) -> dict:
    """Result of a run that stays where it starts."""
    return a_result([[0, height], [end, height]])


def write_sweep(folder: Path, sweep: dict, records) -> Path:
    """As the command leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(sweep))
    for record in records:
        record.save(folder / "cells" / record.name)
    return folder


def checked(*axes: str, **options):
    """A sweep of these axes; the config is this file, which nobody reads."""
    return check_options(Options(**{"config": [__file__], "axis": list(axes), "out": "runs/s", **options}))


BASE = {
    "seed_everything": 0,
    "num_threads": 1,
    "trainer": {
        "accelerator": "cpu",
        "max_steps": 8,
        "val_check_interval": 4,
        "check_val_every_n_epoch": None,
        "callbacks": [{"class_path": "avatar.modules.saving.RunCheckpoint", "init_args": {"every_n_steps": 2}}],
    },
    "model": {
        "class_path": "RLModule",
        "init_args": {
            "policy": {"class_path": "Policy", "init_args": {"path": "data/micro/model", "dtype": "float32"}},
            "advantage": {"class_path": "GRPO"},
            "rewards": [{"class_path": "tests_curriculum.Odd"}],
            "num_generations": 4,
            "max_new_tokens": 6,
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        },
    },
    "data": {
        "class_path": "ShardData",
        "init_args": {
            "train": "data/micro/pool",
            "val": "data/micro/dev",
            "batch_size": 1,
            "letter_options": False,
            "min_pixels": 784,
            "max_pixels": 3136,
        },
    },
}


def make_world(folder: Path, micro: Path) -> Path:
    """``data/micro`` and ``base.yaml``: eight steps of GRPO on the tiny model."""
    shutil.copytree(micro, folder / "data" / "micro")
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    return folder


def environment() -> dict:
    """Of a process that finds this code and these tests."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def command_line(*args: str) -> list[str]:
    """The command as a process of its own."""
    return [sys.executable, "-m", "avatar.cli", "sweep", *args]


class Here:
    """Stands in the place of ``run_local``: runs cells in this process, and may stop after some of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.ran: list[str] = []
        self.stop_after = stop_after

    def __call__(self, orders, jobs, lock, tick) -> bool:
        stores = {}
        for number, order in enumerate(orders):
            if number == self.stop_after:
                return True
            tick([order.name])
            run_order(order, stores)
            self.ran.append(order.name)
            tick([])
        return False


def sweep_here(monkeypatch, *args: str, stop_after: int | None = None) -> tuple[int, list[str]]:
    """(exit status, names of the cells that were run) of ``avatar sweep`` in this process."""
    here = Here(stop_after)
    monkeypatch.setattr(command, "run_local", here)
    return main(["sweep", *args]), here.ran


def cell(folder: Path, name: str) -> dict:
    """``cell.json``."""
    return json.loads((folder / "cells" / name / "cell.json").read_text())


def timeless(result: dict) -> dict:
    """Without what no two runs share."""
    return {key: value for key, value in result.items() if key not in TIMES}


def stamps(folder: Path, *names: str) -> dict[str, int]:
    """When ``cell.json`` of each of these cells was written."""
    return {name: (folder / "cells" / name / "cell.json").stat().st_mtime_ns for name in names}
