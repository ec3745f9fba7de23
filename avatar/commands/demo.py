"""``avatar demo``: the whole path on the micro-world, through the very commands that a user would type."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from avatar.commands.data.synth import synth
from avatar.commands.train import AvatarCLI, quieten
from avatar.errors import ConfigError
from avatar.report import arms_table, completions_to, mean_of, plot_health, plot_learning_curves

CONFIGS = Path("configs/micro")
ARMS = {"GRPO-8": "grpo", "GRPO-4": "grpo4", "AVATAR": "avatar"}  # by the name of their config
TARGET = 0.8


def main(argv: Sequence[str]) -> int:
    """Run ``avatar demo``."""
    parser = ArgumentParser(
        prog="avatar demo", description="Make a world, cold-start a tiny model, train it in three ways, grade them."
    )
    parser.add_function_arguments(demo)
    demo(**parser.parse_args(list(argv[1:])).as_dict())
    return 0


def demo(out: str = "runs/demo", seed: int = 0, scale: float = 1.0, max_steps: int | None = None) -> None:
    """Write the micro-world, cold-start the tiny model, train it with GRPO-8, GRPO-4 and AVATAR, and grade all three.

    Each arm starts from the same cold start and generates as many completions.

    Args:
        out: Folder of all that is written; ``summary.json``, ``learning_curve.png`` and ``health.png`` at its top.
        seed: Of the world, the weights, the order and the sampling.
        scale: Share of the clips to write; below 1 for a trial of the plumbing.
        max_steps: Length of every training, in steps; by default what the configs say.
    """
    quieten()
    folder, clock = Path(out), Clock()
    configs = {name: move_config(CONFIGS / f"{name}.yaml", folder) for name in ("sft", *ARMS.values())}
    short = [f"--trainer.max_steps={max_steps}", f"--trainer.val_check_interval={max_steps}"] if max_steps else []
    args = [f"--seed_everything={seed}", *short]
    with clock("data", "clips with picture and sound, questions, and a tiny Qwen2.5-Omni"):
        synth(str(folder / "data"), seed, scale)
    with clock("cold start", "perception, then chains of thought, then mostly guesses"):
        AvatarCLI(["fit", f"--config={configs['sft']}", *args])
    with clock("test before", "held-out clips"):
        before = _test(folder, folder / "sft" / "checkpoints" / "last.ckpt")
    arms = {arm: _train(arm, folder, [f"--config={configs[name]}", *args], clock) for arm, name in ARMS.items()}
    summary = {
        "seed": seed,
        "num_questions": before["num_scored"],
        "accuracy_before": before["accuracy"],
        "by_kind_before": by_kind(before),
        "arms": arms,
        "seconds": {**clock.seconds, "total": round(sum(clock.seconds.values()), 1)},
    }
    _finish(summary, folder)


class Clock:
    """Announces the phases of the demo, and keeps the seconds of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, what: str) -> Iterator[None]:
        """One phase."""
        Console().rule(f"{name}: {what}")
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)


def _train(arm: str, folder: Path, args: list[str], clock: Clock) -> dict[str, Any]:
    """Train one arm and test its best checkpoint; what ``summary.json`` holds of it."""
    run = folder / ARMS[arm]
    with clock(arm, "reinforcement learning finds out that looking and listening pays"):
        module = AvatarCLI(["fit", *args]).model
    with clock(f"test {arm}", "held-out clips"):
        after = _test(folder, run / "checkpoints" / "best.ckpt")
    return summarize_arm(after, module.num_generated, run, clock.seconds[arm])


def _finish(summary: dict[str, Any], folder: Path) -> None:
    """Write the figures, draw the pictures, show the table."""
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    curves = {arm: folder / name / "metrics.csv" for arm, name in ARMS.items()}
    plot_learning_curves(curves, folder / "learning_curve.png")
    plot_health(folder / "avatar", folder / "health.png")
    console = Console()
    console.rule()
    console.print(arms_table(summary))
    console.print(f"Pictures: {folder}/learning_curve.png, {folder}/health.png")
    console.print(f"Figures: {folder}/summary.json")


def move_config(path: Path, folder: Path) -> Path:
    """A copy of a micro-world config whose data and runs lie under ``folder``.

    Raises:
        ConfigError: There is no such config here.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is not here: run the demo from the top of a clone of the project")
    text = path.read_text().replace("data/micro/", f"{folder}/data/").replace("runs/micro/", f"{folder}/")
    moved = folder / "configs" / path.name
    moved.parent.mkdir(parents=True, exist_ok=True)
    moved.write_text(text)
    return moved


def _test(folder: Path, checkpoint: Path) -> dict[str, Any]:
    args = ["test", "--benchmark=micro", f"--benchmark_root={folder}/data/test", f"--ckpt_path={checkpoint}"]
    args.append("--num_threads=1")
    results: dict[str, Any] = AvatarCLI(args).model.results
    return results


def by_kind(results: dict[str, Any]) -> dict[str, float]:
    """Accuracy of each kind of question."""
    return {k.removeprefix("accuracy/"): v for k, v in results.items() if k.startswith("accuracy/")}


def summarize_arm(results: dict[str, Any], completions: int, run: Path, seconds: float) -> dict[str, Any]:
    """What ``summary.json`` holds of one arm.

    Args:
        results: Of the test.
        completions: New completions generated.
        run: Its folder.
        seconds: Of its training, validations included.
    """
    metrics, timings = run / "metrics.csv", run / "timings.csv"
    parts = ("encode", "generate", "reward", "replay", "reference", "score", "update")
    step = [mean_of(timings, f"time/{part}") for part in parts]
    return {
        "accuracy": results["accuracy"],
        "by_kind": by_kind(results),
        "unparsed_share": results["unparsed_share"],
        "completions_generated": completions,
        "completions_to_target": completions_to(metrics, TARGET),
        "target": TARGET,
        "zero_spread_share": mean_of(metrics, "advantage/zero_spread_share"),
        "replay_hit_rate": mean_of(metrics, "replay/hit_rate"),
        "hint_share": mean_of(metrics, "hint/share"),
        "seconds": seconds,
        "seconds_per_step": round(sum(s for s in step if s), 4),
    }
