"""The reward mix of a config: of a whole training config, or of a small file that holds nothing else."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from avatar.errors import ConfigError
from avatar.rewards import REWARDS, Reward, leaves_of

PLACES = ("rewards", "model.init_args.rewards", "model.rewards")


def read_mix(path: str | None) -> list[Reward]:
    """The rewards of a config file; without one, every registered reward that can be had without an argument.

    Args:
        path: YAML. A training config is read at ``model.init_args.rewards``, a small file at ``rewards``.

    Raises:
        ConfigError: There is no such file, it is no YAML, holds no rewards, or one of them is wrong.
    """
    if path is None:
        return [REWARDS[name]() for name in REWARDS if not _required(REWARDS[name])]
    try:
        rewards: list[Reward] = parse_mix(_find(_read(path), path))
        leaves_of(rewards)
    except ConfigError as error:
        # The parser speaks of a command line, on which these arguments do not stand.
        said = str(error).removeprefix("--").removesuffix(", or --config FILE or --ckpt_path FILE that holds it")
        raise ConfigError(said if said.startswith(path) else f"{path}: {said}") from error
    return rewards


def parse_mix(given: Any) -> list[Reward]:
    """Rewards out of ``[{class_path, init_args}, ...]``, by short class names too, as ``avatar fit`` takes them.

    Raises:
        ConfigError: What is wrong with it, in the words of ``avatar fit``.
    """
    parser = _Parser(exit_on_error=False)
    parser.add_argument("--rewards", type=list[Reward])
    rewards = parser.instantiate(parser.parse_object({"rewards": given})).rewards
    if not rewards:
        raise ConfigError("rewards is empty: give at least one, e.g. - class_path: Accuracy")
    return list(rewards)


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        # Only now: to know all names it opens every room of the framework.
        from avatar.commands.messages import explain

        raise ConfigError(explain(message)) from ex


def _required(cls: type[Reward]) -> list[str]:
    """Arguments that a reward cannot be made without: the client of a judge, the parts of a sum."""
    return [name for name, p in inspect.signature(cls).parameters.items() if p.default is p.empty]


def _read(path: str) -> Any:
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _OnceLoader)  # noqa: S506  a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: it cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: it is no YAML ({' '.join(str(error).split())})") from None


class _OnceLoader(yaml.SafeLoader):
    """Refuses a mapping that says one thing twice, of which YAML's own would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _find(config: Any, path: str) -> Any:
    if isinstance(config, dict) and "rewards" in config and (others := sorted(map(str, set(config) - {"rewards"}))):
        raise ConfigError(f"{path}: unknown {others[0]!r} beside rewards; a mix holds rewards alone")
    for place in PLACES:
        found = config
        for name in place.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            return found
    raise ConfigError(
        f"{path}: there are no rewards: neither a list `rewards` at its top, nor in a training config at "
        "model.init_args.rewards"
    )
