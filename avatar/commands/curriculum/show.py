"""The curriculum's table and picture: accuracy of every test after every stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from avatar.commands.curriculum.plan import Planned
from avatar.commands.curriculum.recipe import Recipe
from avatar.commands.curriculum.state import Record
from avatar.modules.logs import replace_text

NOTE = (
    "Greedy answers of the model after the last step of each stage; in brackets the difference to the row above. "
    "Seconds are of training, validations included."
)


def summarize(recipe: Recipe, stages: Sequence[Planned], records: Mapping[str, Record | None]) -> dict[str, Any]:
    """What ``curriculum.json`` holds: of each stage what it started from, what it took, and its tests."""
    rows: list[dict[str, Any]] = []
    for stage in stages:
        if (record := records.get(stage.name)) is None or not record.finished:
            continue
        above = rows[-1]["tests"] if rows else {}
        tests = {
            name: {
                "accuracy": result["accuracy"],
                "difference": round(result["accuracy"] - above[name]["accuracy"], 6) if name in above else None,
                "num_scored": result["num_scored"],
                "num_skipped": result["num_skipped"],
                "unparsed_share": result["unparsed_share"],
                "by_kind": result["by_kind"],
                "seconds": result["seconds"],
            }
            for name, result in record.tests.items()
            if "accuracy" in result
        }
        row = {"name": stage.name, "title": stage.title, "config": stage.config, "started_from": stage.start}
        took = {"steps": record.steps, "completions": record.completions, "seconds": round(record.seconds, 1)}
        rows.append({**row, **took, "tests": tests})
    names = [test.label for test in recipe.tests or []]
    seconds = sum(row["seconds"] + sum(test["seconds"] for test in row["tests"].values()) for row in rows)
    whole = len(rows) == len(stages) and all(name in row["tests"] for row in rows for name in names)
    return {"finished": whole, "tests": names, "stages": rows, "seconds": round(seconds, 1)}


def cells(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table, as text."""
    tests, rows = summary["tests"], summary["stages"]
    header = ["stage", *(_test_title(name, rows) for name in tests), "completions", "seconds"]
    body = []
    for row in rows:
        completions = "-" if row["completions"] is None else f"{row['completions']:,}"
        shown = [_accuracy(row["tests"].get(name)) for name in tests]
        body.append([row["title"], *shown, completions, f"{row['seconds']:,.0f}"])
    return header, body


def table_of(summary: Mapping[str, Any]) -> Table:
    """For the screen."""
    header, body = cells(summary)
    table = Table(title="Accuracy after each stage")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in body:
        table.add_row(*(text.replace("[", r"\[") for text in row))
    table.add_section()
    total = f"{summary['seconds']:,.0f}"
    table.add_row("in all", *("" for _ in header[2:]), total, style="bold")
    return table


def markdown_of(summary: Mapping[str, Any]) -> str:
    """For people, to keep."""
    header, body = cells(summary)
    lines = [header, ["---", *("---:" for _ in header[1:])], *body]
    text = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    more = "" if summary["finished"] else " Not finished yet."
    return f"{text}\n\n{NOTE} In all {summary['seconds']:,.0f} s, tests included.{more}\n"


def write(summary: Mapping[str, Any], out: Path) -> None:
    """``curriculum.json``, ``curriculum.md`` and, where there is a test, ``curriculum.png``."""
    replace_text(out / "curriculum.json", json.dumps(summary, indent=2) + "\n")
    replace_text(out / "curriculum.md", markdown_of(summary))
    if any(row["tests"] for row in summary["stages"]):
        plot(summary, out / "curriculum.png")


def plot(summary: Mapping[str, Any], path: Path) -> None:
    """Accuracy of each test after each stage; bars are one standard error of the mean over questions.

    Args:
        summary: See :func:`summarize`; a stage with a test at least.
        path: PNG to write.
    """
    import matplotlib  # takes a second, and a plan needs none

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = summary["stages"]
    looks = [("0.0", "-", "o"), ("0.45", "--", "s"), ("0.0", ":", "^"), ("0.45", "-.", "D"), ("0.7", "-", "v")]
    figure, axes = plt.subplots(figsize=(max(4.5, 1.6 * len(rows) + 1.5), 3.8), layout="constrained")
    for i, name in enumerate(summary["tests"]):
        points = [(at, row["tests"][name]) for at, row in enumerate(rows) if name in row["tests"]]
        color, line, marker = looks[i % len(looks)]
        axes.errorbar(
            [at + 0.03 * (i - (len(summary["tests"]) - 1) / 2) for at, _ in points],  # or bars would hide one another
            [test["accuracy"] for _, test in points],
            [_error(test) for _, test in points],
            color=color, linestyle=line, marker=marker, linewidth=1.8, markersize=6, capsize=3, label=name,
        )  # fmt: skip
    axes.set(ylabel="accuracy", ylim=(-0.02, 1.03), xlim=(-0.3, len(rows) - 0.7))
    axes.set_xticks(range(len(rows)), [row["title"] for row in rows])
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=min(3, len(summary["tests"])), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _error(test: Mapping[str, Any]) -> float:
    """sqrt(p (1 - p) / n): the most that it can be for a mean of scores from 0 to 1."""
    p, n = test["accuracy"], test["num_scored"]
    return float((p * (1 - p) / n) ** 0.5) if n else 0.0


def _test_title(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    sizes = sorted({row["tests"][name]["num_scored"] for row in rows if name in row["tests"]})
    return f"{name} (n = {' / '.join(f'{size:,}' for size in sizes)})" if sizes else name


def _accuracy(test: Mapping[str, Any] | None) -> str:
    if test is None:
        return "-"
    change = "" if test["difference"] is None else f" ({test['difference']:+.3f})"
    return f"{test['accuracy']:.3f}{change}"
