"""Saved completions: each line of a ``completions.jsonl`` checked, and read again by its place when it is scored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar.answers import gold_answer
from avatar.data.schema import PROBLEM_TYPES
from avatar.errors import ConfigError, DataError
from avatar.types import Completion

LONGEST = 10_000_000  # tokens of a completion
_TEXT = ("prompt", "gold", "completion")
_KINDS: dict[str, tuple[type, ...]] = {"finished": (bool,), "hinted": (bool,), "step": (int,), "length": (int,)}


@dataclass(frozen=True)
class Bad:
    """A line that cannot be scored."""

    line: int
    reason: str


@dataclass
class Lines:
    """Where the good lines of a file are, and which group each belongs to.

    Attributes:
        path: Of the file.
        numbers: Line number of each good line, from 1.
        offsets: Where it begins, in bytes.
        groups: Its group: the completions of one prompt at one step, with its hint or without.
        bad: The others.
    """

    path: Path
    numbers: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self, places: Iterator[int] | list[int]) -> list[dict[str, Any]]:
        """The good lines at these places among the good ones."""
        with self.path.open("rb") as file:
            found = []
            for place in places:
                file.seek(self.offsets[place])
                found.append(json.loads(file.readline()))
        return found

    def batches(self, least: int = 256) -> Iterator[list[int]]:
        """Places of whole groups, ``least`` or more at a time."""
        order = np.argsort(self.groups, kind="stable")
        batch: list[int] = []
        for k, place in enumerate(order.tolist()):
            if len(batch) >= least and self.groups[place] != self.groups[order[k - 1]]:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch


def read_lines(path: Path, need_type: bool, advance: Callable[[int], None]) -> Lines:
    """Check all lines of a file, keeping none of them.

    Args:
        path: JSON lines; blank ones are passed over.
        need_type: Whether a row must say its problem type, or the data will.
        advance: Called with the number of bytes of each line.

    Raises:
        ConfigError: There is no such file.
        DataError: Not one line of it can be scored.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; give the completions.jsonl of a run")
    lines, seen, offset = Lines(path), dict[tuple[Any, ...], _Group](), 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                try:
                    _add(lines, seen, number, offset, check_row(raw, need_type))
                except DataError as error:
                    lines.bad.append(Bad(number, str(error)))
            offset += len(raw)
            advance(len(raw))
    if not len(lines):
        first = f"line {lines.bad[0].line}: {lines.bad[0].reason}" if lines.bad else "it is empty"
        raise DataError(f"{path}: no completion in it can be scored; {first}")
    return lines


@dataclass(frozen=True)
class _Group:
    """A group by its first line: its number, and what was asked there."""

    place: int
    line: int
    asked: Any


def _add(lines: Lines, seen: dict[tuple[Any, ...], _Group], number: int, offset: int, row: dict[str, Any]) -> None:
    key = (row.get("step"), row["prompt"], row.get("hinted", False))
    asked = (row["gold"], row.get("problem_type"), row.get("options", []))
    group = seen.setdefault(key, _Group(len(seen), number, asked))
    if group.asked != asked:
        raise DataError(
            f"gold, problem_type or options of prompt {row['prompt']!r} are others than in line {group.line} of the "
            "same group; a group is the lines of one step, prompt and hinted"
        )
    lines.numbers.append(number)
    lines.offsets.append(offset)
    lines.groups.append(group.place)


def check_row(raw: bytes, need_type: bool) -> dict[str, Any]:
    """One line.

    Raises:
        DataError: It is no JSON object, or a field is missing or wrong.
    """
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise DataError(f"a row must be a JSON object, got {type(row).__name__}")
    for name in _TEXT:
        if not isinstance(row.get(name), str):
            raise DataError(f"{name!r} is missing or no text, got {row.get(name)!r:.80}")
    for name, kinds in _KINDS.items():
        if name in row and type(row[name]) not in kinds:
            raise DataError(f"{name!r} must be {kinds[0].__name__}, got {row[name]!r:.80}")
    if not 0 <= row.get("length", 0) <= LONGEST:
        raise DataError(f"'length' must be from 0 to {LONGEST} tokens, got {row['length']!r:.80}")
    if need_type:
        _check_type(row)
    return row


def _check_type(row: dict[str, Any]) -> None:
    where, kind, options = f"prompt {row['prompt']!r}", row.get("problem_type"), row.get("options", [])
    if kind is None:
        raise DataError(
            f"{where} has no 'problem_type': add it ({', '.join(PROBLEM_TYPES)}); or, for a run of an older "
            "version, give --data FOLDER, the shards that it was trained on"
        )
    if kind not in PROBLEM_TYPES:
        raise DataError(f"{where}: problem_type {kind!r} is none of {', '.join(PROBLEM_TYPES)}")
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise DataError(f"{where}: 'options' must be a list of texts, got {options!r:.80}")
    try:
        gold_answer(row["gold"], kind, options)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def completion_of(row: dict[str, Any]) -> Completion:
    """The completion of a row; its tokens are not stored, so there are as many zeros as it was long."""
    num = max(1, row.get("length", 1))
    return Completion(
        ids=torch.zeros(num, dtype=torch.long),
        behaviour_logprobs=torch.zeros(num),
        text=row["completion"],
        finished=row.get("finished", True),
        hinted=row.get("hinted", False),
        step=row.get("step", 0),
    )
