"""``avatar rewards score``: a reward mix on saved completions, without a model."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from avatar.commands.bar import LateBar
from avatar.commands.rewards.attack import check_json
from avatar.commands.rewards.config import read_mix
from avatar.commands.rewards.figures import differences, disagreements, distribution, worst_places, zero_spread
from avatar.commands.rewards.prompts import Prompts
from avatar.commands.rewards.rows import Bad, Lines, read_lines
from avatar.commands.rewards.score_tables import print_figures
from avatar.commands.rewards.scoring import ACCURACY, TOTAL, Scores, score_lines, write_scored
from avatar.errors import ConfigError
from avatar.rewards import Reward, leaves_of

MOST_BAD = 20  # lines that are named on the screen


def score(
    completions: str,
    config: str | None = None,
    data: str | None = None,
    out: str | None = None,
    num: int = 5,
    json: str | None = None,
) -> int:
    """Run a reward mix on saved completions; exit 1 if a line cannot be scored.

    Args:
        completions: The ``completions.jsonl`` of a run, or lines of ``prompt``, ``gold``, ``completion``,
            ``problem_type`` and ``options``; ``finished`` is taken as true where it is left out.
        config: YAML with ``rewards``, or a training config. Without it: all registered rewards that need no server.
        data: Shard folder that the completions were written for: needed for a judge, which looks at the clips, and
            where the lines do not say their problem type.
        out: JSON lines to write all rows to, with the new rewards in the place of the old.
        num: How many of each kind of worst case to show.
        json: File to write all figures to.
    """
    path = Path(completions)
    _check(path, out, num, json)
    rewards = read_mix(config)
    prompts = Prompts(data, [leaf for _, leaf in leaves_of(rewards)])
    try:
        size = path.stat().st_size if path.is_file() else 1
        with LateBar("reading", size) as bar:
            lines = read_lines(path, data is None, bar.advance)
        with LateBar("scoring", len(lines)) as bar:
            scores = score_lines(lines, rewards, prompts, bar.advance)
    finally:
        prompts.close()
    if out:
        write_scored(Path(out), lines, scores)
    figures = make_figures(lines, scores, rewards, num)
    print_figures(Console(), str(path), figures)
    if json:
        Path(json).write_text(json_.dumps(figures, indent=2) + "\n")
    _name(lines.bad)
    return 1 if lines.bad else 0


def make_figures(lines: Lines, scores: Scores, rewards: Sequence[Reward], num: int) -> dict[str, Any]:
    """All that is shown, as ``--json`` writes it."""
    done = scores.scored
    flat, groups = zero_spread(scores.total[done], scores.group[done])
    changes = differences(scores)
    worst = {name: _distinct(lines, scores, places, num) for name, places in worst_places(scores).items()}
    return {
        "completions": int(done.sum()),
        "groups": groups,
        "zero_spread_groups": flat,
        "mix": " + ".join(f"{weight:g} {leaf.name}" for weight, leaf in leaves_of(rewards)),
        "rewards": {name: distribution(values) for name, values in scores.columns().items()},
        "pairs": disagreements(scores),
        "stored": [{**change, "case": _case(lines, scores, [change.pop("place")])[0]} for change in changes],
        "worst": worst,
        "bad_lines": [{"line": bad.line, "reason": bad.reason} for bad in sorted(lines.bad, key=lambda b: b.line)],
    }


def _distinct(lines: Lines, scores: Scores, places: Sequence[int], num: int) -> list[dict[str, Any]]:
    """The first ``num`` cases that differ in prompt or text, among the first twenty times as many."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for case in _case(lines, scores, places[: 20 * num]):
        found.setdefault((case["prompt"], case["completion"]), case)
    return list(found.values())[:num]


def _case(lines: Lines, scores: Scores, places: Sequence[int]) -> list[dict[str, Any]]:
    columns = {**scores.columns(), **({} if ACCURACY in scores.parts else {ACCURACY: scores.right})}
    return [
        {
            "line": lines.numbers[place],
            "prompt": row["prompt"],
            "step": row.get("step"),
            "gold": row["gold"],
            "completion": row["completion"],
            TOTAL: _number(scores.total[place]),
            "parts": {name: _number(values[place]) for name, values in columns.items() if name != TOTAL},
        }
        for place, row in zip(places, lines.rows(list(places)), strict=True)
    ]


def _number(value: float) -> float | None:
    return None if value != value else round(float(value), 6)


def _check(path: Path, out: str | None, num: int, json: str | None) -> None:
    if num < 0:
        raise ConfigError(f"--num must be 0 or more, got {num}")
    check_json(json)
    if out and not Path(out).parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {Path(out).parent}")
    if out and Path(out).resolve() == path.resolve():
        raise ConfigError(f"--out {out} is the file that is read; give another name")


def _name(bad: Sequence[Bad]) -> None:
    """Every line that could not be scored, on the error stream; the first of them where they are many."""
    if not bad:
        return
    console = Console(stderr=True)
    console.print(Text(f"{len(bad)} lines cannot be scored:", "bold red"))
    for one in sorted(bad, key=lambda b: b.line)[:MOST_BAD]:
        console.print(Text(f"  line {one.line}: {one.reason}"), soft_wrap=True)
    if len(bad) > MOST_BAD:
        console.print(Text(f"  ... and {len(bad) - MOST_BAD} more; --json FILE names them all"))
