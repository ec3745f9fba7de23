"""``avatar data``: make, pack, look at and check data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser

from avatar.commands.data.index import index
from avatar.commands.data.inspect import inspect
from avatar.commands.data.synth import synth
from avatar.commands.data.validate import validate
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
    parser = ArgumentParser(prog="avatar data", description="Make, pack, look at and check data.")
    commands = parser.add_subcommands(required=True)
    for name, function in FUNCTIONS.items():
        sub = ArgumentParser(description=(function.__doc__ or "").split("\n")[0])
        sub.add_function_arguments(function, as_positional=name != "synth")
        commands.add_subcommand(name, sub, help=sub.description)
    config = parser.parse_args(list(argv[1:]))
    return int(FUNCTIONS[config.subcommand](**config[config.subcommand].as_dict()) or 0)
