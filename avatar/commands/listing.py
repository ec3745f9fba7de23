"""``avatar list [GROUP]``: what is registered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
BENCHMARK_COLUMNS = ("name", "title", "questions", "media", "gradings", "reported by", "source")
WIDE = 140  # columns of a terminal that all of these fit into


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
        console = Console()
        tables = benchmark_tables(console.width) if group == BENCHMARKS.group else [registry_table(REGISTRIES[group])]
        console.print(*tables)
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


def benchmark_tables(width: int) -> list[Table]:
    """What each benchmark asks, is graded and reported by, and where it comes from: two tables where one is too wide.

    Args:
        width: Of the terminal, in columns.
    """
    if width >= WIDE:
        return [_benchmark_table(BENCHMARK_COLUMNS)]
    return [_benchmark_table(BENCHMARK_COLUMNS[:5], 12), _benchmark_table(("name", *BENCHMARK_COLUMNS[5:]))]


def _benchmark_table(columns: Sequence[str], media_width: int | None = None) -> Table:
    table = Table(title=BENCHMARKS.group, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.pad_edge = table.show_edge = False
    for name in columns:
        justify: Literal["left", "right"] = "right" if name == "questions" else "left"
        most = media_width if name == "media" else None
        table.add_column(name, justify=justify, no_wrap=name in BENCHMARK_COLUMNS[:3], max_width=most, overflow="fold")
    for row in benchmark_rows():
        table.add_row(*(Text(row[BENCHMARK_COLUMNS.index(name)]) for name in columns))
    return table


def benchmark_rows() -> list[tuple[str, ...]]:
    """A row for each benchmark, as :data:`BENCHMARK_COLUMNS` says."""
    return [
        (
            name,
            cls.title,
            f"{cls.num_records:,}" if cls.num_records else "any",
            ", ".join(cls.media_kinds),
            ", ".join(cls.scorings),
            ", ".join(cls.groups),
            cls.source,
        )
        for name, cls in ((name, BENCHMARKS[name]) for name in BENCHMARKS)
    ]
