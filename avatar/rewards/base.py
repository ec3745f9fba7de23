"""What a reward is: a batch of completions with their groups in, one number each out."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avatar.errors import ConfigError
from avatar.registry import Registry
from avatar.types import Completion, Prompt

_LABEL = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TAKEN = ("mean", "std", "invalid_share")  # columns of the sum: reward/mean and the like


@dataclass(frozen=True)
class Scored:
    """Rewards of a batch.

    Attributes:
        rewards: [N] float32.
        valid: [N] bool, False where this reward could not be given; such a completion is not trained on.
        parts: Finer figures by name, [N] each, NaN where there is none; logged and stored as ``reward/<name>/<part>``.
    """

    rewards: Tensor
    valid: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """What all rewards of a run say of a batch.

    Attributes:
        rewards: [N] float32, the weighted sum; a reward that is not valid adds 0.
        valid: [N] bool, whether every reward of a weight other than 0 could be given.
        parts: [N] each, by ``name`` and ``name/part``, without weights, NaN where not valid.
        earned: [N] bool, whether the rewards that look at the answer come to more than 0.
    """

    rewards: Tensor
    valid: Tensor
    parts: dict[str, Tensor]
    earned: Tensor


class Reward(ABC):
    """Scores a batch of completions. It sees whole groups, so that majority votes and judges fit.

    Args:
        weight: Share of this reward in the sum; with 0 it is logged and stored, and trains nothing.
        label: Another name than the class's, so that two rewards of one class fit into a run.

    Attributes:
        earns: Whether it says anything about the answer; what only looks at the form does not end a row of failures.
        looks_at_group: Whether a completion's score may hang on the others of its group.

    Raises:
        ConfigError: The weight is not finite, or the label is no name.
    """

    earns: bool = True
    looks_at_group: bool = True

    def __init__(self, weight: float = 1.0, label: str | None = None) -> None:
        if not math.isfinite(weight):
            raise ConfigError(f"weight of a reward must be a finite number, got {weight}")
        if label is not None and not _LABEL.fullmatch(label):
            raise ConfigError(f"label of a reward must be small letters, digits, '_' and '-', got {label!r}")
        self.weight, self.label = weight, label

    @property
    def name(self) -> str:
        """The label, or the class name in lower case; the reward is logged as ``reward/<name>``."""
        return self.label or type(self).__name__.lower()

    def check(self, prompt: Prompt) -> None:  # noqa: B027  nothing to see to is the rule
        """See to what the reward needs (a server, a file), once and before a model is loaded.

        Args:
            prompt: One that it will be asked about.

        Raises:
            ConfigError: It cannot work.
        """

    def leaves(self) -> list[tuple[float, Reward]]:
        """The rewards that score, each with its share in the sum: this one, unless it is made of others."""
        return [(self.weight, self)]

    @abstractmethod
    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """Score N completions.

        Args:
            prompts: B prompts.
            completions: N completions.
            group: [N] int, which prompt each completion answers.
        """


REWARDS: Registry[type[Reward]] = Registry("reward", "rewards")


def score(
    rewards: Sequence[Reward], prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor
) -> Score:
    r"""The weighted sum over all leaves of ``rewards``.

    .. math:: R_i = \sum_k w_k r_{k,i}

    Without rewards every completion gets 0 and is valid. A leaf of weight 0 makes no completion invalid.

    Args:
        rewards: Single ones and sums.
        prompts: B prompts.
        completions: N completions.
        group: [N] int, which prompt each completion answers.

    Raises:
        ConfigError: Two leaves share a name, or one returns another number of scores than completions, or a NaN.
    """
    num = len(completions)
    total, earned, valid = torch.zeros(num), torch.zeros(num), torch.ones(num, dtype=torch.bool)
    parts: dict[str, Tensor] = {}
    for weight, reward in leaves_of(rewards):
        scored = _ask(reward, prompts, completions, group)
        _check(reward, scored, num)
        share = weight * torch.where(scored.valid, scored.rewards, 0.0)
        total = total + share
        earned = earned + share if reward.earns else earned
        valid = valid & scored.valid if weight else valid
        named = {reward.name: scored.rewards, **{f"{reward.name}/{k}": part for k, part in scored.parts.items()}}
        parts |= {name: torch.where(scored.valid, part.float(), torch.nan) for name, part in named.items()}
    return Score(total, valid, parts, earned > 0)


def rehearse(rewards: Sequence[Reward], prompt: Prompt) -> None:
    """Try every reward on two empty completions, so that one that cannot work is told before a model is loaded.

    Args:
        rewards: Single ones and sums.
        prompt: Any that they will be asked about.

    Raises:
        ConfigError: What a reward needs is not there, or see :func:`score`.
    """
    for _, reward in leaves_of(rewards):
        reward.check(prompt)
    empty = Completion(torch.tensor([0]), torch.zeros(1), "", finished=True)
    score(rewards, [prompt], [empty, empty], torch.zeros(2, dtype=torch.long))


def leaves_of(rewards: Sequence[Reward]) -> list[tuple[float, Reward]]:
    """All leaves of several rewards, each with its share in the sum.

    Raises:
        ConfigError: Two of them share a name, or one has the name of a column of the sum.
    """
    leaves = [leaf for reward in rewards for leaf in reward.leaves()]
    names = [reward.name for _, reward in leaves]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two rewards are called {name!r}; give one of them another name: label: {name}2")
        if name in _TAKEN:
            raise ConfigError(f"a reward is called {name!r}, like the column reward/{name} of the sum; give it a label")
    return leaves


def _ask(reward: Reward, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
    try:
        return reward(prompts, completions, group)
    except Exception as error:
        error.add_note(f"raised by the reward {reward.name!r}, {type(reward).__module__}.{type(reward).__qualname__}")
        raise


def _check(reward: Reward, scored: Scored, num: int) -> None:
    if scored.rewards.shape != (num,) or scored.valid.shape != (num,):
        shape = f"{tuple(scored.rewards.shape)} and {tuple(scored.valid.shape)}"
        raise ConfigError(f"reward {reward.name!r} must return [N] rewards and [N] valid for N = {num}, got {shape}")
    if scored.valid.dtype != torch.bool:
        raise ConfigError(f"reward {reward.name!r} must return valid as bool, got {scored.valid.dtype}")
    if not scored.rewards[scored.valid].isfinite().all():
        raise ConfigError(f"reward {reward.name!r} gave a NaN or an infinity; mark the completion as not valid instead")
    for name, part in scored.parts.items():
        if part.shape != (num,) or part.isinf().any():
            raise ConfigError(
                f"part {name!r} of reward {reward.name!r} must be [N] for N = {num}, finite or NaN, got "
                f"{tuple(part.shape) if part.shape != (num,) else 'an infinity'}"
            )
