"""All that a run remembers of its prompts: what they earned, what was written for them, who needs a hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from avatar.errors import CheckpointError
from avatar.replay.buffer import ReplayBuffer
from avatar.replay.hints import HintTrigger
from avatar.replay.settings import Replay
from avatar.replay.shelf import Entry
from avatar.replay.tracker import RewardTracker
from avatar.types import Prompt


@dataclass(frozen=True)
class Visit:
    """What one visit of a prompt brought.

    Attributes:
        key: Of the prompt.
        step: Optimizer step of the visit.
        rewards: Of the valid completions that saw no hint.
        hinted_rewards: Of the valid ones that saw it.
        earned: Whether one that saw no hint got a reward other than for its format.
        kl: Mean k3 to the reference of those that saw no hint, nats a token; NaN without a reference.
        entries: The valid completions, to be stored.
    """

    key: str
    step: int
    rewards: list[float]
    hinted_rewards: list[float]
    earned: bool
    kl: float
    entries: list[Entry]


class Memory:
    """Reward tracker, replay buffer and hint trigger, kept in step with each other.

    Args:
        replay: Settings of the buffer; None holds nothing.
        hints: When a hint is shown; None is never.
        window: Rewards of a prompt that make its reference score.

    Attributes:
        replay_since: Step at which the buffer had its minimum; None before.
        first_replay: Step at which something was first replayed, where the ramp of alpha starts; None before.
    """

    def __init__(self, replay: Replay | None = None, hints: HintTrigger | None = None, window: int = 20) -> None:
        self.replay, self.hints = replay, hints
        self.tracker = RewardTracker(window)
        self.buffer = ReplayBuffer(replay, self.tracker) if replay else None
        self.replay_since: int | None = None
        self.first_replay: int | None = None

    def wants_hint(self, key: str) -> bool:
        """Whether the next visit of this prompt should show its hint."""
        return self.hints is not None and self.hints(self.tracker[key], self.tracker.window)

    def alpha(self, step: int) -> float:
        """Weight of the replayed part at ``step``; 0 as long as nothing may be replayed."""
        if self.replay is None or self.replay_since is None:
            return 0.0
        return self.replay.alpha_at(0 if self.first_replay is None else step - self.first_replay)

    def draw(self, prompts: Sequence[Prompt], wanted: Sequence[bool], step: int, rng: Random) -> list[list[Entry]]:
        """Stored completions for each of B prompts, none where they are not wanted or there are none.

        Args:
            prompts: B prompts being visited.
            wanted: [B], whether to replay for them.
            step: Now; what is too stale goes.
            rng: Source of chance.
        """
        if self.buffer is None or self.replay is None or self.alpha(step) == 0:
            return [[] for _ in prompts]
        if self.replay.max_staleness is not None:
            self.buffer.expire(step - self.replay.max_staleness)
        own, num = self.replay.scope == "prompt", self.replay.num_replayed
        return [
            self.buffer.draw(num, rng, prompt.key if own else None) if want else []
            for prompt, want in zip(prompts, wanted, strict=True)
        ]

    def record(self, visits: Sequence[Visit], replayed: bool = False) -> None:
        """Take in what a step has brought, in order: rewards first, then tiers, then completions.

        Args:
            visits: Of the step, those of all ranks.
            replayed: Whether anything was replayed in it, on any rank.
        """
        for v in visits:
            self.tracker.record(v.key, v.rewards, v.hinted_rewards, step=v.step, earned=v.earned, kl=v.kl)
        if self.buffer is None or self.replay is None:
            return
        self.buffer.refile([v.key for v in visits])
        for visit in visits:
            for entry in visit.entries:
                self.buffer.add(entry)
        if self.replay_since is None and visits and len(self.buffer) >= max(1, self.replay.minimum):
            self.replay_since = visits[-1].step
        if self.first_replay is None and replayed:
            self.first_replay = visits[-1].step

    def state_dict(self) -> dict[str, Any]:
        """Tensors, lists and numbers, loadable with ``weights_only=True``."""
        buffer = self.buffer.state_dict() if self.buffer is not None else None
        since = {"replay_since": self.replay_since, "first_replay": self.first_replay}
        return {"tracker": self.tracker.state_dict(), "buffer": buffer, **since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up again; a buffer that this run has no use for is left, one that is not there starts empty.

        Raises:
            CheckpointError: The parts do not fit together.
        """
        if missing := {"tracker", "buffer", "replay_since", "first_replay"} - state.keys():
            raise CheckpointError(f"the memory of the checkpoint is broken: it lacks {', '.join(sorted(missing))}")
        self.tracker.load_state_dict(state["tracker"])
        if self.buffer is not None and state["buffer"] is not None:
            self.buffer.load_state_dict(state["buffer"])
            self.replay_since, self.first_replay = state["replay_since"], state["first_replay"]
