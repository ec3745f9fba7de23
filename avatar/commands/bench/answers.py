"""``avatar bench answers``: how much faster a benchmark is answered in batches, and whether replies stay the same."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from avatar.benchmarks.data import BenchmarkData
from avatar.benchmarks.exams.exam import Exam
from avatar.benchmarks.exams.sheet import read_predictions
from avatar.benchmarks.recipe import Recipe
from avatar.commands.bar import LateBar
from avatar.commands.bench.quiz import FIT_STEPS, fit_policy, write_quiz
from avatar.commands.train import quieten
from avatar.data.micro import RULE
from avatar.errors import ConfigError
from avatar.modules import EvaluationModule, Policy

Replies = dict[str, tuple[str, int, bool]]  # by question: text, length in tokens, whether it ended by itself


@dataclass(frozen=True)
class AnswerOptions:
    """What ``avatar bench answers`` is asked to measure.

    Attributes:
        questions: How many are answered.
        batch_sizes: Questions answered at a time, with commas; the last is what the others are compared with.
        rounds: How often, in turns; figures are medians.
        media: Ask about clips of one second, five questions about each, in place of text alone.
        max_new_tokens: Length limit of a reply.
        threads: That torch uses.
        json: File to write the figures to.

    Raises:
        ConfigError: A value makes no sense.
    """

    questions: int = 1000
    batch_sizes: str = "16,1"
    rounds: int = 1
    media: bool = False
    max_new_tokens: int = 32
    threads: int = 1
    json: str | None = None

    def __post_init__(self) -> None:
        for name in ("questions", "rounds", "max_new_tokens", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.json and not Path(self.json).parent.is_dir():
            raise ConfigError(f"--json {self.json}: there is no folder {Path(self.json).parent}")
        self.sizes()

    def sizes(self) -> list[int]:
        """The batch sizes as numbers."""
        words = [word.strip() for word in self.batch_sizes.split(",")]
        if not all(word.isdecimal() and int(word) for word in words) or len(words) != len(set(map(int, words))):
            raise ConfigError(
                f"--batch_sizes must be different whole numbers with commas, like 16,1; got {self.batch_sizes!r}"
            )
        return [int(word) for word in words]


def bench_answers(options: AnswerOptions) -> None:
    """Answer the same short questions with each batch size; print seconds and whether the replies are the same."""
    quieten()
    torch.set_num_threads(options.threads)
    figures = measure_answers(options)
    Console().print(answers_table(figures))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure_answers(options: AnswerOptions) -> dict[str, Any]:
    """All figures by name, as ``--json`` writes them."""
    sizes = options.sizes()
    total = FIT_STEPS + options.rounds * len(sizes) * options.questions
    with TemporaryDirectory() as name, LateBar("answers", total) as bar:
        folder = Path(name)
        chains = write_quiz(folder / "quiz", options.questions, options.media)
        policy = fit_policy(folder / "model", _quiz(folder, options), chains, bar.advance)
        timed: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
        replies: dict[int, Replies] = {}
        for number in range(options.rounds):
            for size in sizes:
                seconds, replies[size] = answer(policy, _quiz(folder, options, size), folder / f"{number}-{size}", bar)
                timed[size].append(seconds)
    first = replies[sizes[-1]]
    return {
        **asdict(options),
        "batch_sizes": sizes,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "mean_length": statistics.mean(length for _, length, _ in first.values()),
        "finished_share": statistics.mean(finished for _, _, finished in first.values()),
        "runs": [summary(size, timed, replies, sizes[-1]) for size in sizes],
    }


def summary(
    size: int, timed: dict[int, list[dict[str, float]]], replies: dict[int, Replies], base: int
) -> dict[str, Any]:
    """Medians of one batch size, how many times as long ``base`` takes, and how many replies differ from its own."""

    def median(of: int, name: str) -> float:
        return statistics.median(run[name] for run in timed[of])

    return {
        "batch_size": size,
        "seconds": median(size, "seconds"),
        "cpu_seconds": median(size, "cpu_seconds"),
        "ratio_time": median(base, "seconds") / median(size, "seconds"),
        "ratio_cpu": median(base, "cpu_seconds") / median(size, "cpu_seconds"),
        "num_different": sum(replies[size].get(key) != reply for key, reply in replies[base].items()),
        "rounds": timed[size],
    }


# -- one run -----------------------------------------------------------------------------------------------------------


class Stopwatch(Callback):
    """Seconds from the first batch, which has been read by then, to the last reply; no other part of a run."""

    def __init__(self, bar: LateBar) -> None:
        self._bar, self.seconds, self._began = bar, dict[str, float](), (0.0, 0.0)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin, with the first."""
        if not batch_idx:
            self._began = time.perf_counter(), time.process_time()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Show it."""
        self._bar.advance(len(batch))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End, before the module grades."""
        wall, cpu = self._began
        self.seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def answer(policy: Policy, quiz: BenchmarkData, folder: Path, bar: LateBar) -> tuple[dict[str, float], Replies]:
    """What ``avatar test --benchmark jsonl`` does, on the CPU: seconds, and the replies that it wrote."""
    watch, module = Stopwatch(bar), EvaluationModule(policy)
    quiz.exam = Exam(folder / "quiz")
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[watch],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with redirect_stdout(StringIO()):  # the table of the results
        trainer.test(module, datamodule=quiz, verbose=False)
    rows = read_predictions(folder / "quiz.predictions.jsonl")
    return watch.seconds, {row["id"]: (row["output"], row["length"], row["finished"]) for row in rows}


def _quiz(folder: Path, options: AnswerOptions, batch_size: int = 1) -> BenchmarkData:
    recipe = Recipe(
        min_pixels=RULE.min_pixels,
        max_pixels=RULE.max_pixels,
        max_new_tokens=options.max_new_tokens,
        wording="plain",
        letter_options=False,
    )
    return BenchmarkData("jsonl", str(folder / "quiz"), batch_size=batch_size, recipe=recipe)


# -- what is shown -----------------------------------------------------------------------------------------------------


def answers_table(figures: dict[str, Any]) -> Table:
    """The figures of :func:`measure_answers`."""
    about = "about clips" if figures["media"] else "of text"
    title = "{questions:,} short questions {about}, replies of {mean_length:.0f} tokens on average, {threads} thread{s}"
    caption = "{finished_share:.0%} of the replies end by themselves; all others at {max_new_tokens} tokens"
    named = {**figures, "about": about, "s": "" if figures["threads"] == 1 else "s"}
    table = Table(title=title.format(**named), caption=caption.format(**named))
    base = figures["batch_sizes"][-1]
    for name in ("batch", "seconds", "CPU s", f"batch {base} takes", "in CPU s", "replies that differ"):
        table.add_column(name, justify="right")
    for run in figures["runs"]:
        table.add_row(*_cells(run, figures["questions"]))
    return table


def _cells(run: dict[str, Any], num: int) -> Sequence[str]:
    times = [f"{run[name]:.1f}x" for name in ("ratio_time", "ratio_cpu")]
    differ = f"{run['num_different']} of {num:,}" if run["num_different"] else "none"
    return [f"{run['batch_size']}", f"{run['seconds']:.1f}", f"{run['cpu_seconds']:.1f}", *times, differ]
