"""Whether a completion agrees with most of its group: a reward that needs no gold answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from avatar.answers import normalize, parse_answer
from avatar.errors import ConfigError
from avatar.rewards.base import REWARDS, Reward, Scored
from avatar.types import Completion, Prompt

Vote = int | float | str


def majority(votes: Sequence[Vote], min_votes: int = 2) -> Vote | None:
    """The one most frequent vote; None where two share the first place, or it has fewer than ``min_votes``."""
    top = Counter(votes).most_common(2)
    if not top or top[0][1] < min_votes or (len(top) > 1 and top[0][1] == top[1][1]):
        return None
    return top[0][0]


def vote_of(completion: Completion, prompt: Prompt) -> Vote | None:
    """The parsed answer in a form in which equal answers are equal: floats, option indices, normalised texts."""
    value = parse_answer(completion.text, prompt.problem_type, prompt.options).value
    return normalize(value) or value if isinstance(value, str) else value


@REWARDS.register()
class SelfConsistency(Reward):
    r"""1 for the answer that most completions of the group give, else 0; the gold answer is never looked at.

    .. math:: r_i = [a_i = \operatorname{mode}_{j \in g(i)} a_j]

    A tie for the first place, or a first place of fewer than ``min_votes``, gives the whole group 0: nothing is taken
    for the truth then. An answer that cannot be read neither votes nor earns; what the length limit has cut off does
    not vote. The half of a group that saw a hint votes by itself.

    Args:
        weight: Share of this reward in the sum.
        label: Another name than ``selfconsistency``.
        min_votes: Fewest completions that must agree.

    Raises:
        ConfigError: ``min_votes`` is below 1.

    Reference:
        Zuo et al., TTRL, arXiv 2504.16084, section 2.2.
    """

    def __init__(self, weight: float = 1.0, label: str | None = None, min_votes: int = 2) -> None:
        super().__init__(weight, label)
        if min_votes < 1:
            raise ConfigError(f"SelfConsistency.min_votes must be at least 1, got {min_votes}")
        self.min_votes = min_votes

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """[N]."""
        of = group.tolist()
        votes = [vote_of(c, prompts[g]) for c, g in zip(completions, of, strict=True)]
        counted: dict[int, list[Vote]] = {g: [] for g in of}
        for vote, completion, g in zip(votes, completions, of, strict=True):
            if vote is not None and completion.finished:
                counted[g].append(vote)
        labels = {g: majority(members, self.min_votes) for g, members in counted.items()}
        agrees = [vote is not None and vote == labels[g] for vote, g in zip(votes, of, strict=True)]
        return Scored(torch.tensor(agrees, dtype=torch.float32), torch.ones(len(of), dtype=torch.bool))
