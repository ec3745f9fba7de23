"""``avatar grade``: replies that are there already, graded row by row, without a model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from avatar.benchmarks import BENCHMARKS, Benchmark, Graded, Question, Scoring, find_benchmark
from avatar.benchmarks.exams.replies import grade_row
from avatar.benchmarks.figures.results import make_results, write_result
from avatar.benchmarks.figures.show import results_table
from avatar.benchmarks.files import no_json
from avatar.commands.subcommands import run_command
from avatar.errors import AvatarError, ConfigError, DataError

Row = dict[str, Any]
TEXTS = ("question", "qtype", "question_type", "problem_type", "ident", "clip")  # fields that are texts where given


def main(argv: Sequence[str]) -> int:
    """Run ``avatar grade ...``."""
    return run_command("grade", grade, argv, options_only=True)


def grade(benchmark: str, scoring: str = "avatar", input: str | None = None, summary: str | None = None) -> int:
    """Grade JSON rows of the standard input, and write what each earned to the standard output.

    Args:
        benchmark: Whose questions they are, see ``avatar list benchmarks``.
        scoring: Whose rule: ``avatar``, ours; ``official``, the benchmark's own; ``authors``, the AVATAR authors'.
        input: File to read in the place of the standard input.
        summary: File to write the figures of all rows to, as a result that ``avatar compare`` takes; in Markdown if its
            name ends in ``.md``.
    """
    known = find_benchmark(benchmark)()
    known.check_scoring(scoring)
    _check(input, summary)
    _check_writable(summary)
    graded: list[Graded] = []
    with ExitStack() as stack:
        lines = stack.enter_context(open(input, "rb")) if input else sys.stdin.buffer
        for row, one in grade_lines(known, lines, cast(Scoring, scoring)):
            graded.append(one)
            print(json.dumps(earned(row, one), allow_nan=False), flush=True)
    if not graded:
        print(f"there are no rows in {input or 'the standard input'}: nothing was graded", file=sys.stderr)
    _summarize(known, graded, cast(Scoring, scoring), summary)
    return 0


def grade_lines(benchmark: Benchmark, lines: Iterable[bytes], scoring: Scoring) -> Iterator[tuple[Row, Graded]]:
    """Each row with what its reply earned, as they come; blank lines are left out.

    Raises:
        DataError: A line is no row that can be graded; names line and field. What came before is graded already.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = read_row(line)
            question = with_gold(benchmark.question_of_row(row))
            one = grade_row(benchmark, {**row, "gold": question.gold}, scoring)
        except (AvatarError, ValueError) as error:
            raise DataError(f"line {number}: {error}") from error
        yield row, one


def read_row(line: bytes) -> Row:
    """A row, with fields of the right types as far as they do not depend on the benchmark.

    Raises:
        DataError: It is no JSON object, or a field is missing or of the wrong type.
    """
    try:
        row = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DataError(no_json(error)) from None
    if not isinstance(row, dict):
        raise DataError(f"must be an object such as {{'id': 'q1', 'output': 'B', ...}}, got {row!r:.80}")
    for name, kinds in {"id": (str, int), "output": (str,), **{name: (str,) for name in TEXTS}}.items():
        value = row.get(name)
        if value is None and (name in TEXTS or (name == "output" and name in row)):  # it could not be asked
            continue
        if name not in row:
            raise DataError(f"field {name!r} is missing; the row has {', '.join(map(repr, row)) or 'no fields'}")
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise DataError(f"field {name!r} must be a text{' or a whole number' * (name == 'id')}, got {value!r:.80}")
    check_groups(row.get("groups"))
    return row


def with_gold(question: Question) -> Question:
    """The question with a gold answer of the right type: a number counts as the text that it is written as.

    Clues are of their own kind, which their rule checks.

    Raises:
        DataError: The gold answer is neither, or a number where an option is wanted.
    """
    gold, kind = question.gold, question.problem_type
    if kind == "clue" or isinstance(gold, str):
        return question
    if isinstance(gold, bool) or not isinstance(gold, (int, float)) or kind in ("choice", "choices"):
        raise DataError(f"field 'gold' must be a text, for a question of type {kind!r}, got {gold!r:.80}")
    return replace(question, gold=str(gold))


def earned(row: Mapping[str, Any], graded: Graded) -> Row:
    """What is written of a row."""
    grade = graded.grade
    return {
        "id": row["id"],
        "score": grade.score,
        "parsed": grade.parsed or None,
        "how": grade.how,
        "counted": grade.counted,
        "parts": dict(grade.parts),
    }


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def check_groups(groups: Any) -> None:
    """Raise :class:`DataError` where they are no object of labels or lists of labels."""
    if groups is None:
        return
    labels = list(groups.values()) if isinstance(groups, dict) else [None]
    if not all(isinstance(label, str) for one in labels for label in (one if isinstance(one, list) else [one])):
        raise DataError(f"field 'groups' must be an object of labels or lists of labels, got {groups!r:.80}")


def _check(input: str | None, summary: str | None) -> None:
    if input and not Path(input).is_file():
        raise ConfigError(f"--input {input}: there is no such file")
    if not input and sys.stdin.isatty():
        raise ConfigError("there are no rows: pipe them in, `avatar grade ... < rows.jsonl`, or give --input FILE")
    if summary and not Path(summary).parent.is_dir():
        raise ConfigError(f"--summary {summary}: there is no folder {Path(summary).parent}")
    if summary and Path(summary).is_dir():
        raise ConfigError(f"--summary {summary}: is a folder; give the name of a file")
    if summary and input and Path(input).resolve() == Path(summary).resolve():
        raise ConfigError(f"--summary {summary}: is the file that is read; give another name")


def _check_writable(summary: str | None) -> None:
    """Find out before anything is graded: the file is written beside its place first, so the folder must take one."""
    if not summary:
        return
    part = Path(summary).with_name(f".{Path(summary).name}.{os.getpid()}")
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise ConfigError(f"--summary {summary}: cannot be written ({error.strerror or error})") from None


def _summarize(benchmark: Benchmark, graded: Sequence[Graded], scoring: Scoring, summary: str | None) -> None:
    """Write the summary and show it: on a terminal always, else where it was asked for."""
    if not summary and not sys.stderr.isatty():
        return
    name = next(name for name in BENCHMARKS if BENCHMARKS[name] is type(benchmark))
    try:
        results = make_results(name, benchmark, graded, scoring)
    except DataError as error:
        if summary:
            raise
        print(f"no summary: {error}", file=sys.stderr)
        return
    if summary:
        write_result(Path(summary), results)
    Console(stderr=True).print(results_table(results))
