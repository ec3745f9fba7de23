"""``avatar compare``: two results on the same benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from avatar.benchmarks.figures import paired
from avatar.benchmarks.figures.results import read_results
from avatar.benchmarks.figures.show import compare_markdown, compare_table
from avatar.benchmarks.writing import write_whole
from avatar.commands.subcommands import run_command
from avatar.errors import ConfigError
from avatar.registry import did_you_mean

ENDINGS = (".json", ".md")


def main(argv: Sequence[str]) -> int:
    """Run ``avatar compare ...``."""
    return run_command("compare", compare, argv)


def compare(a: str, b: str, output: str | None = None) -> int:
    """Whether result B is better than result A, by a paired bootstrap over the clips that both were asked about.

    Args:
        a: A ``.results.json`` of ``avatar test``, or what ``avatar grade --summary`` wrote.
        b: The result that it is compared with.
        output: File to write the comparison to: ``.json`` with all figures, or ``.md``.
    """
    _check(a, b, output)
    comparison = paired.compare(read_results(Path(a)), read_results(Path(b)))
    Console().print(compare_table(comparison))
    if output:
        text = json.dumps(comparison, indent=2) + "\n" if output.endswith(".json") else compare_markdown(comparison)
        write_whole(Path(output), text)
    return 0


def _check(a: str, b: str, output: str | None) -> None:
    for given in (a, b):
        _check_there(Path(given))
    if output is None:
        return
    path = Path(output)
    if path.suffix not in ENDINGS:
        raise ConfigError(f"--output {output}: must end in {' or '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {path.parent}")
    if path.resolve() in {Path(a).resolve(), Path(b).resolve()}:
        raise ConfigError(f"--output {output} is one of the files that are read; give another name")


def _check_there(path: Path) -> None:
    if path.exists():
        return
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: cannot be read, there is no folder {path.parent}")
    results = sorted(file.name for file in path.parent.glob("*.json"))
    raise ConfigError(f"{path}: cannot be read, there is no such file.{did_you_mean(path.name, results)}")
