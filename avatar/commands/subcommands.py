"""Commands in groups: ``avatar GROUP NAME ...`` calls a function with its arguments as options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from avatar.errors import ConfigError
from avatar.registry import did_you_mean

Function = Callable[..., int | None]


class Parser(ArgumentParser):
    """Answers an unknown option with the nearest known one."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Raise :class:`ConfigError`."""
        if match := re.search(r"[Uu]nrecognized arguments: ([^\s=]+)", message):
            known = [option for option in self._option_string_actions if option.startswith("--")]
            raise ConfigError(f"unknown argument {match[1]}.{did_you_mean(match[1], known)}") from ex
        super().error(message, ex)


def run_subcommand(
    group: str,
    description: str,
    functions: Mapping[str, Function],
    argv: Sequence[str],
    options_only: Sequence[str] = (),
) -> int:
    """Parse and call one command of a group.

    Args:
        group: Its name.
        description: What ``--help`` says of it.
        functions: By the command's name; the first line of the docstring is its help.
        argv: The group's name and what follows.
        options_only: Commands whose required arguments are options, too; those of others are positional.

    Returns:
        What the function returns, 0 for None.

    Raises:
        ConfigError: An option is unknown, or as the function says.
    """
    parser = Parser(prog=f"avatar {group}", description=description)
    commands = parser.add_subcommands(required=True)
    for name, function in functions.items():
        sub = Parser(description=(function.__doc__ or "").split("\n")[0])
        sub.add_function_arguments(function, as_positional=name not in options_only)
        commands.add_subcommand(name, sub, help=sub.description)
    config: Any = parser.parse_args(list(argv[1:]))
    return int(functions[config.subcommand](**config[config.subcommand].as_dict()) or 0)


def run_command(name: str, function: Function, argv: Sequence[str], options_only: bool = False) -> int:
    """Parse and call a command that is no group.

    Args:
        name: Its name.
        function: What it does; the first line of the docstring is its help.
        argv: Its name and what follows.
        options_only: Whether required arguments are options, too, and not positional.

    Returns:
        What the function returns, 0 for None.

    Raises:
        ConfigError: An option is unknown, or as the function says.
    """
    parser = Parser(prog=f"avatar {name}", description=(function.__doc__ or "").split("\n")[0])
    parser.add_function_arguments(function, as_positional=not options_only)
    config: Any = parser.parse_args(list(argv[1:]))
    return int(function(**config.as_dict()) or 0)
