"""Options on a command line that no parser has read yet."""

from __future__ import annotations

from collections.abc import Sequence


def find_option(args: Sequence[str], name: str) -> str | None:
    """What an option is given; None where it is not."""
    for i, arg in enumerate(args):
        if arg.startswith(name + "="):
            return arg.split("=", 1)[1]
        if arg == name and i + 1 < len(args):
            return args[i + 1]
    return None


def set_option(args: list[str], name: str, value: str) -> None:
    """Give an option that is there another value."""
    for i, arg in enumerate(args):
        if arg.startswith(name + "="):
            args[i] = f"{name}={value}"
        elif arg == name:
            args[i + 1] = value


def without_option(args: Sequence[str], name: str) -> list[str]:
    """The command line without an option and its value."""
    kept, skip = [], False
    for arg in args:
        if not skip and arg != name and not arg.startswith(name + "="):
            kept.append(arg)
        skip = arg == name and not skip
    return kept


def has_config(args: Sequence[str]) -> bool:
    """Whether a config file is given."""
    return any(a in ("--config", "-c") or a.startswith(("--config=", "-c=")) for a in args)
