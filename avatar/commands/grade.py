"""``avatar grade``: replies that are there already, graded row by row, without a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from avatar.benchmarks import Graded, find_benchmark
from avatar.benchmarks.grades import Scoring
from avatar.commands.subcommands import run_command

Row = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Run ``avatar grade ...``."""
    return run_command(grade, argv)


def grade(benchmark: str, scoring: Scoring = "avatar", input: str | None = None, summary: str | None = None) -> int:
    """Grade rows of JSON from the standard input, one a line, and write what each earned to the standard output.

    Args:
        benchmark: Whose questions they are, see ``avatar list benchmarks``.
        scoring: Whose rule: ours, the benchmark's own, or that of the authors of AVATAR.
        input: File to read in the place of the standard input.
        summary: File to write the figures of all rows to, as a result that ``avatar compare`` takes; Markdown if its
            name ends in ``.md``.
    """
    known = find_benchmark(benchmark)
    judge = known()
    judge.check_scoring(scoring)
    _check(input, summary)
    graded: list[Graded] = []
    with ExitStack() as stack:
        lines = stack.enter_context(open(input, encoding="utf-8-sig")) if input else sys.stdin
        for one in grade_lines(judge, lines, scoring):
            graded.append(one)
            print(json.dumps(output_row(one), ensure_ascii=False, allow_nan=False), flush=True)
    if summary or sys.stderr.isatty():
        _summarize(benchmark, judge, graded, scoring, summary)
    return 0
