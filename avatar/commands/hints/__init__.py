"""``avatar hints``: have a teacher write the hints that a stuck policy is shown."""

from __future__ import annotations

from collections.abc import Sequence

from avatar.commands.hints.write import write
from avatar.commands.subcommands import run_subcommand


def main(argv: Sequence[str]) -> int:
    """Run ``avatar hints ...``."""
    return run_subcommand("hints", "Write the hints that a stuck policy is shown.", {"write": write}, argv)
