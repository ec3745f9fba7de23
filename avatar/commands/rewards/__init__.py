"""``avatar rewards``: try a reward mix without a GPU, on saved completions and on attacks."""

from __future__ import annotations

from collections.abc import Sequence

from avatar.commands.rewards.attack import attack
from avatar.commands.rewards.score import score
from avatar.commands.subcommands import Function, run_subcommand


def main(argv: Sequence[str]) -> int:
    """Run ``avatar rewards ...``."""
    functions: dict[str, Function] = {"score": score, "attack": attack}
    return run_subcommand("rewards", "Try a reward mix on completions and on attacks.", functions, argv, ["attack"])
