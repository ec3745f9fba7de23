"""``avatar data``: make, pack, look at and check data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from avatar.commands.data.index import index
from avatar.commands.data.inspect import inspect
from avatar.commands.data.synth import synth
from avatar.commands.data.validate import validate
from avatar.commands.subcommands import run_subcommand
from avatar.data.pack import pack

FUNCTIONS: dict[str, Callable[..., int | None]] = {
    "synth": synth,
    "pack": pack,
    "inspect": inspect,
    "validate": validate,
    "index": index,
}


def main(argv: Sequence[str]) -> int:
    """Run ``avatar data ...``."""
    return run_subcommand("data", "Make, pack, look at and check data.", FUNCTIONS, argv, ["synth"])
