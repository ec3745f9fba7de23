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

from avatar.commands.data import synth
from avatar.commands.train import AvatarCLI, quieten
from avatar.errors import ConfigError
from avatar.report import before_after_table, plot_learning_curve

CONFIGS = Path("configs/micro")


def main(argv: Sequence[str]) -> int:
    """Run ``avatar demo``."""
    parser = ArgumentParser(
        prog="avatar demo", description="Make a world, cold-start a tiny model, train it, grade it."
    )
    parser.add_function_arguments(demo)
    demo(**parser.parse_args(list(argv[1:])).as_dict())
    return 0


def demo(out: str = "runs/demo", seed: int = 0, scale: float = 1.0, max_steps: int | None = None) -> None:
    """Write the micro-world, cold-start the tiny model, train it with GRPO, grade it before and after.

    Args:
        out: Folder of everything that is written; ``summary.json`` and ``learning_curve.png`` at its top.
        seed: Of the world, the weights, the order and the sampling.
        scale: Share of the clips to write; below 1 for a trial of the plumbing.
        max_steps: Length of both trainings, in steps; by default what the configs say.
    """
    quieten()
    folder, console, seconds = Path(out), Console(), {}
    configs = {name: move_config(CONFIGS / f"{name}.yaml", folder) for name in ("sft", "grpo")}
    short = [f"--trainer.max_steps={max_steps}", f"--trainer.val_check_interval={max_steps}"] if max_steps else []
    fit_args = [f"--seed_everything={seed}", *short]

    @contextmanager
    def phase(name: str, what: str) -> Iterator[None]:
        console.rule(f"{name}: {what}")
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 1)

    with phase("data", "clips with picture and sound, questions, and a tiny Qwen2.5-Omni"):
        synth(str(folder / "data"), seed, scale)
    with phase("cold start", "perception, then chains of thought, then mostly guesses"):
        AvatarCLI(["fit", f"--config={configs['sft']}", *fit_args])
    with phase("test before", "held-out clips"):
        before = _test(folder, folder / "sft" / "checkpoints" / "last.ckpt")
    with phase("reinforcement", "GRPO finds out that looking and listening pays"):
        module = AvatarCLI(["fit", f"--config={configs['grpo']}", *fit_args]).model
    with phase("test after", "held-out clips"):
        after = _test(folder, folder / "grpo" / "checkpoints" / "best.ckpt")
    summary = summarize(before, after, module.num_generated, seconds, seed)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    plot_learning_curve(folder / "grpo" / "metrics.csv", folder / "learning_curve.png")
    _show(console, summary, folder)


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


def summarize(
    before: dict[str, Any], after: dict[str, Any], completions: int, seconds: dict[str, float], seed: int
) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    kinds = [name.removeprefix("accuracy/") for name in after if name.startswith("accuracy/")]
    return {
        "seed": seed,
        "accuracy_before": before["accuracy"],
        "accuracy_after": after["accuracy"],
        "by_kind": {k: {"before": before[f"accuracy/{k}"], "after": after[f"accuracy/{k}"]} for k in kinds},
        "unparsed_share": {"before": before["unparsed_share"], "after": after["unparsed_share"]},
        "num_questions": after["num_scored"],
        "completions_generated": completions,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
    }


def _show(console: Console, summary: dict[str, Any], folder: Path) -> None:
    total = {"before": summary["accuracy_before"], "after": summary["accuracy_after"]}
    title = f"Accuracy on {summary['num_questions']} held-out questions (seed {summary['seed']})"
    table = before_after_table(title, summary["by_kind"], total)
    table.add_section()
    table.add_row("completions generated", "", f"{summary['completions_generated']:,}", "")
    for name, value in summary["seconds"].items():
        table.add_row(f"seconds: {name}", "", f"{value:.1f}", "", style="bold" if name == "total" else None)
    console.rule()
    console.print(table)
    console.print(f"Learning curve: {folder}/learning_curve.png   Figures: {folder}/summary.json")
