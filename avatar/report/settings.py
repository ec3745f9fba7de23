"""What a run was told to do, as far as figures ask: its ``config.yaml``, or the settings that a sweep has noted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from avatar.advantages import SHAPES, CreditShape, Uniform
from avatar.errors import DataError

Settings = Mapping[str, Any]  # by dotted key, without ``init_args``: model.advantage.strength

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built


def read_settings(path: Path) -> dict[str, Any]:
    """All leaves of a config.

    Raises:
        DataError: It is no YAML mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _LOADER)  # noqa: S506  a safe one
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path} is no config: a YAML mapping was wanted, got {type(tree).__name__}")
    return plain_keys(dict(_leaves(tree, "")))


def plain_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same without ``init_args`` in the keys, as they are typed on a command line."""
    return {key.replace(".init_args", ""): value for key, value in settings.items()}


def ratio_of(settings: Settings) -> tuple[int, int] | None:
    """(new, replayed) completions of each prompt; None where a config does not say."""
    fresh = settings.get("model.num_generations")
    return None if fresh is None else (int(fresh), int(settings.get("model.replay.num_replayed") or 0))


def estimator_of(settings: Settings) -> str:
    """Short name of the advantage with what it is made of, as ``TAS(RLOO, LinearDecay)``; empty where none is said."""
    name = _class(settings, "model.advantage")
    parts = [_class(settings, f"model.advantage.{part}") for part in ("base", "shape")]
    inner = ", ".join(part for part in parts if part)
    return f"{name}({inner})" if inner else name


def shape_of(settings: Settings) -> CreditShape | None:
    """The credit shape of a run; None where it has none, or one that is not registered here.

    Raises:
        ConfigError: Its strength is below 0.
    """
    place, name = "model.advantage", ""
    if _class(settings, place) == "AVATAR":
        name = "Parabolic"
    elif _class(settings, place) == "TAS":
        place, name = f"{place}.shape", _class(settings, f"{place}.shape") or "Parabolic"
    if name not in SHAPES:
        return None
    given = {key: settings.get(f"{place}.{key}") for key in ("strength", "normalize")}
    return SHAPES[name](**{key: value for key, value in given.items() if value is not None})


def strength_of(settings: Settings) -> float | None:
    """Lambda of the credit shape, 0 of a uniform one; None without one."""
    shape = shape_of(settings)
    if shape is None:
        return None
    return 0.0 if isinstance(shape, Uniform) else float(shape.strength)


def accuracy_key(settings: Settings) -> str:
    """Which key of ``completions.jsonl`` holds the accuracy reward: it may have a label, and lie in a sum of others."""
    for key, value in settings.items():
        if key.endswith(".class_path") and str(value).rsplit(".", 1)[-1] == "Accuracy":
            return f"reward/{settings.get(key.removesuffix('class_path') + 'label') or 'accuracy'}"
    return "reward/accuracy"


def _class(settings: Settings, place: str) -> str:
    return str(settings.get(f"{place}.class_path") or settings.get(place) or "").rsplit(".", 1)[-1]


def _leaves(tree: Any, above: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{above}.{key}" if above else str(key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from _leaves(value, f"{above}[{i}]")
    else:
        yield above, tree
