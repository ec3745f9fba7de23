"""The stratified replay buffer: completions as plain data, in tiers by how hard their prompt is.

Shapes: T completion tokens. Costs are in the number of stored completions and of prompts, whichever is larger.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from typing import Any

import torch
from torch import Tensor

from avatar.errors import CheckpointError
from avatar.replay.settings import TIERS, Replay
from avatar.replay.shelf import Entry, Shelf, Tier
from avatar.replay.tracker import RewardTracker


@dataclass(frozen=True)
class Occupancy:
    """How full a tier is.

    Attributes:
        entries: Completions in it.
        quota: Completions that fit.
        prompts: Prompts that they are of.
    """

    entries: int
    quota: int
    prompts: int


class ReplayBuffer:
    """Completions in three tiers by the rank of their prompt among all tracked ones.

    A prompt's tier follows its reference score: when the score moves, its completions move with it. A tier that is over
    its quota loses its oldest completion, so hard prompts, which have the largest share, keep the most room. ``add``,
    ``refile`` and each completion of a ``draw`` cost O(log n).

    Args:
        settings: Sizes, shares and how to draw.
        tracker: Whose ranks decide; the caller records a visit there and then calls :meth:`refile`.
    """

    def __init__(self, settings: Replay, tracker: RewardTracker) -> None:
        self.settings, self.tracker = settings, tracker
        self._clear()

    def _clear(self) -> None:
        self._tiers = {tier: Tier(quota) for tier, quota in self.settings.quotas().items()}
        self._shelves: dict[str, Shelf] = {}
        self._keys: list[str | None] = []  # by slot
        self._free: list[int] = []  # slots, a heap: the lowest is taken first
        self._serial = 0
        self.num_evicted = 0

    def __len__(self) -> int:
        return sum(tier.count for tier in self._tiers.values())

    def __iter__(self) -> Iterator[Entry]:
        """All completions, prompt by prompt, the oldest first."""
        return (entry for shelf in self._shelves.values() for entry in shelf)

    def __contains__(self, key: str) -> bool:
        """Whether any completion of the prompt is stored."""
        return key in self._shelves

    def occupancy(self) -> dict[str, Occupancy]:
        """By tier."""
        return {name: Occupancy(tier.count, tier.quota, tier.num_shelves) for name, tier in self._tiers.items()}

    # -- storing -----------------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        """Store a completion; a full tier loses its oldest for it."""
        shelf = self._shelves.get(entry.key) or self._new_shelf(entry.key)
        tier = self._tiers[shelf.tier]
        tier.remove(shelf)
        shelf.append(self._serial, entry, self._weight(entry))
        tier.insert(shelf)
        self._serial += 1
        self._fit(tier)

    def _weight(self, entry: Entry) -> float:
        if self.settings.draw != "priority":
            return 1.0
        scaled = entry.priority / self.settings.priority_temperature
        return math.exp(min(max(scaled, -600.0), 600.0))  # so far a sum of weights neither overflows nor vanishes

    def tier_of(self, key: str) -> str:
        """By the rank of its reference score; a prompt that has none (only ever hinted) is hard."""
        if not self.tracker[key].rewards:
            return TIERS[0]
        rank, edges = self.tracker.rank(key), self._edges()
        return TIERS[sum(rank >= edge for edge in edges)]

    def _edges(self) -> list[int]:
        """Lowest rank of the medium and of the easy tier."""
        return [math.ceil(edge * len(self.tracker) - 1e-9) for edge in self.settings.edges()]

    def refile(self, changed: Sequence[str]) -> None:
        """Bring tiers up to date after ``changed`` prompts have been recorded in the tracker.

        A changed score shifts the ranks between its old and its new place by one, so besides the changed prompts only
        those next to an edge between tiers can have crossed it.
        """
        reach = 2 * len(changed) + 1
        near = {
            self.tracker.at_rank(rank)
            for edge in self._edges()
            for rank in range(max(0, edge - reach), min(len(self.tracker), edge + reach))
        }
        for key in sorted(near.union(changed) & self._shelves.keys()):
            self._move(self._shelves[key], self.tier_of(key))
        for tier in self._tiers.values():
            self._fit(tier)

    def _move(self, shelf: Shelf, name: str) -> None:
        if name != shelf.tier:
            self._tiers[shelf.tier].remove(shelf)
            shelf.tier = name
            self._tiers[name].insert(shelf)

    def _fit(self, tier: Tier) -> None:
        while tier.count > tier.quota:
            self._pop_oldest(tier)
            self.num_evicted += 1

    def expire(self, oldest_step: int) -> int:
        """Drop what was made before ``oldest_step``; returns how many that were."""
        before = len(self)
        for tier in self._tiers.values():
            while tier.count and self._shelves[tier.oldest_key()].oldest.step < oldest_step:
                self._pop_oldest(tier)
        return before - len(self)

    def drop_prompt(self, key: str) -> None:
        """Forget all completions of a prompt, as when its clip can no longer be read."""
        if shelf := self._shelves.get(key):
            self._tiers[shelf.tier].remove(shelf)
            self._release(shelf)

    def _pop_oldest(self, tier: Tier) -> Entry:
        return self._pop(self._shelves[tier.oldest_key()])

    def _pop(self, shelf: Shelf) -> Entry:
        tier = self._tiers[shelf.tier]
        tier.remove(shelf)
        entry = shelf.popleft()
        if len(shelf):
            tier.insert(shelf)
        else:
            self._release(shelf)
        return entry

    def _new_shelf(self, key: str) -> Shelf:
        slot = heapq.heappop(self._free) if self._free else len(self._keys)
        if slot == len(self._keys):
            self._keys.append(None)
        shelf = Shelf(key, slot, self.tier_of(key))
        self._keys[slot] = key
        self._shelves[key] = shelf
        return shelf

    def _release(self, shelf: Shelf) -> None:
        del self._shelves[shelf.key]
        self._keys[shelf.slot] = None
        heapq.heappush(self._free, shelf.slot)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, num: int, rng: Random, key: str | None = None) -> list[Entry]:
        """Up to ``num`` different completions.

        Args:
            num: How many are wanted.
            rng: Source of chance.
            key: Draw completions of this prompt; None draws from the tiers, by their shares as far as they reach and
                then from those that have more, the hardest first.

        Returns:
            As many as there are, at most ``num``. With ``fifo`` they leave the buffer.
        """
        if key is not None:
            shelf = self._shelves.get(key)
            return self._draw_shelf(shelf, num, rng) if shelf else []
        counts = self._allot(num, rng)
        return [entry for name, count in counts.items() for entry in self._draw_tier(self._tiers[name], count, rng)]

    def _allot(self, num: int, rng: Random) -> dict[str, int]:
        """How many of each tier: systematic sampling, so that every tier has its share in the mean, then fill-up."""
        start, edges = rng.random(), [0.0, *self.settings.edges(), 1.0]
        marks = [min(num, math.floor(num * edge + start)) for edge in edges]
        wanted = {name: high - low for name, (low, high) in zip(TIERS, pairwise(marks), strict=True)}
        counts = {name: min(wanted[name], self._tiers[name].count) for name in TIERS}
        for name in TIERS:
            counts[name] += min(num - sum(counts.values()), self._tiers[name].count - counts[name])
        return counts

    def _draw_shelf(self, shelf: Shelf, num: int, rng: Random) -> list[Entry]:
        if self.settings.draw == "fifo":
            return [self._pop(shelf) for _ in range(min(num, len(shelf)))]
        taken = [shelf.take(rng) for _ in range(min(num, len(shelf)))]
        shelf.restore()
        return taken

    def _draw_tier(self, tier: Tier, num: int, rng: Random) -> list[Entry]:
        if self.settings.draw == "fifo":
            return [self._pop_oldest(tier) for _ in range(num)]
        taken, touched = [], {}
        for _ in range(num):
            shelf = self._shelves[self._keys[tier.weights.find(rng.random() * tier.weights.total)]]  # type: ignore[index]
            taken.append(shelf.take(rng))
            tier.weights[shelf.slot] = shelf.weights.total
            touched[shelf.slot] = shelf
        for slot, shelf in touched.items():
            shelf.restore()
            tier.weights[slot] = shelf.weights.total
        return taken

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors and a list of keys, loadable with ``weights_only=True``; about 12 bytes a token."""
        shelves, entries = list(self._shelves.values()), list(self)
        has_reference = [e.ref_logprobs is not None for e in entries]
        return {
            "keys": [shelf.key for shelf in shelves],
            "slots": torch.tensor([shelf.slot for shelf in shelves], dtype=torch.int64),
            "counts": torch.tensor([len(shelf) for shelf in shelves], dtype=torch.int64),
            "serials": torch.tensor([s for shelf in shelves for s in shelf.serials()], dtype=torch.int64),
            "ids": _cat([e.ids for e in entries], torch.int32),
            "behaviour_logprobs": _cat([e.behaviour_logprobs for e in entries], torch.float32),
            "ref_logprobs": _cat([e.ref_logprobs for e in entries if e.ref_logprobs is not None], torch.float32),
            "has_reference": torch.tensor(has_reference, dtype=torch.bool),
            "lengths": torch.tensor([len(e) for e in entries], dtype=torch.int64),
            "rewards": torch.tensor([e.reward for e in entries], dtype=torch.float64),
            "hinted": torch.tensor([e.hinted for e in entries], dtype=torch.bool),
            "steps": torch.tensor([e.step for e in entries], dtype=torch.int64),
            "priorities": torch.tensor([e.priority for e in entries], dtype=torch.float64),
            "next_serial": self._serial,
            "num_evicted": self.num_evicted,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up again; the tracker must have been loaded before.

        Raises:
            CheckpointError: The parts do not fit together.
        """
        self._clear()
        try:
            self._restore(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"the replay buffer of the checkpoint is broken ({error!r})") from None
        for tier in self._tiers.values():  # the capacity may be smaller than it was
            self._fit(tier)

    def _restore(self, state: dict[str, Any]) -> None:
        keys, slots, counts = state["keys"], state["slots"].tolist(), state["counts"].tolist()
        if len(set(keys)) < len(keys) or len(set(slots)) < len(slots) or min([*slots, 0]) < 0 or 0 in counts:
            raise ValueError("prompts that share a place, or without completions")
        stored = list(zip(state["serials"].tolist(), _unpack(state), strict=True))
        ends = [0, *accumulate(counts)]
        self._keys = [None] * (max(slots, default=-1) + 1)
        for key, slot, (start, end) in zip(keys, slots, pairwise(ends), strict=True):
            shelf = Shelf(key, slot, self.tier_of(key))
            for serial, entry in stored[start:end]:
                shelf.append(serial, entry, self._weight(entry))
            self._shelves[key], self._keys[slot] = shelf, key
            self._tiers[shelf.tier].insert(shelf)
        self._free = [slot for slot, key in enumerate(self._keys) if key is None]
        self._serial, self.num_evicted = state["next_serial"], state["num_evicted"]


def _cat(rows: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat(list(rows)).to(dtype) if rows else torch.empty(0, dtype=dtype)


def _unpack(state: dict[str, Any]) -> list[Entry]:
    """The entries; each copies its tokens, so that none keeps the whole checkpoint alive."""
    lengths = state["lengths"].tolist()
    ids, behaviour = (state[name].split(lengths) for name in ("ids", "behaviour_logprobs"))
    with_reference = [n for n, has in zip(lengths, state["has_reference"].tolist(), strict=True) if has]
    references = iter(state["ref_logprobs"].split(with_reference))
    keys = [key for key, n in zip(state["keys"], state["counts"].tolist(), strict=True) for _ in range(n)]
    columns = [state[name].tolist() for name in ("has_reference", "rewards", "hinted", "steps", "priorities")]
    return [
        Entry(key, i, b, next(references) if has else None, *rest)
        for key, i, b, has, *rest in zip(keys, ids, behaviour, *columns, strict=True)
    ]
