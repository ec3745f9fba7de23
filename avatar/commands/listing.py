"""``avatar list [GROUP]``: what is registered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from avatar.advantages import ADVANTAGES, SHAPES
from avatar.benchmarks import BENCHMARKS
from avatar.data.pack.formats import FORMATS
from avatar.models import MODELS
from avatar.registry import Registry, UnknownNameError
from avatar.replay import HINTS
from avatar.rewards import REWARDS
from avatar.rollouts import ENGINES

REGISTRIES: dict[str, Registry[Any]] = {
    r.group: r for r in (ADVANTAGES, SHAPES, REWARDS, HINTS, ENGINES, MODELS, BENCHMARKS, FORMATS)
}


def main(argv: Sequence[str]) -> int:
    """Print a table of one group, or of all."""
    groups = list(argv[1:])
    if groups in (["--help"], ["-h"]):
        print(f"usage: avatar list [{' | '.join(REGISTRIES)}]")
        return 0
    for group in groups:
        if group not in REGISTRIES:
            raise UnknownNameError("group", group, list(REGISTRIES))
    for group in groups or REGISTRIES:
        Console().print(registry_table(REGISTRIES[group]))
    return 0


def registry_table(registry: Registry[Any]) -> Table:
    """Name, first line of the docstring and class path of each entry."""
    table = Table(title=registry.group, title_justify="left")
    table.add_column("name", style="bold")
    table.add_column("what it is")
    table.add_column("class", style="dim", overflow="fold")
    for name in registry:
        cls = registry[name]
        first = re.sub(r":\w+:`~?([^`]+)`|``([^`]+)``", r"\1\2", (cls.__doc__ or "").strip().split("\n")[0])
        table.add_row(name, first, f"{cls.__module__}.{cls.__qualname__}")
    return table
