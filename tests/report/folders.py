"""Small run and sweep folders, written by the classes that write real ones, with curves that can be told by hand."""

import json
import math
from contextlib import suppress

import yaml

from avatar.commands.sweep.outcome import outcome
from avatar.commands.sweep.record import Record
from avatar.errors import DataError
from avatar.modules.health import ADVANTAGE_LABELS, STALENESS_LABELS
from avatar.modules.logs import RunLogger, StepLines
from avatar.replay import TIERS

PHASES = ("encode", "generate", "reward", "replay", "reference", "score", "update")


def accuracy(completions, top=0.9, scale=60.0):
    """Rises from 0.3 to ``top``."""
    return round(top - (top - 0.3) * math.exp(-completions / scale), 6)


def write_run(
    folder, seed=0, top=0.9, steps=40, generations=4, replayed=0, advantage=None, every=10, shift=0, validated=True
):
    """A run that generates so many completions a step, one prompt each.

    Its replies are 10 to 13 + ``shift`` tokens long; in the last quarter of steps those of 10 tokens are right.
    """
    logger = RunLogger(folder)
    for step in range(steps + 1):
        values = step_of(step, generations, replayed) if step else {}
        if validated and step % every == 0:
            values["val/accuracy"] = accuracy(step * generations, top + 0.01 * seed)
        if values:
            logger.log_metrics(values, step)
    write_lines(folder, steps, generations, replayed, shift)
    (folder / "config.yaml").write_text(yaml.safe_dump(config(seed, generations, replayed, advantage)))
    return folder


def step_of(step, generations, replayed):
    """What a training step logs."""
    values = {"completion/length": 10.0 + step % 3, "ess/fresh": 1.0, "completions/generated": step * generations}
    values |= {f"time/{phase}": 0.01 * (i + 1) for i, phase in enumerate(PHASES) if replayed or phase != "replay"}
    if replayed:
        values |= {f"replay/occupancy_{tier}": 0.01 * step for tier in TIERS}
        values |= {"ess/replayed": 1 - 0.01 * step} if step > 2 else {}
    return values


def write_lines(folder, steps, generations, replayed, shift):
    """health.jsonl and completions.jsonl."""
    fresh = [i * generations for i in range(len(ADVANTAGE_LABELS))]
    histograms = {"fresh": fresh, "replayed": fresh[::-1] if replayed else [0] * len(fresh)}
    histograms["staleness"] = [replayed] * len(STALENESS_LABELS)
    health = {f"histogram/{name}": counts for name, counts in histograms.items()}
    StepLines(folder / "health.jsonl").write({"step": step, **health} for step in (steps // 2, steps))
    StepLines(folder / "completions.jsonl").write(
        reply(step, i, step > 0.75 * steps, shift) for step in range(1, steps + 1) for i in range(generations)
    )


def reply(step, i, late, shift):
    """One line; hinted ones are all right, and must not count."""
    length = 10 + (step + i) % 4
    right = late and length == 10
    return {
        "step": step,
        "completion": "<think>\u2028</think>",
        "reward/accuracy": float(right),
        "length": length + shift,
        "hinted": False,
    }


def config(seed, generations, replayed, advantage):
    """As ``avatar fit`` saves it."""
    init = {
        "advantage": {
            "class_path": "avatar.advantages.GRPO",
            "init_args": {"eps": 1e-4},
        } if advantage is None else advantage,
        "rewards": [{"class_path": "avatar.rewards.Accuracy", "init_args": {"weight": 1.0, "label": None}}],
        "num_generations": generations,
        "replay": {"num_replayed": replayed, "capacity": 1000, "easy_share": 0.25, "medium_share": 0.35,
                   "hard_share": 0.4} if replayed else None,
    }  # fmt: skip
    return {"seed_everything": seed, "model": {"class_path": "avatar.modules.RLModule", "init_args": init}}


def shaped(strength=0.3, name="AVATAR"):
    """The advantage of the paper."""
    return {"class_path": f"avatar.advantages.{name}", "init_args": {"strength": strength, "normalize": False}}


ARMS = {
    "grpo4": {"generations": 4, "top": 0.85},
    "grpo8": {"generations": 8, "top": 0.88, "steps": 20, "every": 5},
    "avatar": {"generations": 4, "replayed": 4, "top": 0.93, "advantage": shaped()},
}


def write_sweep(folder, arms=None, seeds=(0, 1), axis="arm", key="config", title="three arms", baseline="grpo4"):
    """A sweep of arms by seeds, all finished; ``arms`` are arguments of :func:`write_run` by label."""
    arms = ARMS if arms is None else arms
    for label, arguments in arms.items():
        for seed in seeds:
            write_cell(folder, {axis: label, "seed": str(seed)}, seed=seed, **arguments)
    write_plan(folder, {axis: list(arms), "seed": list(map(str, seeds))}, title, {axis: baseline}, {axis: key})
    return folder


def write_plan(folder, axes, title="a sweep", baseline=None, keys=None, targets=(0.6, 0.8)):
    """``sweep.json``, whose cells are all combinations."""
    cells = [""]
    for labels in axes.values():
        cells = [f"{cell}-{label}".removeprefix("-") for cell in cells for label in labels]
    plan = {
        "version": 1,
        "title": title,
        "command": ["avatar", "sweep"],
        "axes": [{"name": n, "key": (keys or {}).get(n, n), "labels": labels} for n, labels in axes.items()],
        "over": ["start", "seed"],
        "baseline": baseline,
        "targets": list(targets),
        "cells": cells,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(plan))


def write_cell(folder, point, status="finished", error=None, **arguments):
    """One cell: a run with ``cell.json``."""
    cell = folder / "cells" / "-".join(point.values())
    write_run(cell, **arguments)
    result = None
    with suppress(DataError):  # too short for a curve
        result = outcome(cell) if status == "finished" else None
    Record(cell.name, point, {}, {}, status, error, seconds=1.0, result=result).save(cell)
    return cell
