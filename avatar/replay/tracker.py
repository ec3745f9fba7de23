"""What each prompt has earned so far: the video-context reference score (VCRS), and the rank of prompts by it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sortedcontainers import SortedList

from avatar.errors import CheckpointError, ConfigError


@dataclass(slots=True)
class PromptHistory:
    """What is remembered of one prompt.

    Attributes:
        rewards: The last rewards of fresh completions that saw no hint.
        hinted_rewards: Likewise of those that saw it.
        last_visit: Step of its last visit.
        empty_visits: Visits in a row on which no un-hinted completion earned anything, format not counted.
        kl: Mean k3 estimate of its un-hinted completions to the reference, at the last visit that had any, nats a
            token; NaN where nothing was measured.
    """

    rewards: deque[float]
    hinted_rewards: deque[float]
    last_visit: int = 0
    empty_visits: int = 0
    kl: float = math.nan

    @property
    def score(self) -> float:
        """Mean of ``rewards``; NaN without any."""
        return _mean(self.rewards)


class RewardTracker:
    """Last rewards of every prompt, and all prompts in the order of their means.

    Only fresh rewards belong here: replayed ones were counted when they were fresh. On several machines each rank
    records the visits of all of them, in one order, so that all ranks agree.

    Args:
        window: How many rewards of a prompt count.
    """

    def __init__(self, window: int = 20) -> None:
        if window < 1:
            raise ConfigError(f"model.reward_window must be at least 1, got {window}")
        self.window = window
        self._prompts: dict[str, PromptHistory] = {}
        self._order: SortedList = SortedList()  # (score, last visit, key) of prompts with a score

    def __len__(self) -> int:
        """Number of prompts with a score."""
        return len(self._order)

    def __contains__(self, key: str) -> bool:
        return key in self._prompts

    def __getitem__(self, key: str) -> PromptHistory:
        """What is remembered of ``key``; an empty history for a prompt not seen yet."""
        found = self._prompts.get(key)
        return found if found is not None else self._empty()

    def _empty(self) -> PromptHistory:
        return PromptHistory(deque(maxlen=self.window), deque(maxlen=self.window))

    def reference_score(self, key: str, hinted: bool = False) -> float:
        r"""VCRS: :math:`\bar R(q)`, the mean of the prompt's last rewards, hinted and un-hinted ones apart.

        Returns:
            In reward units; NaN where there is none yet.

        Reference:
            AVATAR, arXiv 2508.03100, section 3.
        """
        history = self[key]
        return _mean(history.hinted_rewards if hinted else history.rewards)

    def record(
        self,
        key: str,
        rewards: Sequence[float],
        hinted_rewards: Sequence[float] = (),
        *,
        step: int,
        earned: bool = True,
        kl: float = math.nan,
    ) -> None:
        """Take in one visit. Cost: O(log n) in the number of prompts.

        Args:
            key: Of the prompt.
            rewards: Of its fresh completions that saw no hint, the valid ones.
            hinted_rewards: Of those that saw it.
            step: Of the visit.
            earned: Whether an un-hinted completion got a reward other than for its format; ends a row of empty visits.
            kl: Mean k3 of the un-hinted completions, nats a token.
        """
        history = self._prompts.setdefault(key, self[key])
        if history.rewards:
            self._order.remove((history.score, history.last_visit, key))
        history.rewards.extend(rewards)
        history.hinted_rewards.extend(hinted_rewards)
        history.last_visit = step
        if rewards:
            history.kl = kl
            history.empty_visits = 0 if earned else history.empty_visits + 1
        if history.rewards:
            self._order.add((history.score, step, key))

    def rank(self, key: str) -> int:
        """How many prompts have a lower score; equal scores are ranked by their last visit, the longer ago the lower.

        Raises:
            KeyError: The prompt has no score.
        """
        history = self._prompts[key]
        if not history.rewards:
            raise KeyError(key)
        return int(self._order.index((history.score, history.last_visit, key)))

    def at_rank(self, rank: int) -> str:
        """The prompt of that rank."""
        return str(self._order[rank][2])

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors and a list of keys, loadable with ``weights_only=True``; prompts in order of their first visit."""
        histories = list(self._prompts.values())
        return {
            "keys": list(self._prompts),
            "rewards": _pack([h.rewards for h in histories]),
            "hinted_rewards": _pack([h.hinted_rewards for h in histories]),
            "last_visit": torch.tensor([h.last_visit for h in histories], dtype=torch.int64),
            "empty_visits": torch.tensor([h.empty_visits for h in histories], dtype=torch.int64),
            "kl": torch.tensor([h.kl for h in histories], dtype=torch.float64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up again; a shorter window than before keeps the last rewards.

        Raises:
            CheckpointError: The parts do not fit together.
        """
        self._prompts, self._order = {}, SortedList()
        try:
            self._restore(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"the reward history of the checkpoint is broken ({error!r})") from None

    def _restore(self, state: dict[str, Any]) -> None:
        windows = [_unpack(state[name]) for name in ("rewards", "hinted_rewards")]
        numbers = [state[name].tolist() for name in ("last_visit", "empty_visits", "kl")]
        for key, rewards, hinted, *rest in zip(state["keys"], *windows, *numbers, strict=True):
            history = PromptHistory(deque(rewards, self.window), deque(hinted, self.window), *rest)
            self._prompts[key] = history
            if history.rewards:
                self._order.add((history.score, history.last_visit, key))


def _mean(values: deque[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _pack(rows: Sequence[deque[float]]) -> dict[str, torch.Tensor]:
    flat = [value for row in rows for value in row]
    return {"values": torch.tensor(flat, dtype=torch.float64), "lengths": torch.tensor([len(row) for row in rows])}


def _unpack(packed: dict[str, torch.Tensor]) -> list[list[float]]:
    return [row.tolist() for row in packed["values"].split(packed["lengths"].tolist())]
