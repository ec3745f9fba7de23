"""``avatar rewards``: try a reward mix without a GPU, on saved completions and on attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser

from avatar.commands.rewards.attack import attack
from avatar.commands.rewards.score import score

# name: (function, whether its first argument is positional)
FUNCTIONS: dict[str, tuple[Callable[..., int], bool]] = {"score": (score, True), "attack": (attack, False)}


def main(argv: Sequence[str]) -> int:
    """Run ``avatar rewards ...``."""
    parser = ArgumentParser(prog="avatar rewards", description="Try a reward mix on completions and on attacks.")
    commands = parser.add_subcommands(required=True)
    for name, (function, positional) in FUNCTIONS.items():
        sub = ArgumentParser(description=(function.__doc__ or "").split("\n")[0])
        sub.add_function_arguments(function, as_positional=positional)
        commands.add_subcommand(name, sub, help=sub.description)
    config = parser.parse_args(list(argv[1:]))
    function, _ = FUNCTIONS[config.subcommand]
    return int(function(**config[config.subcommand].as_dict()))
