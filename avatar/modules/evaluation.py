"""Greedy answers, graded and written down: validation, test and prediction of every module."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from rich.console import Console
from rich.table import Table
from torchmetrics import MeanMetric

from avatar.benchmarks import Benchmark, BenchmarkData, Grade, grade_answer
from avatar.benchmarks.exams.exam import Exam
from avatar.benchmarks.figures.show import results_table
from avatar.modules.memory import naming_what_fits
from avatar.modules.policy import Policy
from avatar.modules.steps import of_all_ranks
from avatar.types import Completion, Prompt, Sampling


class EvaluationModule(LightningModule):
    """A policy that answers questions; the modules that train are this and a ``training_step``.

    Args:
        policy: The model.
        max_new_tokens: Length limit of an answer.
    """

    def __init__(self, policy: Policy, max_new_tokens: int = 256) -> None:
        super().__init__()
        self.policy = policy
        self.eval_sampling = Sampling(temperature=0.0, max_new_tokens=max_new_tokens)
        self.benchmark: Benchmark | None = None
        self.output_stem: Path | None = None
        self.results: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []

    def configure_model(self) -> None:
        """Load the policy."""
        self.policy.configure_model()

    def transfer_batch_to_device(self, batch: list[Prompt], device: Any, dataloader_idx: int) -> list[Prompt]:
        """Prompts stay where they are; the adapter moves what its towers need."""
        return batch

    # -- answering ---------------------------------------------------------------------------------------------------

    def complete(self, prompts: list[Prompt]) -> list[Completion]:
        """The greedy completion of each prompt, of the length that a benchmark's recipe gives, if there is one.

        Raises:
            AvatarError: There is not enough memory.
        """
        data = self.trainer.datamodule if self._trainer else None  # type: ignore[attr-defined]
        recipe = data.recipe if isinstance(data, BenchmarkData) else None
        limit = recipe.max_new_tokens if recipe else None
        sampling = replace(self.eval_sampling, max_new_tokens=limit) if limit else self.eval_sampling
        with naming_what_fits(len(prompts), recipe):
            return [group[0] for group in self.policy.adapter.generate(self.policy.encode(prompts), 1, sampling)]

    def answer(self, prompts: list[Prompt]) -> list[dict[str, Any]]:
        """One graded row a prompt: key, kind, output, parsed, how, gold, score, length, finished."""
        completions = self.complete(prompts)
        return [_row(p, c, self._grade(c.text, p)) for p, c in zip(prompts, completions, strict=True)]

    def _grade(self, output: str, prompt: Prompt) -> Grade:
        if self.benchmark:
            return self.benchmark.grade(output, self.benchmark.question(prompt))
        return grade_answer(output, prompt.problem_type, prompt.answer, prompt.options)

    def validation_step(self, batch: list[Prompt], batch_idx: int) -> None:
        """Answer and grade."""
        self._rows += self.answer(batch)

    def test_step(self, batch: list[Prompt], batch_idx: int) -> None:
        """Answer; to a benchmark its exam takes the replies."""
        if exam := self.exam:
            exam.add(batch, self.complete(batch))
        else:
            self._rows += self.answer(batch)

    @property
    def exam(self) -> Exam | None:
        """What takes the replies of a test; None where it is on other data than a benchmark."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.exam if isinstance(data, BenchmarkData) else None

    def predict_step(self, batch: list[Prompt], batch_idx: int) -> list[dict[str, Any]]:
        """Answer and grade; the rows are returned and written."""
        rows = self.answer(batch)
        self._rows += rows
        return rows

    # -- reporting ---------------------------------------------------------------------------------------------------

    def log_step(self, metrics: dict[str, Any], step: int) -> None:
        """Write one training step's row to every logger, now.

        Lightning's own would repeat in each row the last value of what this step has not measured, and would write the
        row after the checkpoint of its step: a crash in between would lose it; and it took a quarter of a small model's
        step. Callbacks see the metrics as ever.

        Args:
            metrics: Numbers or scalar tensors.
            step: Optimizer step that the row is of.
        """
        numbers = {k: float(v) for k, v in metrics.items()}
        self.trainer.callback_metrics.update({k: torch.tensor(v) for k, v in numbers.items()})
        if step % self.trainer.log_every_n_steps == 0 or self.trainer.fast_dev_run:
            for logger in self.trainer.loggers:
                logger.log_metrics(numbers, step=step)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/...``; before the first step too, where Lightning logs nothing of its own accord."""
        metrics = {f"val/{k}": v for k, v in summarize(of_all_ranks(self._rows)).items()}
        self._rows = []
        if self.trainer.sanity_checking:
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, step=self.global_step)
            return
        self.log("step", float(self.global_step))
        self.log_dict(metrics)
        self.log("accuracy", metrics["val/accuracy"], prog_bar=True, logger=False)

    def on_test_epoch_end(self) -> None:
        """Log ``test/...``, print the table, write predictions and results."""
        if self.exam:
            self.finish_exam(self.exam)
            self.log_dict({f"test/{k}": v for k, v in self.results.items() if isinstance(v, float)})
            return
        self._rows = of_all_ranks(self._rows)
        summary = summarize(self._rows)
        self.log_dict({f"test/{k}": v for k, v in summary.items()})
        failures = getattr(self.trainer.datamodule, "failures", {})  # type: ignore[attr-defined]
        counts = {"num_scored": len(self._rows), "num_skipped": len(failures)}
        self.results = {"benchmark": None, "version": None, "scoring": "avatar", **counts, **summary}
        self._write()
        print_results(self.results)

    def finish_exam(self, exam: Exam) -> None:
        """Grade a benchmark, once."""
        if exam.results is None:
            self.results = exam.finish(of_all_ranks, self.trainer.is_global_zero)
            if self.trainer.is_global_zero:
                Console().print(results_table(self.results))

    def on_predict_epoch_end(self) -> None:
        """Write predictions."""
        self._rows = of_all_ranks(self._rows)
        self._write()

    def _write(self) -> None:
        if self.output_stem and self.trainer.is_global_zero:
            self.output_stem.parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows)
            self.output_stem.with_suffix(".predictions.jsonl").write_text(lines)
            if self.results:
                self.output_stem.with_suffix(".results.json").write_text(json.dumps(self.results, indent=2) + "\n")
        self._rows = []


def _row(prompt: Prompt, completion: Completion, grade: Grade) -> dict[str, Any]:
    return {
        "key": prompt.key,
        "kind": prompt.metadata.get("kind", prompt.problem_type),
        "output": completion.text,
        "parsed": grade.parsed,
        "how": grade.how,
        "gold": prompt.answer,
        "score": grade.score,
        "length": len(completion.ids),
        "finished": completion.finished,
    }


def summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Accuracy, overall and by kind, and the shares of unparsed and truncated replies; empty for no rows."""
    values: defaultdict[str, list[float]] = defaultdict(list)

    for row in sorted(rows, key=lambda row: row["kind"]):
        if row["score"] is not None:  # what only a judge can tell
            values["accuracy"].append(row["score"])
            values[f"accuracy/{row['kind']}"].append(row["score"])
        values["unparsed_share"].append(row["how"] == "unparsed")
        values["truncated_share"].append(not row["finished"])
        values["completion_length"].append(row["length"])
    return {name: round(float(MeanMetric()(torch.tensor(row, dtype=torch.float32))), 6) for name, row in values.items()}


def print_results(results: dict[str, Any]) -> None:
    """Accuracy by kind as a table."""
    table = Table(title=f"{results['benchmark'] or 'test'}: accuracy (scoring: {results['scoring']})")
    table.add_column("kind")
    table.add_column("accuracy", justify="right")
    for name, value in results.items():
        if name.startswith("accuracy/"):
            table.add_row(name.removeprefix("accuracy/"), f"{value:.3f}")
    table.add_section()
    table.add_row("all", f"{results.get('accuracy', float('nan')):.3f}", style="bold")
    table.add_row("unparsed", f"{results.get('unparsed_share', float('nan')):.3f}")
    table.add_row("graded", str(results["num_scored"]))
    if results["num_skipped"]:
        table.add_row("skipped", str(results["num_skipped"]), style="yellow")
    Console().print(table)
