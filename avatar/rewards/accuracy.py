"""How right a completion's answer is, by the type of the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from avatar.answers import gold_answer, parse_answer, same_answer
from avatar.errors import ConfigError
from avatar.rewards.base import REWARDS, Reward, Scored
from avatar.rewards.text import rouge, word_accuracy
from avatar.types import Completion, Prompt


def accuracy(
    text: str,
    answer: str,
    problem_type: str,
    options: Sequence[str] = (),
    number: Literal["release", "paper"] = "release",
    tolerance: float = 1e-3,
) -> float:
    r"""How right the answer in ``text`` is, 0 to 1; one that cannot be read gets 0, whatever the type.

    ======================== ========================================================================================
    type                     score of the answer x, gold g
    ======================== ========================================================================================
    choice, exact, location  1 if the same, else 0
    number, ``release``      1 if :math:`|x - g| \le \tau |g|`, else 0; with g = 0, 1 if :math:`|x| \le \tau`
    number, ``paper``        :math:`\max(0, 1 - |x - g| / |g|)`; with g = 0, as ``release``
    ocr                      max(0, 1 - word error rate), :func:`avatar.rewards.text.word_accuracy`
    free                     mean F of ROUGE-1, 2 and L, :func:`avatar.rewards.text.rouge`
    choices                  F1 of the two sets of options
    ======================== ========================================================================================

    Args:
        text: The completion, tags and all.
        answer: The gold answer.
        problem_type: See :func:`avatar.answers.parse_answer`.
        options: Option texts without letters; needed for ``choice``.
        number: Which rule numbers are held to.
        tolerance: Relative, absolute where the gold number is 0.

    Raises:
        ValueError: The type is unknown, or the gold answer itself cannot be read.
    """
    said, gold = parse_answer(text, problem_type, options).value, gold_answer(answer, problem_type, options)
    if said is None:
        return 0.0
    if isinstance(said, str) and isinstance(gold, str) and problem_type == "choices":
        both = set(said.split(",")) & set(gold.split(","))
        return 2 * len(both) / (said.count(",") + gold.count(",") + 2)
    if isinstance(said, str) and isinstance(gold, str) and problem_type in ("ocr", "free"):
        return word_accuracy(said, gold) if problem_type == "ocr" else rouge(said, gold)
    if isinstance(said, float) and isinstance(gold, float) and number == "paper" and gold:
        return max(0.0, 1.0 - abs(said - gold) / abs(gold))
    return float(same_answer(said, gold, tolerance))


@REWARDS.register()
class Accuracy(Reward):
    """How right the answer is by the type of the question, 0 to 1, see :func:`accuracy`; unparsed gets 0.

    Args:
        weight: Share of this reward in the sum.
        label: Another name than ``accuracy``.
        number: ``release`` gives a number 1 within ``tolerance`` and else 0, ``paper`` one minus its relative error.
        tolerance: Relative, absolute where the gold number is 0.

    Raises:
        ConfigError: ``number`` is neither, or the tolerance is negative or no number.
    """

    looks_at_group = False

    def __init__(
        self,
        weight: float = 1.0,
        label: str | None = None,
        number: Literal["release", "paper"] = "release",
        tolerance: float = 1e-3,
    ) -> None:
        super().__init__(weight, label)
        if number not in ("release", "paper"):
            raise ConfigError(f"Accuracy.number must be 'release' or 'paper', got {number!r}")
        if not 0 <= tolerance < float("inf"):
            raise ConfigError(f"Accuracy.tolerance must be 0 or more, got {tolerance}")
        self.number, self.tolerance = number, tolerance

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """[N]."""
        pairs = [(c.text, prompts[g]) for c, g in zip(completions, group.tolist(), strict=True)]
        scores = [accuracy(text, p.answer, p.problem_type, p.options, self.number, self.tolerance) for text, p in pairs]
        return Scored(torch.tensor(scores, dtype=torch.float32), torch.ones(len(scores), dtype=torch.bool))
