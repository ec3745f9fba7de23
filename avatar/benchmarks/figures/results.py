"""A result: figures, how they were made, and a row for each question, as files that stand for themselves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from avatar.benchmarks.base import Benchmark
from avatar.benchmarks.figures.rows import graded_of_row, row_of
from avatar.benchmarks.figures.show import results_markdown
from avatar.benchmarks.figures.summary import figures_of, settled
from avatar.benchmarks.grades import SCORINGS, Graded, Scoring
from avatar.benchmarks.recipe import Recipe
from avatar.benchmarks.writing import write_whole
from avatar.errors import DataError

Results = dict[str, Any]
WRITTEN_BY = "`avatar test` and `avatar grade --summary FILE` write results"


def make_results(
    name: str,
    benchmark: Benchmark,
    graded: Sequence[Graded],
    scoring: Scoring,
    *,
    recipe: Recipe | Mapping[str, Any] | None = None,
    stamp: str = "",
    model: str = "",
    **facts: Any,
) -> Results:
    """All that is known of one run over a benchmark; figures: :func:`avatar.benchmarks.figures.summary.summarize`.

    Args:
        name: The benchmark's key.
        benchmark: The benchmark.
        graded: One for each question.
        scoring: By which rule.
        recipe: How it was asked; None where that is not known.
        stamp: Hash of the recipe and of what else was asked differently; empty where it is not known.
        model: Who answered; empty where it is not known.
        facts: What else to keep; plain JSON values.

    Raises:
        DataError: Two replies have the same key.
    """
    keys = Counter(g.question.key for g in graded)
    if twice := [key for key, count in keys.items() if count > 1]:
        raise DataError(
            f"{benchmark.title}: id {twice[0]!r} occurs more than once, and so do {len(twice) - 1} others; "
            "each question counts once: give every row an id of its own"
        )
    rows = settled(benchmark, graded, scoring)
    return {
        "benchmark": name,
        "title": benchmark.title,
        "version": benchmark.version,
        "scoring": scoring,
        "metric": benchmark.metric,
        "model": model,
        "recipe": asdict(recipe) if is_dataclass(recipe) else dict(recipe or {}),  # type: ignore[call-overload]
        "stamp": stamp,
        "num_records": benchmark.num_records,
        **facts,
        **figures_of(benchmark, rows),
        "rows": [row_of(one) for one in rows],
    }


def write_results(stem: Path, results: Results) -> None:
    """Write ``<stem>.results.json`` and ``<stem>.results.md``; each is replaced whole or left as it was."""
    for ending in (".json", ".md"):
        write_result(stem.with_name(f"{stem.name}.results{ending}"), results)


def write_result(path: Path, results: Results) -> None:
    """Write a result to one file, in Markdown if its name ends in ``.md``."""
    write_whole(path, results_markdown(results) if path.suffix == ".md" else results_json(results))


def results_json(results: Results) -> str:
    """As JSON, one question a line."""
    head = json.dumps({**results, "rows": []}, indent=2, ensure_ascii=False, allow_nan=False)
    rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False, allow_nan=False)}" for row in results["rows"])
    return head.removesuffix("[]\n}") + (f"[\n{rows}\n  ]\n}}\n" if rows else "[]\n}\n")


def read_results(path: Path) -> Results:
    """A results file as :func:`write_results` wrote it.

    Raises:
        DataError: It is not there, or is no results file; says what it seems to be instead.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). {WRITTEN_BY}") from None
    try:
        results = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(_other_file(path, text) or f"{path}: is no JSON ({error}). {WRITTEN_BY}") from None
    if not isinstance(results, dict) or "benchmark" not in results:
        raise DataError(_other_file(path, text) or f"{path}: is JSON, but no result of ours. {WRITTEN_BY}")
    _check(results, path)
    return results


def _other_file(path: Path, text: str) -> str:
    """What to do with a file of predictions or of graded rows; empty where it is neither."""
    try:
        first = json.loads(text.lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        return ""
    if not isinstance(first, dict) or not {"id", "key"} & set(first):
        return ""
    if "output" in first:
        beside = path.name.replace(".predictions.jsonl", "") + ".results.json"
        return f"{path}: holds predictions, no result. Is {beside} beside it? `avatar test --regrade {path}` makes one"
    return f"{path}: holds single rows, no result. `avatar grade --summary FILE` writes one beside such rows"


def _check(results: Results, path: Path) -> None:
    kinds = {"benchmark": str, "title": str, "version": int, "scoring": str, "stamp": str, "rows": list}
    for field, kind in kinds.items():
        if not isinstance(results.get(field), kind):
            raise DataError(
                f"{path}: field {field!r} is missing or of the wrong type, wanted {kind.__name__}: it was made by "
                "another version, or by hand. Grade again with `avatar test --regrade`"
            )
    if results["scoring"] not in SCORINGS:
        raise DataError(f"{path}: scoring {results['scoring']!r} is none of {', '.join(SCORINGS)}")
    for number, row in enumerate(results["rows"], 1):
        graded_of_row(row, f"{path}: row {number}")
