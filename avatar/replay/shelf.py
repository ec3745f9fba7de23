"""What the buffer is made of: a completion, the completions of a prompt, the prompts of a tier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from sortedcontainers import SortedList
from torch import Tensor

from avatar.replay.sumtree import SumTree


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Entry:
    """A stored completion: a few KB, no pixels; the clip comes back by the key.

    Its tokens lie in one array, 12 bytes each: three tensors would cost twice as much.

    Attributes:
        key: Of its prompt.
        reward: Weighted sum.
        hinted: Whether it was written under the hinted prompt, under which it must be scored.
        step: Optimizer step it was made at.
        priority: Fixed when it was stored.
    """

    key: str
    reward: float
    hinted: bool
    step: int
    priority: float
    _tokens: np.ndarray  # [2 or 3, T] int32: ids, and the bits of the log-probs

    def __init__(
        self,
        key: str,
        ids: Tensor,
        behaviour_logprobs: Tensor,
        ref_logprobs: Tensor | None,
        reward: float,
        hinted: bool,
        step: int,
        priority: float,
    ) -> None:
        given = [x for x in (behaviour_logprobs, ref_logprobs) if x is not None]
        rows = [ids.int(), *(x.float().contiguous().view(torch.int32) for x in given)]
        plain = {"key": key, "reward": reward, "hinted": hinted, "step": step, "priority": priority}
        for name, value in {**plain, "_tokens": torch.stack(rows).cpu().numpy().copy()}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """T."""
        return self._tokens.shape[1]

    @property
    def ids(self) -> Tensor:
        """[T] int32."""
        return torch.from_numpy(self._tokens[0])

    @property
    def behaviour_logprobs(self) -> Tensor:
        """[T] float32 nats, taken while sampling; never computed again."""
        return torch.from_numpy(self._tokens[1].view(np.float32))

    @property
    def ref_logprobs(self) -> Tensor | None:
        """[T] float32 nats under the frozen reference, which never change either; None without a KL term."""
        return torch.from_numpy(self._tokens[2].view(np.float32)) if len(self._tokens) == 3 else None


_GONE: Any = (-1, None)  # holds no entry, so that what has left the buffer can be freed


class Shelf:
    """The completions of one prompt, a queue with weights: only the oldest leaves.

    Attributes:
        key: Of the prompt.
        slot: Its place in the weights of its tier.
        tier: The tier it stands in.
        weights: Of its completions.
    """

    def __init__(self, key: str, slot: int, tier: str) -> None:
        self.key, self.slot, self.tier = key, slot, tier
        self.weights = SumTree()
        self._items: list[tuple[int, Entry]] = []  # (serial, entry); those before _head have left
        self._head = 0
        self._taken: list[tuple[int, float]] = []

    def __len__(self) -> int:
        return len(self._items) - self._head

    def __iter__(self) -> Iterator[Entry]:
        """The oldest first."""
        return (entry for _, entry in self._items[self._head :])

    def serials(self) -> Iterator[int]:
        """Of its entries, the oldest first."""
        return (serial for serial, _ in self._items[self._head :])

    @property
    def age(self) -> tuple[int, str]:
        """Serial of the oldest, and the key: what tiers sort by."""
        return self._items[self._head][0], self.key

    @property
    def oldest(self) -> Entry:
        """The next to leave."""
        return self._items[self._head][1]

    def append(self, serial: int, entry: Entry, weight: float) -> None:
        """Put the newest in."""
        self.weights[len(self._items)] = weight
        self._items.append((serial, entry))

    def popleft(self) -> Entry:
        """Take the oldest out; every so often the places that have become empty are closed up."""
        entry = self.oldest
        self._items[self._head] = _GONE
        self.weights[self._head] = 0.0
        self._head += 1
        if self._head > 16 and self._head > len(self):
            kept = [self.weights[i] for i in range(self._head, len(self._items))]
            self._items, self._head, self.weights = self._items[self._head :], 0, SumTree()
            for i, weight in enumerate(kept):
                self.weights[i] = weight
        return entry

    def take(self, rng: Random) -> Entry:
        """Draw one in proportion to the weights, and not again before :meth:`restore`."""
        i = self.weights.find(rng.random() * self.weights.total)
        self._taken.append((i, self.weights[i]))
        self.weights[i] = 0.0
        return self._items[i][1]

    def restore(self) -> None:
        """All can be drawn again."""
        for i, weight in self._taken:
            self.weights[i] = weight
        self._taken = []


class Tier:
    """The prompts of one tier, by the age of their oldest completion and by weight.

    Args:
        quota: Completions that fit.

    Attributes:
        count: Completions in it.
        weights: Of its prompts, by slot.
    """

    def __init__(self, quota: int) -> None:
        self.quota, self.count = quota, 0
        self.weights = SumTree()
        self._by_age: SortedList = SortedList()

    @property
    def num_shelves(self) -> int:
        """Prompts in it."""
        return len(self._by_age)

    def oldest_key(self) -> str:
        """The prompt of the oldest completion."""
        return str(self._by_age[0][1])

    def insert(self, shelf: Shelf) -> None:
        """Put a shelf in, as it stands."""
        self._by_age.add(shelf.age)
        self.weights[shelf.slot] = shelf.weights.total
        self.count += len(shelf)

    def remove(self, shelf: Shelf) -> None:
        """Take a shelf out before it is changed; an empty one was not in."""
        if len(shelf):
            self._by_age.remove(shelf.age)
            self.weights[shelf.slot] = 0.0
            self.count -= len(shelf)
