"""One small registry behind every extension point: look up by name, list, and "did you mean" on a miss."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from avatar.errors import ConfigError

T = TypeVar("T", bound=type)


def did_you_mean(name: str, known: list[str]) -> str:
    """``" Did you mean 'TAS'?"`` for the nearest of ``known`` (capitals ignored), or an empty string."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""


class UnknownNameError(ConfigError):
    """No entry of this name; the message offers the nearest one and lists all."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        listing = ", ".join(known) or "none"
        super().__init__(f"unknown {kind} {name!r}.{did_you_mean(name, known)} Known: {listing}")


class Registry(Generic[T]):
    """Classes of one kind by the name that users type.

    Other packages join through the entry-point group ``avatar.<group>``; their entries are loaded at the first look-up.

    Args:
        kind: What one entry is called in messages, e.g. ``"advantage"``.
        group: What the whole is called in ``avatar list`` and in the entry-point group, e.g. ``"advantages"``.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, T] = {}
        self._joined = False

    def register(self, name: str | None = None) -> Callable[[T], T]:
        """Decorator that adds a class under ``name``, by default the class's own.

        Raises:
            ConfigError: Another class holds that name.
        """

        def add(cls: T) -> T:
            key = name or cls.__name__
            if self._entries.setdefault(key, cls) is not cls:
                raise ConfigError(f"{self.kind} {key!r} is registered twice: {self._entries[key]} and {cls}")
            return cls

        return add

    def __getitem__(self, name: str) -> T:
        self._join_others()
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, list(self))
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        self._join_others()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._join_others()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._join_others()
        return len(self._entries)

    def _join_others(self) -> None:
        if self._joined:
            return
        self._joined = True  # already here: loading an entry may look up others
        try:
            for entry in entry_points(group=f"avatar.{self.group}"):
                self.register(entry.name)(entry.load())
        except BaseException:
            self._joined = False
            raise
