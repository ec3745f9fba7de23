"""Which records each batch of an epoch holds: a pure function of sizes and seed, so that an order can be resumed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import overload

from avatar.errors import ConfigError, DataError


@dataclass(frozen=True)
class Weighted:
    """A source of a mixture.

    Attributes:
        path: Shard folder or its address.
        weight: Its share of the records drawn, relative to the other sources'.
    """

    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class Phase:
    """A stretch of training on one shard folder, or on a mixture of several; one phase follows another.

    Attributes:
        path: The folder or its address.
        batches: How many batches to draw; None is one pass, in which every record of every source comes once.
        mix: Sources to draw from by weight, in place of ``path``; needs ``batches``.
    """

    path: str | None = None
    batches: int | None = None
    mix: list[Weighted] | None = None

    def check(self, name: str) -> None:
        """Raise :class:`ConfigError` where it cannot be drawn from; ``name`` is the argument's, for messages."""
        if (self.path is None) == (not self.mix):
            raise ConfigError(f"{name} needs either path or mix, and not both")
        if self.batches is not None and self.batches < 1:
            raise ConfigError(f"{name}.batches must be at least 1, got {self.batches}")
        if self.mix and self.batches is None:
            raise ConfigError(f"{name}.mix needs batches: how many to draw; drawing by weight has no end of its own")
        for i, source in enumerate(self.mix or []):
            if not 0 < source.weight < float("inf"):
                raise ConfigError(f"{name}.mix[{i}].weight must be above 0, got {source.weight}")

    @property
    def sources(self) -> list[Weighted]:
        """What is drawn from."""
        return self.mix or [Weighted(self.path or "")]


@dataclass(frozen=True)
class Stretch:
    """What the order of a phase depends on.

    Attributes:
        blocks: Of each source, the number of records in each shard.
        weights: Of each source.
        batches: How many; None is one pass.
    """

    blocks: Sequence[Sequence[int]]
    weights: Sequence[float]
    batches: int | None = None


class Plan(Sequence[Sequence[int]]):
    """Positions of each batch; batches are cut when they are asked for.

    Args:
        orders: Positions in the order of training, one row for each phase; no batch reaches into the next row.
        batch_size: Records a batch.
    """

    def __init__(self, orders: Sequence[Sequence[int]], batch_size: int) -> None:
        self.orders, self.batch_size = orders, batch_size
        self._counts = [-(-len(order) // batch_size) for order in orders]

    def __len__(self) -> int:
        return sum(self._counts)

    @overload
    def __getitem__(self, i: int) -> Sequence[int]: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Sequence[int]]: ...
    def __getitem__(self, i: int | slice) -> Sequence[int] | Sequence[Sequence[int]]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not 0 <= i < len(self):
            raise IndexError(f"batch {i} of {len(self)}")
        for order, count in zip(self.orders, self._counts, strict=True):
            if i < count:
                return order[i * self.batch_size : (i + 1) * self.batch_size]
            i -= count
        raise AssertionError


def plan_epoch(stretches: Sequence[Stretch], batch_size: int, seed: int, epoch: int, window: int | None = None) -> Plan:
    """The order of an epoch.

    Phases follow one another. Within one, every record of a source comes once before any comes again. The last batch of
    a pass may be short; with a count none is. Sources are mixed by weight as exactly as whole records allow, in random
    order.

    Args:
        stretches: One for each phase; positions run through the sources of all in order.
        batch_size: Records a batch.
        seed: Of the shuffling.
        epoch: Which pass this is.
        window: Shuffle the shards, and then the records within windows of so many, so that reading stays near one
            place; None shuffles all records of a source.

    Raises:
        DataError: Batches are wanted of a source without records.
    """
    orders, start = [], 0
    for number, stretch in enumerate(stretches):
        rng = Random(f"{seed}/{epoch}/{number}")
        orders.append(_order(stretch, number, start, batch_size, rng, window))
        start += sum(map(sum, stretch.blocks))
    return Plan(orders, batch_size)


def plan_in_order(size: int, batch_size: int, epoch: int) -> Plan:
    """Positions 0 .. size - 1, ``batch_size`` at a time, the same in every epoch."""
    return Plan([range(size)], batch_size)


def _order(stretch: Stretch, number: int, start: int, batch_size: int, rng: Random, window: int | None) -> array[int]:
    sizes = [sum(blocks) for blocks in stretch.blocks]
    wanted = sizes
    if stretch.batches is not None:
        wanted = quotas(stretch.weights, stretch.batches * batch_size)
    for size, num in zip(sizes, wanted, strict=True):
        if num and not size:
            raise DataError(
                f"phase {number}: {stretch.batches} batches are wanted, but it has no records; give another folder"
            )
    drawn = []
    for blocks, num in zip(stretch.blocks, wanted, strict=True):
        order: array[int] = array("q")
        while len(order) < num:
            order.extend(_pass(start, blocks, rng, window))
        drawn.append(order[:num])
        start += sum(blocks)
    if len(drawn) == 1:
        return drawn[0]
    turns = [source for source, num in enumerate(wanted) for _ in range(num)]
    rng.shuffle(turns)
    rows = [iter(order) for order in drawn]
    return array("q", (next(rows[source]) for source in turns))


def _pass(start: int, blocks: Sequence[int], rng: Random, window: int | None) -> list[int]:
    """Every record of a source once."""
    size = sum(blocks)
    if window is None:
        return rng.sample(range(start, start + size), size)
    shards = []
    for block in blocks:
        shards.append(range(start, start + block))
        start += block
    rng.shuffle(shards)
    order = list(chain.from_iterable(shards))
    for i in range(0, size, window):
        near = order[i : i + window]
        rng.shuffle(near)
        order[i : i + window] = near
    return order


def quotas(weights: Sequence[float], total: int) -> list[int]:
    """``total`` shared out by weight in whole numbers, the largest remainders rounded up; ties to the first."""
    exact = [total * weight / sum(weights) for weight in weights]
    shares = [int(x) for x in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares
