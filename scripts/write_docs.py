"""Writes docs/registry.md from the registries. `make docs` runs it; a test checks that the file is up to date."""

from pathlib import Path
from typing import Any

from avatar.benchmarks import BENCHMARKS
from avatar.commands.listing import BENCHMARK_COLUMNS, REGISTRIES, benchmark_rows
from avatar.registry import Registry


def registry_page() -> str:
    """The whole page."""
    parts = ["# What is registered", "", "Written by `make docs`. `avatar list` shows the same.", ""]
    for group, registry in REGISTRIES.items():
        table = benchmark_lines() if group == BENCHMARKS.group else class_lines(registry)
        parts += [f"## {group}", "", *table, ""]
    return "\n".join(parts)


def class_lines(registry: Registry[Any]) -> list[str]:
    """Name, what it is, class."""
    lines = ["| name | what it is | class |", "|---|---|---|"]
    for name in registry:
        cls = registry[name]
        first = (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ").split("\n")[0]
        lines.append(f"| `{name}` | {first} | `{cls.__module__}.{cls.__qualname__}` |")
    return lines


def benchmark_lines() -> list[str]:
    """What ``avatar list benchmarks`` shows."""
    head = [f"| {' | '.join(BENCHMARK_COLUMNS)} |", "|---|---|---:|---|---|---|---|"]
    return head + [f"| `{name}` | {' | '.join(rest)} |" for name, *rest in benchmark_rows()]


if __name__ == "__main__":
    Path("docs/registry.md").write_text(registry_page())
