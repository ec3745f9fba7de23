"""A benchmark as a LightningDataModule."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from random import Random

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.exams.exam import Exam
from avatar.benchmarks.question import Question
from avatar.benchmarks.recipe import Recipe
from avatar.data.dataset import start_decoders
from avatar.data.index import Entry
from avatar.data.loader import PromptLoader
from avatar.data.prepare import Swap
from avatar.data.skipped import Failure, print_failures
from avatar.errors import ConfigError, DataError
from avatar.models.base import fingerprint


class BenchmarkData(LightningDataModule):
    """The questions of one benchmark, those about the same clips together, the largest files first.

    So a clip is decoded and encoded once, and what needs most memory comes first. The batches are the same whatever was
    answered before and however many processes share them: a reply does not hang on either.

    Args:
        benchmark: Its key.
        root: Folder of its files; by default where the benchmark expects them.
        swap: Give each clip the ``audio`` or the ``video`` of another: shows whether a model uses them.
        batch_size: Questions answered at a time; by default what the benchmark says.
        num_workers: Processes that decode ahead, at least one.
        recipe: How questions are asked; by default as the benchmark pins it.
        limit: Ask so many, drawn evenly from the whole, always the same; None asks all.
        allow_missing: Count a question as wrong whose media are missing or cannot be read; else that is an error.

    Attributes:
        keys: Of all questions, in the benchmark's order.
        positions: Of those that are asked, in that order.
        missing: Why questions among them cannot be asked, by key.
        exam: What takes the replies of a test.
    """

    def __init__(
        self,
        benchmark: str,
        root: str | None = None,
        swap: Swap | None = None,
        batch_size: int | None = None,
        num_workers: int = 1,
        recipe: Recipe | None = None,
        limit: int | None = None,
        allow_missing: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.benchmark, self.swap = benchmark, BENCHMARKS[benchmark](), swap
        self.root = Path(root) if root else None
        for name, value in (("batch_size", batch_size), ("limit", limit), ("num_workers", num_workers)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self.batch_size, self.num_workers = batch_size or self.benchmark.batch_size, num_workers
        self.recipe, self.limit, self.allow_missing = recipe or self.benchmark.recipe, limit, allow_missing
        self.loader: PromptLoader | None = None
        self.exam = Exam()
        self.missing: dict[str, str] = {}

    def setup(self, stage: str) -> None:
        """Find the questions and their media.

        Warns where there are fewer questions than there should be.

        Raises:
            DataError: There are none; or media are missing and ``allow_missing`` is off.
        """
        self.dataset = self.benchmark.prompts(self.root, self.recipe, self.swap)
        self.entries: list[Entry] = list(chain.from_iterable(self.dataset.indexes))
        self.keys = [entry.key for entry in self.entries]
        if not self.keys:
            raise DataError(f"{self.name}: there are no questions in {self.dataset.indexes[0].folder}", "no questions")
        self.positions = spread(len(self.keys), self.limit)
        if len(self.keys) < self.benchmark.num_records:
            where = self.dataset.indexes[0].folder
            rank_zero_warn(f"{self.name}: {len(self.keys)} of {self.benchmark.num_records} records in {where}")
        self.missing = self.benchmark.missing([self.keys[p] for p in self.positions], self.recipe, self.allow_missing)
        self.dataset.decoders = start_decoders(self.num_workers, self.dataset.rule, "recipe.time_limit")

    def question(self, key: str) -> Question | None:
        """The question called ``key``; None of a benchmark that knows its questions by their prompts alone."""
        return self.benchmark.question_called(key)

    def test_dataloader(self) -> PromptLoader:
        """Batches of what was not answered before."""
        trainer = self.trainer
        if trainer is None:
            return self._loader(set(), 0, 1)
        module = trainer.lightning_module
        adapter, limit = module.policy.adapter, module.eval_sampling.max_new_tokens  # type: ignore[union-attr]
        self.recipe = self.recipe.changed(max_new_tokens=self.recipe.max_new_tokens or limit)
        weights = f"{fingerprint([adapter], lora=True)} {next(adapter.parameters()).dtype}"  # type: ignore[list-item, operator, union-attr]
        self.exam.begin(self, weights, trainer.global_rank, trainer.strategy.broadcast)
        return self._loader(set(self.exam.before), trainer.global_rank, trainer.world_size, exam=True)

    def predict_dataloader(self) -> PromptLoader:
        """Batches of all."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return self._loader(set(), rank, world)

    val_dataloader = predict_dataloader

    def _loader(self, answered: set[str], rank: int, world: int, exam: bool = False) -> PromptLoader:
        batches = self.batches(answered)
        ahead = max(4 * self.num_workers, self.batch_size)  # the next batch is read while this one is answered
        self.loader = PromptLoader(
            self.dataset,
            lambda epoch: batches,
            ahead,
            rank=rank,
            world_size=world,
            resumable=False,
            may_all_fail=exam,  # the exam tells, or counts, what cannot be read
        )
        return self.loader

    def batches(self, answered: set[str]) -> list[list[int]]:
        """Positions of each batch, less what is ``answered`` or missing."""
        order = sorted(self.positions, key=lambda p: (-_num_bytes(self.entries[p]), self.entries[p].sample, p))
        size = self.batch_size
        cut = [order[start : start + size] for start in range(0, len(order), size)]
        done = answered | set(self.missing)
        left = [[p for p in batch if self.keys[p] not in done] for batch in cut]
        return [batch for batch in left if batch]

    @property
    def failures(self) -> dict[str, Failure]:
        """Every record skipped so far, by key."""
        return self.loader.skipped.failures if self.loader else {}

    def teardown(self, stage: str) -> None:
        """Name what was skipped, unless the result counts it, and let the decoders go."""
        if self.failures and not self.allow_missing:
            print_failures(list(self.failures.values()))
        self.dataset.decoders.close()


def spread(total: int, limit: int | None) -> list[int]:
    """``limit`` of 0 .. total - 1, one of each of so many equal stretches; all where there are no more.

    Which one of a stretch is drawn, always the same: questions often come in turns, three about each clip, say, and
    every third of them would be of one kind.
    """
    if limit is None or limit >= total:
        return list(range(total))
    rng = Random(f"{limit} of {total}")
    return [rng.randrange(i * total // limit, (i + 1) * total // limit) for i in range(limit)]


def _num_bytes(entry: Entry) -> int:
    """Of all its files: how long they are, as far as can be told without opening them."""
    spans = chain(entry.members.values(), *entry.frames.values())
    return sum(span.size for span in spans)
