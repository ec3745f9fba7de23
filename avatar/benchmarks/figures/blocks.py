"""What a result says, as small tables of texts: the screen and Markdown show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from avatar.benchmarks.base import BENCHMARKS

Results = Mapping[str, Any]
PAPER = ("Qwen2.5-Omni-7B", "+ GRPO", "+ AVATAR")
NONE = "-"
DAGGER = "†"
OTHER_GRADERS = (
    "Published figures were graded by others, from other frames and prompts: a difference to them may be the grader's."
)


@dataclass(frozen=True)
class Block:
    """A small table; the first column is of names, the others of figures.

    Attributes:
        columns: What stands over each.
        rows: Texts, one a column.
        note: A line below it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def percent(value: float | None, sign: str = "") -> str:
    """``52.1`` for 0.521; with ``sign="+"`` as a difference."""
    return NONE if value is None else f"{100 * value:{sign}.1f}"


def span(interval: Sequence[float] | None, sign: str = "") -> str:
    """``[49.3, 54.9]``."""
    return NONE if interval is None else f"[{percent(interval[0], sign)}, {percent(interval[1], sign)}]"


def headline(results: Results) -> str:
    """``OmniBench: accuracy 52.1 % [49.3, 54.9] (scoring avatar, recipe ab12cd34)``."""
    how = f"(scoring {results['scoring']}, recipe {results.get('stamp') or 'not known'})"
    if results.get("accuracy") is None:
        return f"{results['title']}: no {results['metric']}, nothing was scored {how}"
    interval = f" {span(results['interval'])}" if results.get("interval") else ""
    return f"{results['title']}: {results['metric']} {percent(results['accuracy'])} %{interval} {how}"


def asked(results: Results) -> str:
    """How the questions were asked: all settings of the recipe, and what was swapped or left out."""
    settings = {**(results.get("recipe") or {}), "swap": results.get("swap"), "limit": results.get("limit")}
    return ", ".join(f"{name}={value}" for name, value in settings.items() if value is not None)


def result_blocks(results: Results) -> list[Block]:
    """By group, what was scored, further figures, and what others published."""
    figures = tuple((name, f"{value:.6g}") for name, value in results["figures"].items())
    return [
        *(_group_block(title, labels) for title, labels in results["groups"].items()),
        Block(("questions", "n"), _count_rows(results)),
        *([Block(("further figures", ""), figures)] if figures else []),
        *_other_figures(results),
    ]


def _group_block(title: str, labels: Mapping[str, Mapping[str, Any]]) -> Block:
    rows = ((label, percent(e["score"]), span(e["interval"]), f"{e['n']:,}") for label, e in labels.items())
    return Block((title, "%", "95 % interval", "n"), tuple(rows))


def _count_rows(results: Results) -> tuple[tuple[str, ...], ...]:
    total, records = results["num_questions"], results["num_records"]
    rows = [("asked, of all that the benchmark has", f"{total:,} of {records:,}")] if records not in (0, total) else []
    rows += [
        ("scored", f"{results['num_scored']:,} of {total:,}"),
        ("replies that cannot be read (unparsed)", _share(results.get("unparsed_share"))),
        ("media missing or unreadable, scored 0", f"{results['num_missing']:,}"),
        ("not judged: only a judge can tell", f"{results['num_not_judged']:,}"),
        ("left out by the rule (uncounted)", f"{results['num_uncounted']:,}"),
    ]
    if results.get("truncated_share") is not None:
        rows.append(("replies cut off by the length limit", _share(results["truncated_share"])))
    if judge := results.get("judge"):
        rows.append(("shown to a judge, without a verdict", f"{judge['num_asked']:,}, {judge['num_failed']:,}"))
    return tuple(rows + [(note, f"{count:,}") for note, count in (results.get("notes") or {}).items()])


def _share(value: float | None) -> str:
    return NONE if value is None else f"{percent(value)} %"


def _other_figures(results: Results) -> list[Block]:
    """This result, the same replies by other rules, and what was published."""
    rows = [(f"this result, scoring {results['scoring']}", percent(results.get("accuracy")))]
    for scoring, other in (results.get("other_scorings") or {}).items():
        rows.append((f"the same replies, scoring {scoring}", percent(other["accuracy"])))
    own, name = len(rows), results["benchmark"]
    if name in BENCHMARKS:
        rows += [(f"AVATAR paper: {of}", f"{value:.1f}") for of, value in BENCHMARKS[name].published.items()]
        rows += [(of, f"{value:.1f}") for of, value in BENCHMARKS[name].elsewhere.items()]
    if len(rows) == 1:
        return []
    return [Block(("beside it", "%"), tuple(rows), OTHER_GRADERS if len(rows) > own else "")]


def overview_block(results: Sequence[Results], absent: Sequence[str] = ()) -> Block:
    """One line a benchmark, with the paper's figures beside it; the absent ones below."""
    rows = [_overview_row(one) for one in results] + [_absent_row(name) for name in absent]
    scorings = ", ".join(sorted({one["scoring"] for one in results})) or NONE
    columns = ("benchmark", "%", "interval", "n", "unparsed", "paper", "+GRPO", "+AVATAR")
    note = f"Scoring {scorings}; all in %, intervals of 95 %; paper: {PAPER[0]}. {OTHER_GRADERS}"
    return Block(columns, tuple(rows), note)


def _overview_row(results: Results) -> tuple[str, ...]:
    scored, records = results["num_scored"], results["num_records"] or results["num_questions"]
    return (
        results["title"],
        percent(results.get("accuracy")),
        span(results.get("interval")),
        str(scored) if scored == records else f"{scored}/{records}",
        percent(results.get("unparsed_share")),
        *_paper_row(results["benchmark"]),
    )


def _absent_row(name: str) -> tuple[str, ...]:
    title = BENCHMARKS[name].title if name in BENCHMARKS else name
    return (title, "absent", NONE, NONE, NONE, *_paper_row(name))


def _paper_row(name: str) -> tuple[str, ...]:
    published = BENCHMARKS[name].published if name in BENCHMARKS else {}
    return tuple(f"{published[of]:.1f}" if of in published else NONE for of in PAPER)


def compare_blocks(comparison: Results) -> list[Block]:
    """All questions, then by group: A, B, their difference."""
    blocks = [_compare_block("", {"all questions": comparison})]
    blocks += [_compare_block(title, labels) for title, labels in comparison["groups"].items()]
    note = f"{DAGGER} not significant: the 95 % interval of the difference holds 0."
    return [*blocks[:-1], replace(blocks[-1], note=note)]


def _compare_block(title: str, labels: Mapping[str, Mapping[str, Any]]) -> Block:
    rows = (_compare_row(label, entry) for label, entry in labels.items())
    return Block((title, "A %", "B %", "B - A", "", "95 % interval", "n"), tuple(rows))


def _compare_row(label: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        label,
        percent(entry["a"]),
        percent(entry["b"]),
        percent(entry["difference"], "+"),
        DAGGER if entry["significant"] is False else "",
        span(entry["interval"], "+"),
        f"{entry['n']:,}",
    )
