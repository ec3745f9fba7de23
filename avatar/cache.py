"""A least-recently-used store with a bound in bytes, and what runs of one process share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class ByteCache:
    """Keeps the values used last, up to a number of bytes.

    Args:
        max_bytes: Entries that do not fit push out the oldest; one larger than the whole is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any | None:
        """The value, now the youngest; None if it is not held."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: Any, value: Any, num_bytes: int) -> None:
        """Hold ``value``, which takes ``num_bytes``."""
        if num_bytes > self.max_bytes:
            return
        if key in self._entries:
            self.num_bytes -= self._entries.pop(key)[1]
        self._entries[key] = (value, num_bytes)
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= self._entries.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)


_shared: dict[Hashable, Any] | None = None


@contextmanager
def sharing(store: dict[Hashable, Any]) -> Iterator[None]:
    """Inside, what is made by :func:`shared` is held in ``store`` and found there again.

    Runs that follow one another in one process so decode and encode each clip once. Not to be nested.
    """
    global _shared
    _shared = store
    try:
        yield
    finally:
        _shared = None


def shared(key: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` gives; inside :func:`sharing`, what it gave when it was first called for ``key``.

    Args:
        key: Must name all that the value depends on, its kind included.
        make: Called without arguments.
    """
    if _shared is None:
        return make()
    if key not in _shared:
        _shared[key] = make()
    found: T = _shared[key]
    return found


def is_sharing() -> bool:
    """Whether :func:`sharing` is on."""
    return _shared is not None
