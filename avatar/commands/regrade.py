"""``avatar test --regrade PREDICTIONS.jsonl``: saved replies graded again, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from avatar.benchmarks import BENCHMARKS, Benchmark, find_benchmark
from avatar.benchmarks.exams.grading import grade_all, results_stem
from avatar.benchmarks.exams.sheet import Row, read_predictions
from avatar.benchmarks.figures.results import read_results, write_results
from avatar.benchmarks.figures.show import results_table
from avatar.benchmarks.grades import SCORINGS
from avatar.chat import ChatClient
from avatar.commands.grade import check_groups, with_gold
from avatar.errors import AvatarError, ConfigError, DataError
from avatar.registry import did_you_mean

FACTS = ("model", "recipe", "stamp", "swap", "limit", "num_skipped")
END = ".predictions.jsonl"


def regrade(predictions: str, argv: Sequence[str]) -> int:
    """Grade the rows of a file of predictions by a rule, print the table and write the results beside it.

    Args:
        predictions: The file.
        argv: The arguments of ``avatar test``; of these ``--benchmark``, ``--scoring`` and the judge's count.

    Raises:
        ConfigError: An argument plays no part here, or the benchmark cannot be told.
        DataError: The file is not there or no file of predictions.
    """
    chosen = _parse(argv)
    path = Path(predictions)
    if not path.name.endswith(END):
        raise ConfigError(f"--regrade {path}: predictions of avatar test are called NAME{END}")
    rows = read_predictions(path)
    if not rows:
        raise DataError(f"{path}: there are no replies in it")
    stem = path.with_name(path.name.removesuffix(END))
    name, facts = _known(stem, chosen.benchmark)
    benchmark = BENCHMARKS[name]()
    benchmark.check_scoring(chosen.scoring)
    rows = [_fitting(row, benchmark, path) for row in rows]
    cache = chosen.judge_cache or str(stem.parent / "judge")
    judge = judge_client(chosen.judge_endpoint, chosen.judge_model, cache)
    check_judge(judge)
    results, _ = grade_all(benchmark, name, rows, chosen.scoring, judge, facts)
    write_results(results_stem(stem, chosen.scoring), results)
    Console().print(results_table(results))
    return 0


def judge_client(endpoint: str | None, model: str | None, cache: str | None) -> ChatClient | None:
    """The client of a judge; None where none is given.

    Raises:
        ConfigError: One of endpoint and model is missing.
    """
    if bool(endpoint) != bool(model):
        raise ConfigError("a judge needs --judge_endpoint and --judge_model")
    return ChatClient(endpoint, model, cache=cache) if endpoint and model else None


def check_judge(judge: ChatClient | None) -> None:
    """See to it that a judge is there before anything is asked; without one there is nothing to see to.

    Raises:
        ConfigError: It does not answer, or not as the model that is wanted.
    """
    try:
        if judge:
            judge.check()
    except ConfigError as error:
        raise ConfigError(f"--judge_endpoint: {str(error).removeprefix('client.endpoint: ')}") from None


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        names = [option for option in self._option_string_actions if option.startswith("--")]
        word = message.partition("nrecognized arguments: ")[2].split("=")[0].split(" ")[0]
        hint = f"--regrade takes {', '.join(names[1:])} and asks no model.{did_you_mean(word, names)}"
        raise ConfigError(f"unknown argument {word}: {hint}" if word else message) from ex


def _parse(argv: Sequence[str]) -> Any:
    parser = _Parser(prog="avatar test", description="Grade saved replies again, without the model.")
    parser.add_argument("--regrade", type=str, help="STEM.predictions.jsonl, as avatar test wrote it")
    parser.add_argument("--benchmark", type=str | None, default=None, help="By default as the results beside it say")
    parser.add_argument("--scoring", type=str, default="avatar", help=" | ".join(SCORINGS))
    parser.add_argument("--judge_endpoint", type=str | None, default=None, help="Of a judge for what no rule decides")
    parser.add_argument("--judge_model", type=str | None, default=None, help="As its server names it")
    parser.add_argument("--judge_cache", type=str | None, default=None, help="By default judge, beside the replies")
    return parser.parse_args(list(argv))


def _fitting(row: Row, benchmark: Benchmark, path: Path) -> Row:
    """The row with its gold answer as the benchmark's rules take it."""
    try:
        check_groups(row.get("groups"))
        question = with_gold(benchmark.question_of_row(row))
        for scoring in benchmark.scorings:
            benchmark.grade(row["output"] or "", question, scoring)
    except (AvatarError, ValueError, AttributeError) as error:  # the last where clues come to a rule of letters
        raise DataError(f"{path}: row {row['id']!r} cannot be one of {benchmark.title}: {error}") from error
    return {**row, "gold": question.gold}


def _known(stem: Path, given: str | None) -> tuple[str, dict[str, Any]]:
    """The benchmark's key, and what the results beside the predictions say of how they came about."""
    beside = [results_stem(stem, scoring) for scoring in SCORINGS]
    found = [path for s in beside if (path := s.with_name(f"{s.name}.results.json")).is_file()]
    if not found and not given:
        raise ConfigError(f"--regrade: no results lie beside {stem}{END} to tell the benchmark: give --benchmark NAME")
    results = read_results(found[0]) if found else {}
    name = _key(given) if given else str(results["benchmark"])
    if results and name != results["benchmark"]:
        raise ConfigError(f"--benchmark {given}: {found[0]} says that the predictions are of {results['benchmark']}")
    return name, {fact: results[fact] for fact in FACTS if fact in results}


def _key(given: str) -> str:
    cls = find_benchmark(given)
    return next(key for key in BENCHMARKS if BENCHMARKS[key] is cls)
