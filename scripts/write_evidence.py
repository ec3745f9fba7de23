"""Writes docs/evidence.md and its figures from the finished cells in docs/evidence/*.json. `make evidence` runs it.

The words are those of docs/evidence/text.md; every table, ratio and count in it is put in from the runs:

    <!-- accuracy NAME --> <!-- targets NAME --> <!-- rates NAME --> <!-- ratios --> <!-- runs --> <!-- commands -->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evidence_figures import draw_curves, draw_ratios

from avatar.commands.sweep.kept import read_kept
from avatar.commands.sweep.record import Record
from avatar.commands.sweep.show import accuracy_grid, markdown_lines, ratio, target_grid
from avatar.commands.sweep.table import summarize

HOME = Path("docs/evidence")
REGIMES = {
    "many": "many prompts, once each",
    "pool": "a pool of 40 prompts",
    "batch": "eight prompts a step",
    "sparse": "success below 1 % at first",
}
NOT_REACHED = "\u2265"


def load(home: Path = HOME) -> dict[str, tuple[dict[str, Any], list[Record]]]:
    """(sweep, records) by name."""
    return {file.stem: read_kept(file) for file in sorted(home.glob("*.json"))}


def entries_of(name: str, kept: dict[str, Any], baseline: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Rows of a sweep's tables; with ``baseline`` against another row than its own."""
    sweep, records = kept[name]
    return summarize(sweep | ({"baseline": baseline} if baseline else {}), records)


def accuracy(name: str, kept: dict[str, Any]) -> str:
    """Accuracies of a sweep."""
    return "".join(markdown_lines(accuracy_grid(entries_of(name, kept))))


def targets(name: str, kept: dict[str, Any]) -> str:
    """Completions and seconds to the targets of a sweep."""
    return "".join(markdown_lines(target_grid(entries_of(name, kept))))


def rates(name: str, kept: dict[str, Any]) -> str:
    """Mean accuracy on the way at every learning rate, the best of each arm in bold."""
    sweep, _ = kept[name]
    entries = entries_of(name, kept)
    labels = next(axis["labels"] for axis in sweep["axes"] if axis["name"] == "lr")
    lines = [f"| arm | {' | '.join(labels)} |", f"|---|{'---|' * len(labels)}"]
    for arm in dict.fromkeys(entry["point"]["arm"] for entry in entries):
        found = {e["point"]["lr"]: e["mean_accuracy"].mean for e in entries if e["point"]["arm"] == arm}
        best = max(value for value in found.values() if value is not None)
        cells = [_bold(found.get(label), best) for label in labels]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bold(value: float | None, best: float) -> str:
    return "-" if value is None else f"**{value:.3f}**" if value == best else f"{value:.3f}"


def ratios(_: str, kept: dict[str, Any]) -> str:
    """Completions to .80 and .90: each arm of the method against both controls, in each regime."""
    lines = ["| regime | arm | to | completions | / grpo8 | / grpo4 | reached |", "|---|---|---|---:|---:|---:|---:|"]
    for regime, title in REGIMES.items():
        if regime not in kept:
            continue
        sides = {base: entries_of(regime, kept, {"arm": base}) for base in ("grpo8", "grpo4")}
        for target in map(str, kept[regime][0]["targets"]):
            for row8, row4 in zip(sides["grpo8"], sides["grpo4"], strict=True):
                to8, to4 = row8["targets"][target], row4["targets"][target]
                bound = NOT_REACHED if to8["reached"] < row8["runs"] else ""
                cells = [title, row8["point"]["arm"], target, f"{bound}{to8['completions'].mean:,.0f}"]
                cells += [ratio(to.get("completions_ratio")) or "1" for to in (to8, to4)]
                lines.append(f"| {' | '.join(cells)} | {to8['reached']} of {row8['runs']} |")
    return "\n".join(lines) + "\n"


def runs(_: str, kept: dict[str, Any]) -> str:
    """How many runs, how many new completions, and how long they took, by sweep."""
    lines = ["| sweep | runs | new completions | hours |", "|---|---:|---:|---:|"]
    total = [0, 0, 0.0]
    for name, (_sweep, records) in kept.items():
        done = [record for record in records if record.result]
        row = [len(done), sum(r.result["completions"] for r in done), sum(r.seconds for r in done) / 3600]  # type: ignore[index]
        total = [a + b for a, b in zip(total, row, strict=True)]
        lines.append(f"| {name} | {row[0]} | {row[1]:,} | {row[2]:.2f} |")
    lines.append(f"| all | {total[0]} | {total[1]:,} | {total[2]:.2f} |")
    return "\n".join(lines) + "\n"


def commands(_: str, kept: dict[str, Any]) -> str:
    """What makes each sweep."""
    lines = [f"avatar sweep --plan configs/sweeps/plans/{name}.yaml" for name in _order(kept)]
    return "\n".join(["```bash", "make starts", *lines, "make evidence", "```"])


def _order(kept: Sequence[str] | dict[str, Any]) -> list[str]:
    """Each sweep after the one that it takes the rates from."""
    return sorted(kept, key=lambda name: (not name.endswith("_tune"), name))


PARTS: dict[str, Callable[[str, dict[str, Any]], str]] = {
    "accuracy": accuracy,
    "targets": targets,
    "rates": rates,
    "ratios": ratios,
    "runs": runs,
    "commands": commands,
}


def page(home: Path = HOME) -> str:
    """``text.md`` with its marks filled in."""
    kept = load(home)

    def fill(match: re.Match[str]) -> str:
        if match[2] and match[2] not in kept:
            return "*Not run yet.*"
        return PARTS[match[1]](match[2] or "", kept).rstrip("\n")

    return re.sub(r"<!-- (\w+)(?: (\w+))? -->", fill, (home / "text.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    draw_curves(load(), REGIMES, HOME)
    draw_ratios(load(), REGIMES, HOME)
    Path("docs/evidence.md").write_text(page(), encoding="utf-8")
