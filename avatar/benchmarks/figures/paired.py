"""Whether one result is better than another: the same clips drawn for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avatar.benchmarks.base import Benchmark, find_benchmark
from avatar.benchmarks.figures.blocks import percent, span
from avatar.benchmarks.figures.bootstrap import NUM_RESAMPLES, middle, redraw
from avatar.benchmarks.figures.rows import graded_of_row
from avatar.benchmarks.figures.summary import labels_of, titles_of
from avatar.benchmarks.grades import Graded
from avatar.errors import ConfigError

Results = Mapping[str, Any]
Pair = tuple[Graded, Graded]


def compare(a: Results, b: Results, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> dict[str, Any]:
    r"""The difference B - A over the questions that both have, with a paired bootstrap, as plain JSON values.

    Each draw takes the same clips for both (see :func:`avatar.benchmarks.figures.bootstrap.redraw`) and computes the
    figure of the benchmark itself, so that macro figures come out right: :math:`d^* = f(B^*) - f(A^*)`. The interval is
    the middle 95 % of :math:`d^*`, and

    .. math:: p = \min\left(1, 2 \min\left(\frac{1 + \#\{d^* \le 0\}}{1 + R}, \frac{1 + \#\{d^* \ge 0\}}{1 + R}
        \right)\right).

    ``significant`` says whether the interval leaves 0 out. A reply that the rule leaves out of one result stays in the
    other; a question that is not judged in one of them is left out of both. With fewer than two clips there is a
    difference and none of the three. Intervals by group are each for itself: of twenty labels that do not differ, one
    is expected to look as if it did.

    Args:
        a: A result, as :func:`avatar.benchmarks.figures.results.read_results` gives it.
        b: The one it is compared with.
        num_resamples: Draws of the bootstrap, R.
        seed: Of the bootstrap.

    Raises:
        ConfigError: They are not of the same benchmark, version and grading, have no question in common, or were graded
            by different gold answers.
    """
    _check(a, b)
    benchmark = find_benchmark(a["benchmark"])()
    pairs, warnings = _pairs(a, b)
    by_label: dict[str, dict[str, list[Pair]]] = {}
    for title in titles_of(benchmark, [first for first, _ in pairs]):
        labels = by_label.setdefault(title, {})
        for pair in pairs:
            for label in labels_of(pair[0], title):
                labels.setdefault(label, []).append(pair)
    return {
        **{name: a[name] for name in ("benchmark", "title", "version", "scoring")},
        "metric": benchmark.metric,
        "models": [a.get("model", ""), b.get("model", "")],
        "stamps": [a["stamp"], b["stamp"]],
        "warnings": [*warnings, *_recipe_warning(a, b)],
        **_difference(benchmark, pairs, num_resamples, seed),
        "groups": {
            title: {
                label: _difference(benchmark, labels[label], num_resamples, seed)
                for label in sorted(labels, key=lambda label: (-len(labels[label]), label))
            }
            for title, labels in by_label.items()
            if labels
        },
    }


def compare_lines(comparison: Results) -> list[str]:
    """The headline, then how the two were made, then what to beware of."""
    how = f"(scoring {comparison['scoring']})"
    first = (
        f"{comparison['title']}: {comparison['metric']} {percent(comparison['a'])} % and {percent(comparison['b'])} %"
    )
    if comparison["p"] is not None:
        sign = f"{percent(comparison['difference'], '+')} {span(comparison['interval'], '+')}"
        first += f", B - A {sign}, p = {comparison['p']:.3g}"
    lines = [f"{first} {how}"]
    for name, model, stamp in zip("AB", comparison["models"], comparison["stamps"], strict=True):
        lines.append(f"{name}: {model or 'model not known'} (recipe {stamp or 'not known'})")
    return lines + [f"note: {warning}" for warning in comparison["warnings"]]


def _check(a: Results, b: Results) -> None:
    if a["benchmark"] != b["benchmark"]:
        raise ConfigError(
            f"these cannot be compared: A is of {a['benchmark']} and B of {b['benchmark']}. "
            "Give two results of one benchmark"
        )
    for name in ("version", "scoring"):
        if a[name] != b[name]:
            raise ConfigError(
                f"these cannot be compared: {name} is {a[name]!r} in A and {b[name]!r} in B. "
                "Grade one of them again, with `avatar test --regrade` and --scoring"
            )


def _pairs(a: Results, b: Results) -> tuple[list[Pair], list[str]]:
    """Both rows of each question that is in both and needs no judge in either; and what had to be left out."""
    rows_a, rows_b = _by_id(a, "A"), _by_id(b, "B")
    common = [key for key in rows_a if key in rows_b]
    if not common:
        raise ConfigError(
            f"these cannot be compared: A has {_questions(len(rows_a))} and B {len(rows_b)}, and none is in both"
        )
    other = [key for key in common if rows_a[key].get("gold_hash") != rows_b[key].get("gold_hash")]
    if other:
        raise ConfigError(
            f"these cannot be compared: options or gold answer of {_questions(len(other))} differ, the first is "
            f"{other[0]!r}. They were made from different annotation files"
        )
    pairs = [(graded_of_row(rows_a[key], f"A: {key}"), graded_of_row(rows_b[key], f"B: {key}")) for key in common]
    judged = [pair for pair in pairs if not any(g.grade.counted and g.grade.score is None for g in pair)]
    left_out = {
        "only in A": len(rows_a) - len(common),
        "only in B": len(rows_b) - len(common),
        "not judged in one of them": len(pairs) - len(judged),
    }
    return judged, [f"{_questions(n)} {_are(n)} {what} and left out" for what, n in left_out.items() if n]


def _by_id(results: Results, name: str) -> dict[str, Mapping[str, Any]]:
    rows = {row["id"]: row for row in results["rows"]}
    if len(rows) < len(results["rows"]):
        raise ConfigError(f"{name} has {_questions(len(results['rows']) - len(rows))} twice: ids must differ")
    return rows


def _questions(number: int) -> str:
    return f"{number:,} question{'s' * (number != 1)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _recipe_warning(a: Results, b: Results) -> list[str]:
    """What was asked differently; stamps differ by the weights as well, and two models are what is compared."""
    ours, theirs = ({**(one.get("recipe") or {}), "swap": one.get("swap")} for one in (a, b))
    other = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    if not other:
        return []
    which = ", ".join(f"{name} {ours.get(name)} and {theirs.get(name)}" for name in other)
    return [f"they were asked differently: {which}; the difference is that of model and recipe together"]


def _difference(benchmark: Benchmark, pairs: Sequence[Pair], num_resamples: int, seed: int) -> dict[str, Any]:
    """A, B, B - A, interval, p, significant, n."""
    clips = [first.question.clip for first, _ in pairs]
    sides = [_Side(benchmark, [pair[side] for pair in pairs]) for side in (0, 1)]
    ones = torch.ones(len(pairs), dtype=torch.float64)
    a, b = (_plain(side.overall(ones)) if pairs else None for side in sides)
    entry = {"a": a, "b": b, "difference": None, "interval": None, "p": None, "significant": None, "n": len(pairs)}
    if a is None or b is None:
        return entry
    entry["difference"] = round(b - a, 6)
    if len(set(clips)) < 2:
        return entry
    draws = [sides[1].overall(w) - sides[0].overall(w) for w in redraw(clips, num_resamples, seed)]
    differences = torch.cat(draws)
    interval = middle(differences)
    if interval is None:
        return entry
    ends = [round(end, 6) for end in interval]
    return {**entry, "interval": ends, "p": p_value(differences), "significant": ends[0] > 0 or ends[1] < 0}


def p_value(differences: Tensor) -> float:
    """Two-sided p of a bootstrap of differences, see :func:`compare`; what is not a number is left out."""
    differences = differences[differences.isfinite()]
    tails = [1 + int((differences <= 0).sum()), 1 + int((differences >= 0).sum())]
    return round(min(1.0, 2 * min(tails) / (1 + len(differences))), 6)


class _Side:
    """One result's replies that are scored, with the figure they come to under the weights of all pairs."""

    def __init__(self, benchmark: Benchmark, graded: Sequence[Graded]) -> None:
        self.benchmark = benchmark
        places = [place for place, one in enumerate(graded) if one.grade.scored]
        self.scored = [graded[place] for place in places]
        self.places = torch.tensor(places, dtype=torch.long)

    def overall(self, weights: Tensor) -> Tensor:
        """[...] from [..., n]."""
        if not self.scored:
            return weights.new_full(weights.shape[:-1], torch.nan)
        return self.benchmark.overall(self.scored, weights[..., self.places])


def _plain(value: Tensor) -> float | None:
    number = value.item()
    return None if number != number else round(number, 6)
