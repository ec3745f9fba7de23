"""From replies to a result: by one rule, with a judge for what it leaves open, and by the other rules beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from avatar.benchmarks.base import Benchmark
from avatar.benchmarks.exams.judging import Judged, judge_open
from avatar.benchmarks.exams.replies import Row, grade_row, outputs_of
from avatar.benchmarks.figures.results import make_results
from avatar.benchmarks.figures.summary import settled
from avatar.benchmarks.grades import Graded, Scoring
from avatar.chat import ChatClient


def grade_all(
    benchmark: Benchmark,
    name: str,
    rows: Sequence[Row],
    scoring: Scoring,
    judge: ChatClient | None,
    facts: dict[str, Any],
) -> tuple[dict[str, Any], Judged]:
    """Results of replies by one rule, and what the same replies come to by the benchmark's other rules."""
    judged = judge_open(benchmark, [grade_row(benchmark, r, scoring) for r in rows], outputs_of(rows), scoring, judge)
    others = {}
    for other in benchmark.scorings:
        if other != scoring:
            graded = [grade_row(benchmark, row, other) for row in rows]
            others[other] = headline(benchmark, graded, other)
    told = {"num_asked": judged.num_asked, "num_failed": len(judged.failures)} if judge else None
    notes = note_counts(rows)
    shares = writing(rows)
    results = make_results(
        name, benchmark, judged.graded, scoring, **facts, **shares, notes=notes, judge=told, other_scorings=others
    )
    return results, judged


def headline(benchmark: Benchmark, graded: Sequence[Graded], scoring: Scoring) -> dict[str, Any]:
    """The overall figure alone, and how many replies it is of."""
    scored = [one for one in settled(benchmark, graded, scoring) if one.grade.scored]
    overall = benchmark.overall(scored, torch.ones(len(scored), dtype=torch.float64)) if scored else None
    return {"accuracy": None if overall is None else round(float(overall), 6), "num_scored": len(scored)}


def writing(rows: Sequence[Row]) -> dict[str, Any]:
    """How the replies were written: the share that the length limit cut off, and their mean length in tokens."""
    written = [row for row in rows if "length" in row]
    if not written:
        return {}
    truncated = sum(not row["finished"] for row in written) / len(written)
    length = sum(row["length"] for row in written) / len(written)
    return {"truncated_share": round(truncated, 6), "completion_length": round(length, 6)}


def note_counts(rows: Sequence[Row]) -> dict[str, int]:
    """On how many questions something of a file was left out, by what."""
    found: dict[str, int] = {}
    for row in rows:
        for note in dict.fromkeys(row.get("notes", [])):
            found[note] = found.get(note, 0) + 1
    return found


def results_stem(stem: Path, scoring: Scoring) -> Path:
    """Where the results of a rule go: those of ours need no name."""
    return stem if scoring == "avatar" else stem.with_name(f"{stem.name}-{scoring}")
