"""Weights by slot, with their sum and a proportional draw in O(log n)."""

from __future__ import annotations

from array import array


class SumTree:
    """A complete binary tree whose leaves are weights and whose inner nodes are sums.

    Every node is computed from its children, never by adding and taking away, so that sums do not drift and depend on
    the weights alone. It grows by doubling.
    """

    def __init__(self) -> None:
        self._size = 1
        self._nodes = array("d", [0.0, 0.0])  # node i has children 2 i and 2 i + 1; leaves start at _size

    def __getitem__(self, slot: int) -> float:
        return self._nodes[self._size + slot] if slot < self._size else 0.0

    def __setitem__(self, slot: int, weight: float) -> None:
        while slot >= self._size:
            self._grow()
        nodes, i = self._nodes, self._size + slot
        nodes[i] = weight
        while i > 1:
            i //= 2
            nodes[i] = nodes[2 * i] + nodes[2 * i + 1]

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return self._nodes[1]

    def find(self, amount: float) -> int:
        """The slot that ``amount``, in 0 .. total, falls into when the weights lie end to end.

        A slot of weight 0 is never found, whatever the rounding.

        Raises:
            ValueError: All weights are 0.
        """
        nodes, i = self._nodes, 1
        if not nodes[1] > 0:
            raise ValueError("all weights are 0")
        while i < self._size:
            left = nodes[2 * i]
            if (amount < left and left > 0) or not nodes[2 * i + 1] > 0:
                i = 2 * i
            else:
                amount, i = amount - left, 2 * i + 1
        return i - self._size

    def _grow(self) -> None:
        leaves = self._nodes[self._size :]
        self._nodes = array("d", bytes(16 * self._size)) + leaves + array("d", bytes(8 * self._size))
        self._size *= 2
        for i in range(self._size - 1, 0, -1):
            self._nodes[i] = self._nodes[2 * i] + self._nodes[2 * i + 1]
