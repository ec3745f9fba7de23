"""One run through a benchmark: what has been answered, what is left to ask, and what it comes to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from avatar.benchmarks.base import Benchmark
from avatar.benchmarks.exams.grading import grade_all, note_counts, results_stem
from avatar.benchmarks.exams.replies import Row, graded_row, missing_row, question_row, reply_row
from avatar.benchmarks.exams.sheet import AnswerSheet
from avatar.benchmarks.figures.results import write_results
from avatar.benchmarks.grades import Scoring
from avatar.benchmarks.question import Question
from avatar.benchmarks.recipe import Recipe
from avatar.chat import ChatClient
from avatar.data.index import Entry
from avatar.data.media import NO_TRACK
from avatar.data.prepare import Swap
from avatar.data.skipped import Failure
from avatar.errors import AvatarError, ConfigError, DataError
from avatar.types import Completion, Prompt


class Asked(Protocol):
    """What an exam needs to know of :class:`avatar.benchmarks.BenchmarkData`, whose attributes these are."""

    name: str
    benchmark: Benchmark
    recipe: Recipe
    swap: Swap | None
    limit: int | None
    allow_missing: bool
    keys: list[str]
    positions: list[int]
    entries: list[Entry]
    missing: dict[str, str]

    @property
    def failures(self) -> dict[str, Failure]:
        """What could not be read."""

    def question(self, key: str) -> Question | None:
        """The question called ``key``; None where only its prompt tells."""


class Exam:
    """Asks each question of a benchmark once, whatever is killed in between, and grades the replies.

    Args:
        stem: Path of what is written, without endings; None writes nothing.
        scoring: Whose rule.
        judge: Decides what the rule leaves open; None reports that as not judged.
        model: Names the model in the results.
        restart: Ask anew what was answered already.
    """

    def __init__(
        self,
        stem: Path | None = None,
        scoring: Scoring = "avatar",
        judge: ChatClient | None = None,
        model: str = "",
        restart: bool = False,
    ) -> None:
        self.stem, self.scoring, self.judge, self.model, self.restart = stem, scoring, judge, model, restart
        self.results: dict[str, Any] | None = None
        self.sheet: AnswerSheet | None = None
        self.before: dict[str, Row] = {}
        self.new: dict[str, Row] = {}

    # -- asking ------------------------------------------------------------------------------------------------------

    def begin(self, data: Asked, weights: str, rank: int, agree: Callable[[Any], Any]) -> None:
        """Find what was answered before, the same on every process.

        Args:
            data: What is asked.
            weights: A hash of the model's.
            rank: Of this process.
            agree: Gives every process what the first one has.

        Raises:
            ConfigError: Another run is answering the same, the folder cannot be written, or there is no such rule.
        """
        self.data, self.results, self.new = data, None, {}
        data.benchmark.check_scoring(self.scoring)
        self.stamp = data.recipe.stamp(benchmark=data.name, swap=data.swap)
        made_with = data.recipe.stamp(benchmark=data.name, swap=data.swap, weights=weights)
        self.asked = {data.keys[p]: entry_hash(data.entries[p]) for p in data.positions}
        self.sheet = AnswerSheet(self.stem, made_with, rank) if self.stem else None
        if refusal := agree(self._claim() if rank == 0 else None):
            raise ConfigError(refusal)
        self.before = agree(self.sheet.answered(self.asked) if self.sheet and rank == 0 else {})
        if self.before and rank == 0:
            left = len(self.asked) - len(self.before)
            note = f"{data.name}: {len(self.before)} questions were answered before, {left} are left"
            Console(stderr=True).print(Text(f"{note} (--restart true asks all)"), soft_wrap=True)

    def _claim(self) -> str | None:
        """Lock the sheet, and empty it for a restart; why that cannot be done, if it cannot."""
        try:
            if self.sheet:
                self.sheet.lock()
                if self.restart:
                    self.sheet.forget()
        except AvatarError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Let other runs in; called when all is written, or nothing will be any more."""
        if self.sheet:
            self.sheet.unlock()

    def add(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> None:
        """Take the replies of a batch, and keep them."""
        rows = []
        for prompt, completion in zip(prompts, completions, strict=True):
            question = self.data.benchmark.question(prompt)
            rows.append({**reply_row(question, completion, prompt), "asked": self.asked[prompt.key]})
        self.new.update({row["id"]: row for row in rows})
        if self.sheet:
            self.sheet.add(rows)

    # -- grading -----------------------------------------------------------------------------------------------------

    def finish(self, gather: Callable[[list[Any]], list[Any]], first: bool) -> dict[str, Any]:
        """Grade all replies, write predictions and results.

        Args:
            gather: Joins the lists of all processes.
            first: Whether this is the process that grades and writes.

        Returns:
            The results, on every process.

        Raises:
            DataError: Media could not be read and ``allow_missing`` is off. What was answered is kept.
        """
        rows = {**self.before, **{row["id"]: row for row in gather(list(self.new.values()))}}
        failed = gather([(key, failure.reason) for key, failure in self.data.failures.items()])
        failures = {**self.data.missing, **dict(failed)}
        unread = {key: reason for key, reason in failures.items() if key not in rows}
        if unread and not self.data.allow_missing:
            raise DataError(_unread(unread, len(rows)), "missing media")
        results: dict[str, Any] = gather([self._graded(rows, unread)] if first else [])[0]
        self.results = results
        self.close()
        return results

    def _graded(self, rows: Mapping[str, Row], unread: Mapping[str, str]) -> dict[str, Any]:
        data, benchmark = self.data, self.data.benchmark
        keys = [data.keys[p] for p in data.positions]
        known = [key for key in keys if key in rows or key in unread]
        ordered = [self._row(key, rows.get(key), unread) for key in known]
        self._warn_of_silence(ordered)
        results, judged = grade_all(benchmark, data.name, ordered, self.scoring, self.judge, self._facts(ordered))
        if self.stem and self.sheet:
            self.sheet.finish([graded_row(r, g.grade) for r, g in zip(ordered, judged.graded, strict=True)])
            write_results(results_stem(self.stem, self.scoring), results)
        return results

    def _row(self, key: str, row: Row | None, unread: Mapping[str, str]) -> Row:
        """The reply, to the question as the files have it now: a gold answer that was mended since counts."""
        question = self.data.question(key)
        if row is None:
            return missing_row(question or Question(key, "", "", "exact"), unread[key])
        return {**row, **question_row(question)} if question else row

    def _warn_of_silence(self, rows: Sequence[Row]) -> None:
        """Where sound is what it is about, and hardly a clip has any."""
        silent = note_counts(rows).get(NO_TRACK, 0)
        if 2 * silent > len(rows) and (self.data.recipe.modalities == "audio" or self.data.swap == "audio"):
            note = (
                f"warning: {silent} of {len(rows)} questions are about clips without a sound track: nothing was heard"
            )
            Console(stderr=True).print(Text(note), soft_wrap=True)

    def _facts(self, rows: Sequence[Row]) -> dict[str, Any]:
        data = self.data
        return {
            "model": self.model,
            "recipe": data.recipe,
            "stamp": self.stamp,
            "swap": data.swap,
            "limit": data.limit,
            "num_skipped": sum(row["output"] is None for row in rows),
        }


def entry_hash(entry: Entry) -> str:
    """What a question is: its record and the size of each of its files."""
    sizes = sorted((name, span.size) for name, span in entry.members.items())
    sizes += sorted((name, sum(span.size for span in spans)) for name, spans in entry.frames.items())
    return hashlib.sha256(repr((entry.key, entry.record, sizes)).encode()).hexdigest()[:8]


def _unread(unread: Mapping[str, str], num_kept: int) -> str:
    key, reason = next(iter(unread.items()))
    return (
        f"{len(unread)} questions could not be asked, since their media are missing or cannot be read; the first, "
        f"{key}: {reason}. Mend them and give the same command again: the {num_kept} replies are kept. Or count these "
        "questions as wrong with --allow_missing true"
    )
