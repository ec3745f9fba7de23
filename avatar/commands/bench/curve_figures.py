"""What learning curves come to: accuracy on the way, and how far the two sides lie apart over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from avatar.benchmarks.figures.bootstrap import middle, redraw

TARGET = 0.8  # accuracy
NUM_RESAMPLES = 10_000
Run = Mapping[str, Any]


def summarize_runs(runs: Sequence[Run], completions: int, every: int) -> dict[str, Any]:
    """Figures of each side, and of the difference ours - TRL's.

    Args:
        runs: As :meth:`Watch.figures` gives them, of both sides and the same seeds.
        completions: Of a whole run.
        every: Between two exams.
    """
    marks = marks_of(completions, every)
    ours, peer = ([run for run in runs if run["side"] == side] for side in ("avatar", "trl"))
    return {
        "target": TARGET,
        "marks": marks,
        "avatar": _of_side(ours, marks),
        "trl": _of_side(peer, marks),
        "difference": {
            **{str(mark): difference(_at(ours, mark), _at(peer, mark)) for mark in marks},
            "whole_curve": difference(list(map(whole_curve, ours)), list(map(whole_curve, peer))),
        },
    }


def marks_of(completions: int, every: int) -> list[int]:
    """A quarter, half and all of ``completions``, moved up to where an exam is."""
    return sorted({-(-completions // (part * every)) * every for part in (4, 2, 1)})


def _of_side(runs: Sequence[Run], marks: Sequence[int]) -> dict[str, Any]:
    return {
        "accuracy": {str(mark): _at(runs, mark) for mark in marks},
        "whole_curve": [whole_curve(run) for run in runs],
        "to_target": [completions_to(run, TARGET) for run in runs],
        "step_s": statistics.median(run["step_s"] for run in runs),
        "step_cpu_s": statistics.median(run["step_cpu_s"] for run in runs),
    }


def _at(runs: Sequence[Run], mark: int) -> list[float]:
    """Accuracy of each run after ``mark`` completions."""
    return [dict(map(tuple, run["points"]))[mark] for run in runs]


def whole_curve(run: Run) -> float:
    """Mean accuracy over all exams but that of the start: how high and how early a curve rises."""
    return statistics.mean(accuracy for at, accuracy in run["points"] if at)


def completions_to(run: Run, target: float) -> int | None:
    """Completions at the first exam of at least ``target``; None where there is none."""
    return next((at for at, accuracy in run["points"] if accuracy >= target), None)


def difference(ours: Sequence[float], peer: Sequence[float], num_resamples: int = NUM_RESAMPLES) -> dict[str, Any]:
    """Mean of ours - TRL's over the seeds, and the middle 95 % of it when the seeds are drawn again with replacement.

    Runs of one seed see the same prompts in the same order, so they are drawn as a pair. With one seed there is no
    interval; with a few it is too narrow, by a fifth with three.

    Args:
        ours: [seeds].
        peer: [seeds], in the same order.
        num_resamples: How often they are drawn.
    """
    gaps = torch.tensor([a - b for a, b in zip(ours, peer, strict=True)], dtype=torch.float64)
    if len(gaps) < 2:
        return {"mean": float(gaps.mean()), "interval": None}
    draws = [weights @ gaps / len(gaps) for weights in redraw([str(i) for i in range(len(gaps))], num_resamples)]
    return {"mean": float(gaps.mean()), "interval": middle(torch.cat(draws))}
