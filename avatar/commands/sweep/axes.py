"""Axes of a sweep, and the grid that they span."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import PurePath

from avatar.errors import ConfigError

CONFIG, SEED = "config", "seed_everything"
_SHORT = {SEED: "seed"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
Point = dict[str, str]  # label by the name of the axis


@dataclass(frozen=True)
class Axis:
    """One thing that is varied.

    Attributes:
        name: What tables call it.
        key: The argument of ``avatar fit`` that it sets, without dashes; ``config`` lays whole files over the base.
        values: What the argument is set to.
        labels: What tables and folders call these.
    """

    name: str
    key: str
    values: tuple[str, ...]
    labels: tuple[str, ...]

    def value(self, label: str) -> str:
        """The value called ``label``."""
        return self.values[self.labels.index(label)]

    def argument(self, label: str) -> str:
        """As ``avatar fit`` takes it."""
        return f"--{self.key}={self.value(label)}"


def parse_axis(text: str) -> Axis:
    """An axis from ``key=value,value`` or ``name:key=value,value``.

    Commas within brackets divide nothing, so that a value may be a list. Without a name it is the last word of the key.

    Raises:
        ConfigError: There is no value, one comes twice, or the name is no word.
    """
    head, equals, tail = text.partition("=")
    name, colon, key = head.partition(":")
    if not colon:
        name, key = "", head
    key = key.strip().removeprefix("--")
    values = tuple(part.strip() for part in split_outside(tail))
    if not equals or not key or not all(values):
        raise ConfigError(f"--axis {text!r}: wanted KEY=VALUE,VALUE or NAME:KEY=VALUE,VALUE, as in seed_everything=0,1")
    name = name.strip() or _SHORT.get(key, key.split(".")[-1])
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--axis {text!r}: {name!r} is no name; give one of letters and digits, as in arm:{key}=...")
    axis = Axis(name, key, values, labels_of(values))
    for what in (axis.values, axis.labels):
        if twice := sorted({one for one in what if what.count(one) > 1}):
            raise ConfigError(f"--axis {text!r}: {twice[0]!r} comes twice")
    return axis


def split_outside(text: str) -> list[str]:
    """``text`` at the commas that stand in no bracket."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[{(") - (sign in "]})")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def labels_of(values: Sequence[str]) -> tuple[str, ...]:
    """Short names: of paths the parts in which they differ, without ending; of all else the value, fit for a folder."""
    if all("/" in value or value.endswith((".yaml", ".yml")) for value in values):
        return tuple(_tame(label) for label in _differing([_parts(value) for value in values]))
    return tuple(_tame(value) for value in values)


def _parts(value: str) -> tuple[str, ...]:
    """Of a path, without the ending of a config; what follows the dot of Qwen2.5-Omni-7B is none."""
    path = PurePath(value)
    return (path.with_suffix("") if path.suffix in (".yaml", ".yml") else path).parts


def _differing(paths: Sequence[tuple[str, ...]]) -> list[str]:
    if len(paths) == 1:
        return [paths[0][-1]]
    start = _num_common(paths)
    end = _num_common([path[start:][::-1] for path in paths])
    return ["-".join(path[start : len(path) - end]) or path[-1] for path in paths]


def _num_common(paths: Sequence[tuple[str, ...]]) -> int:
    """How many parts all begin with."""
    return next((i for i, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1), min(map(len, paths)))


def _tame(text: str) -> str:
    tame = re.sub(r"[^A-Za-z0-9_.+]+", "-", text).strip("-") or "none"
    return f"-{tame}" if re.match(r"-\.?\d", text) else tame  # -1 is not 1


def check_axes(axes: Sequence[Axis]) -> None:
    """Refuse axes that cannot be told apart, or none.

    Raises:
        ConfigError: There is none, or two have one name, or two set one argument that is no config.
    """
    if not axes:
        raise ConfigError("there is nothing to vary: give --axis KEY=VALUE,VALUE, as in --axis seed_everything=0,1,2")
    for what, of in (("name", [axis.name for axis in axes]), ("key", [a.key for a in axes if a.key != CONFIG])):
        if twice := sorted({one for one in of if of.count(one) > 1}):
            raise ConfigError(f"two axes have the {what} {twice[0]!r}; a name goes before the key: NAME:KEY=VALUE,...")


def grid(axes: Sequence[Axis]) -> Iterator[Point]:
    """Every combination, the last axis varying fastest."""
    for labels in product(*(axis.labels for axis in axes)):
        yield {axis.name: label for axis, label in zip(axes, labels, strict=True)}


def name_of(point: Point) -> str:
    """What the cell's folder is called."""
    return "-".join(point.values())


def matches(point: Point, wanted: Point) -> bool:
    """Whether ``point`` has these labels."""
    return all(point.get(name) == label for name, label in wanted.items())
