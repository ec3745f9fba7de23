"""A file of saved completions scored by a mix, group by group."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.commands.rewards.prompts import Prompts
from avatar.commands.rewards.rows import Bad, Lines, completion_of
from avatar.errors import DataError
from avatar.rewards import Accuracy, Reward, accuracy, leaves_of, score
from avatar.types import Completion, Prompt

Values = NDArray[np.float64]
TOTAL, ACCURACY = "reward", "accuracy"
MOST = 1e30  # a stored reward beyond is none


@dataclass
class Scores:
    """What a mix says of N completions; NaN where a reward is not valid.

    Attributes:
        leaves: Names of the rewards of the mix.
        total: [N], the weighted sum.
        parts: [N] each, by ``name`` and ``name/part``.
        stored: [N] each, what the file held by the same names and ``reward``, NaN where it held nothing.
        right: [N], how right the answers are, whether or not the mix pays for that.
        group: [N], as in :class:`avatar.commands.rewards.rows.Lines`.
        scored: [N] bool, False for lines whose prompt could not be had.
    """

    leaves: list[str]
    total: Values
    right: Values
    group: NDArray[np.int64]
    scored: NDArray[np.bool_]
    parts: dict[str, Values] = field(default_factory=dict)
    stored: dict[str, Values] = field(default_factory=dict)

    def columns(self) -> dict[str, Values]:
        """The sum and all parts."""
        return {TOTAL: self.total, **self.parts}


def score_lines(
    lines: Lines, rewards: Sequence[Reward], prompts: Prompts, advance: Callable[[int], None], check: bool = True
) -> Scores:
    """Score all good lines; a prompt that cannot be had makes its lines bad ones.

    Args:
        lines: Of the file.
        rewards: The mix.
        prompts: Gives the prompt of a row.
        advance: Called with the number of completions of each batch.
        check: Whether to see first to what the rewards need.

    Raises:
        ConfigError: A reward cannot work.
    """
    num, leaves = len(lines), [leaf for _, leaf in leaves_of(rewards)]
    blank = np.full(num, np.nan)
    group = np.array(lines.groups, dtype=np.int64)
    scores = Scores([leaf.name for leaf in leaves], blank.copy(), blank.copy(), group, np.zeros(num, dtype=bool))
    rule = next((leaf for leaf in leaves if isinstance(leaf, Accuracy)), None)
    for batch in lines.batches():
        found = _Batch(batch, lines.rows(batch), lines)
        found.pose(prompts)
        if found.places:
            if check:
                for leaf in leaves:
                    leaf.check(found.prompts[0])
                check = False
            found.enter(scores, rewards, rule)
        advance(len(batch))
    if not scores.scored.any():
        raise DataError(
            f"{lines.path}: no completion in it can be scored; line {lines.bad[0].line}: {lines.bad[0].reason}"
        )
    return scores


class _Batch:
    """Whole groups on their way: those with a prompt are scored."""

    def __init__(self, places: Sequence[int], rows: Sequence[dict[str, Any]], lines: Lines) -> None:
        self.lines, self.given = lines, list(zip(places, rows, strict=True))
        self.places: list[int] = []
        self.rows: list[dict[str, Any]] = []
        self.prompts: list[Prompt] = []
        self.of: list[int] = []  # which prompt each row answers

    def pose(self, prompts: Prompts) -> None:
        """Find the prompt of each group."""
        found: dict[int, int | str] = {}  # group: which prompt, or what is wrong
        for place, row in self.given:
            group = self.lines.groups[place]
            if group not in found:
                try:
                    self.prompts.append(prompts(row))
                    found[group] = len(self.prompts) - 1
                except DataError as error:
                    found[group] = str(error)
            known = found[group]
            if isinstance(known, str):
                self.lines.bad.append(Bad(self.lines.numbers[place], known))
            else:
                self.places.append(place)
                self.rows.append(row)
                self.of.append(known)

    def enter(self, scores: Scores, rewards: Sequence[Reward], rule: Accuracy | None) -> None:
        """Score, and write down."""
        completions = [completion_of(row) for row in self.rows]
        result = score(rewards, self.prompts, completions, torch.tensor(self.of))
        scores.total[self.places] = torch.where(result.valid, result.rewards, torch.nan).numpy()
        scores.scored[self.places] = True
        for name, part in result.parts.items():
            _column(scores.parts, name, len(scores.total))[self.places] = part.numpy()
        paid = result.parts[rule.name].tolist() if rule else map(self._right, completions, self.of)
        scores.right[self.places] = list(paid)
        for name in (TOTAL, *(f"reward/{name}" for name in result.parts)):
            values = [_number(row.get(name)) for row in self.rows]
            _column(scores.stored, name.removeprefix("reward/"), len(scores.total))[self.places] = values

    def _right(self, completion: Completion, g: int) -> float:
        prompt = self.prompts[g]
        return accuracy(completion.text, prompt.answer, prompt.problem_type, prompt.options)


def _column(columns: dict[str, Values], name: str, num: int) -> Values:
    if name not in columns:
        columns[name] = np.full(num, np.nan)
    return columns[name]


def write_scored(out: Path, lines: Lines, scores: Scores) -> None:
    """The file again, line for line, with the new reward and its parts in the place of the old; bad lines as they were.

    Args:
        out: Appears when it is whole.
        lines: Of the file.
        scores: Of the good ones.
    """
    place_of = {number: place for place, number in enumerate(lines.numbers) if scores.scored[place]}
    part = out.with_name(f"{out.name}.partial")
    with lines.path.open("rb") as source, part.open("wb") as target:
        for number, raw in enumerate(source, 1):
            place = place_of.get(number)
            target.write(raw if place is None else _rescored(json.loads(raw), scores, place))
    os.replace(part, out)


def _rescored(row: dict[str, Any], scores: Scores, place: int) -> bytes:
    kept = {name: value for name, value in row.items() if name != TOTAL and not name.startswith("reward/")}
    new = {f"reward/{name}": _plain(values[place]) for name, values in scores.parts.items()}
    whole = {**kept, **new, TOTAL: _plain(scores.total[place])}
    try:
        return json.dumps(whole, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of an emoji
        return json.dumps(whole).encode() + b"\n"


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _number(value: Any) -> float:
    """A stored reward; NaN where the file has none, or one that no reward is."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MOST
    return float(value) if known else float("nan")
