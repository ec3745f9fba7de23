"""What graded replies come to: the headline figure with its interval, the same by group, and what was not scored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from avatar.benchmarks.base import Benchmark
from avatar.benchmarks.figures.bootstrap import NUM_RESAMPLES, middle, redraw
from avatar.benchmarks.grades import Graded, Scoring


def summarize(
    benchmark: Benchmark,
    graded: Sequence[Graded],
    scoring: Scoring,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of a result, as plain JSON values; the order of ``graded`` makes no difference.

    ``accuracy`` is the benchmark's headline figure, 0 to 1, over the replies that are scored: those that its rule
    counts and that need no judge any more. A question that could not be asked (``missing``) is scored, with 0.
    ``interval`` is the 95 % percentile bootstrap over clips, :func:`avatar.benchmarks.figures.bootstrap.redraw`; None
    for fewer than two clips. Replies that all earn the same have an interval of no width: it says nothing of clips
    that are of another kind than all that were seen.

    ``groups`` has score, interval and number of scored replies by title and label, for the titles of
    :func:`titles_of`; the largest label first, equal ones by name. A question with several labels counts for
    each. ``accuracy/<label>`` repeats the scores of the first title. The shares are of replies, so without what is
    missing.

    Without a scored reply there is no ``accuracy`` and no ``interval``; without any reply there are no shares.

    Args:
        benchmark: Whose replies they are.
        graded: One for each question.
        scoring: By which rule.
        num_resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
    """
    return figures_of(benchmark, settled(benchmark, graded, scoring), num_resamples, seed)


def settled(benchmark: Benchmark, graded: Sequence[Graded], scoring: Scoring) -> list[Graded]:
    """By key, numbers in keys by their value; with what depends on more than one reply."""
    return benchmark.settle(sorted(graded, key=lambda g: _natural(g.question.key)), scoring)


def figures_of(
    benchmark: Benchmark, graded: Sequence[Graded], num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """As :func:`summarize`, for replies that are :func:`settled`."""
    scored = [g for g in graded if g.grade.scored]
    score, interval = figure(benchmark, scored, num_resamples, seed)
    titles = titles_of(benchmark, graded)
    by_label = {title: _by_label(scored, title) for title in titles}
    groups = {
        title: {label: _entry(benchmark, members, num_resamples, seed) for label, members in labels.items()}
        for title, labels in by_label.items()
        if labels
    }
    first = groups.get(titles[0], {}) if titles else {}
    return {
        **({} if score is None else {"accuracy": score, "interval": interval}),
        **{f"accuracy/{label}": entry["score"] for label, entry in first.items()},
        "groups": groups,
        "figures": {name: round(value, 6) for name, value in benchmark.figures(scored).items()} if scored else {},
        **_counts(graded),
        **_shares(graded),
    }


def figure(
    benchmark: Benchmark, scored: Sequence[Graded], num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float | None, list[float] | None]:
    """The headline figure of scored replies and its interval; None where there is none."""
    if not scored:
        return None, None
    score = benchmark.overall(scored, torch.ones(len(scored), dtype=torch.float64)).item()
    if score != score:
        return None, None
    clips = [g.question.clip for g in scored]
    if len(set(clips)) < 2:
        return round(score, 6), None
    draws = [benchmark.overall(scored, weights) for weights in redraw(clips, num_resamples, seed)]
    found = middle(torch.cat(draws))
    return round(score, 6), None if found is None else [round(end, 6) for end in found]


def titles_of(benchmark: Benchmark, graded: Sequence[Graded]) -> list[str]:
    """What is reported by: what the benchmark says, then what else the questions have, by name."""
    others = {title for one in graded for title in one.question.groups} - set(benchmark.groups)
    return [*benchmark.groups, *sorted(others)]


def labels_of(graded: Graded, title: str) -> tuple[str, ...]:
    """The labels of a question under one title; none where the file gives none."""
    label = graded.question.groups.get(title, ())
    labels = (label,) if isinstance(label, str) else label
    return tuple(dict.fromkeys(label for label in labels if label))


def _by_label(scored: Sequence[Graded], title: str) -> dict[str, list[Graded]]:
    """The largest first, equal ones by name."""
    found: dict[str, list[Graded]] = {}
    for one in scored:
        for label in labels_of(one, title):
            found.setdefault(label, []).append(one)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), _natural(item[0]))))


def _entry(benchmark: Benchmark, members: Sequence[Graded], num_resamples: int, seed: int) -> dict[str, Any]:
    score, interval = figure(benchmark, members, num_resamples, seed)
    return {"score": score, "interval": interval, "n": len(members)}


def _counts(graded: Sequence[Graded]) -> dict[str, int]:
    """Every question is scored, uncounted or not judged; the missing ones are among the scored."""
    return {
        "num_questions": len(graded),
        "num_scored": sum(g.grade.scored for g in graded),
        "num_uncounted": sum(not g.grade.counted for g in graded),
        "num_not_judged": sum(g.grade.counted and g.grade.score is None for g in graded),
        "num_missing": sum(g.grade.how == "missing" for g in graded),
    }


def _shares(graded: Sequence[Graded]) -> dict[str, float]:
    ways: Counter[str] = Counter(g.grade.how for g in graded if g.grade.how != "missing")
    total = sum(ways.values())
    known = ("strict", "lenient", "unparsed")
    return {f"{way}_share": round(ways[way] / total, 6) for way in known} if total else {}


def _natural(name: str) -> list[tuple[str, int, str]]:
    """Sorts ``q9`` before ``q10``."""
    return [(text, int(digits or 0), digits) for text, digits in re.findall(r"(\D*)([0-9]*)", name)]
