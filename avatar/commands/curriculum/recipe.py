"""What a curriculum's YAML says: the data to make, the stages in order, the tests after each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from avatar.benchmarks import BENCHMARKS
from avatar.commands.data import FUNCTIONS
from avatar.commands.messages import explain
from avatar.data.sources import is_remote
from avatar.errors import ConfigError
from avatar.registry import did_you_mean


@dataclass(frozen=True)
class Stage:
    """One stage: a config of ``avatar fit``, started from the weights of the stage before it.

    Attributes:
        name: Of its folder.
        config: The config.
        title: What tables call it; by default its name.
        overrides: Arguments over those of the config, as on the command line: ``model.optimizer.lr: 1e-4``.
    """

    name: str
    config: str
    title: str | None = None
    overrides: dict[str, Any] | None = None


@dataclass(frozen=True)
class StageTest:
    """What is asked after each stage: ``avatar test --benchmark``.

    Attributes:
        benchmark: Its key.
        root: Folder of its files; by default where the benchmark expects them.
        name: What tables and files call it; by default the benchmark's key, and what is swapped.
        swap: ``audio`` or ``video``: swap in another clip's, to see what it costs.
        overrides: Arguments of ``avatar test``, as on the command line.
    """

    benchmark: str
    root: str | None = None
    name: str | None = None
    swap: str | None = None
    overrides: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """Its name."""
        return self.name or "-".join([self.benchmark, *([f"swap_{self.swap}"] if self.swap else [])])

    @property
    def folder(self) -> str:
        """Where its files lie."""
        return self.root or BENCHMARKS[self.benchmark].default_root


@dataclass(frozen=True)
class Recipe:
    """A whole curriculum.

    Attributes:
        out: Folder of all that is written: one folder a stage, and the table at its top.
        stages: In order.
        tests: Asked after each stage.
        data: Made before the first stage: commands of ``avatar data`` and their arguments, by name.
        seed: Of every stage's order and sampling, in the place of what its config says. The data have their own.
    """

    out: str
    stages: list[Stage]
    tests: list[StageTest] | None = None
    data: dict[str, dict[str, Any]] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class DataCommand:
    """A command of ``avatar data``, its arguments checked.

    Attributes:
        name: Of the command.
        function: What it calls.
        arguments: Of the function.
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]

    @property
    def out(self) -> str | None:
        """The folder that it makes."""
        return self.arguments.get("out")


class StrictParser(ArgumentParser):
    """Says what is wrong in a few lines."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Raise :class:`ConfigError`."""
        options = [o.removeprefix("--") for o in self._option_string_actions if o.startswith("--")]
        if match := re.search(r"Option '([\w.]+)' is not accepted|[Kk]ey ['\"]([\w.]+)['\"] is not expected", message):
            name = (match[1] or match[2]).rsplit(".", 1)[-1]
            own = [f.name for part in (Recipe, Stage, StageTest) for f in fields(part)]
            raise ConfigError(f"unknown argument {name!r}.{did_you_mean(name, [*own, *options])}") from ex
        raise ConfigError(explain(message, [f"--{option}" for option in options])) from ex


def check_recipe(recipe: Recipe) -> list[DataCommand]:
    """Refuse a curriculum whose parts are not there or do not fit together; nothing is computed.

    Args:
        recipe: As it was read.

    Returns:
        The data commands, ready to be called.

    Raises:
        ConfigError: With the part, what was wanted, and what came.
    """
    if not recipe.stages:
        raise ConfigError("stages is empty: give at least one")
    _check_names("stages", [stage.name for stage in recipe.stages])
    for stage in recipe.stages:
        if not Path(stage.config).is_file():
            raise ConfigError(
                f"stage {stage.name}: its config {stage.config} is not here; paths are taken from the folder that the "
                "command is called in, which is the top of a clone for the configs of the project"
            )
    commands = [_data_command(name, arguments) for name, arguments in (recipe.data or {}).items()]
    made = [command.out for command in commands if command.out]
    tests = recipe.tests or []
    _check_names("tests", [test.label for test in tests])
    for test in tests:
        if test.benchmark not in BENCHMARKS:
            known = list(BENCHMARKS)
            raise ConfigError(
                f"test {test.label}: unknown benchmark {test.benchmark!r}.{did_you_mean(test.benchmark, known)} "
                f"Known: {', '.join(known)}"
            )
        if test.swap not in (None, "audio", "video"):
            raise ConfigError(f"test {test.label}: swap must be audio or video, got {test.swap!r}")
        check_there(f"test {test.label}", [test.folder], made)
    return commands


def check_there(what: str, folders: Iterable[str], made: Iterable[str]) -> None:
    """Refuse a folder of data that is not there and will not be made; addresses are not looked up.

    Raises:
        ConfigError: With the folder.
    """
    for folder in folders:
        will_be = any(Path(folder).is_relative_to(out) for out in made)
        if not (is_remote(folder) or will_be or Path(folder).exists()):
            raise ConfigError(
                f"{what}: there is no data folder {folder}, and no command under data makes it: make it with "
                "`avatar data pack` or name the one you have"
            )


def _check_names(what: str, names: list[str]) -> None:
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
            raise ConfigError(f"{what}: {name!r} names a folder: letters, digits, - and _ only")
        if names.count(name) > 1:
            raise ConfigError(f"{what}: two are called {name!r}; give each a name of its own (name: ...)")


def _data_command(name: str, arguments: dict[str, Any] | None) -> DataCommand:
    if name not in FUNCTIONS:
        raise ConfigError(
            f"data: unknown command {name!r}.{did_you_mean(name, list(FUNCTIONS))} Known: {', '.join(FUNCTIONS)}"
        )
    parser = StrictParser(prog=f"avatar data {name}")
    parser.add_function_arguments(FUNCTIONS[name])
    try:
        parsed = parser.parse_object(arguments or {}).as_dict()
    except ConfigError as error:
        raise ConfigError(f"data.{name}: {error}") from None
    return DataCommand(name, FUNCTIONS[name], parsed)
