"""``avatar hints``: have a teacher write the hints that a stuck policy is shown."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from avatar.commands.hints.write import write


def main(argv: Sequence[str]) -> int:
    """Run ``avatar hints ...``."""
    parser = ArgumentParser(prog="avatar hints", description="Write the hints that a stuck policy is shown.")
    commands = parser.add_subcommands(required=True)
    sub = ArgumentParser(description=(write.__doc__ or "").split("\n")[0])
    sub.add_function_arguments(write, as_positional=True)
    commands.add_subcommand("write", sub, help=sub.description)
    config = parser.parse_args(list(argv[1:]))
    return write(**config.write.as_dict())
