"""A least-recently-used store with a bound in bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


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
