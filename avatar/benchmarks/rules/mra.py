"""How near a number is to the right one: VSI-Bench's rule."""

from __future__ import annotations

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as there: 1 less these, in floats, decides what is just near enough


def mean_relative_accuracy(said: float, gold: float) -> float:
    r"""In how many of ten steps ``said`` is near enough.

    .. math:: MRA = \frac{1}{10} \sum_{\theta \in \{.5, .55, \dots, .95\}} [\, |x - g| / g \le 1 - \theta \,]

    With g = 0, 1 if the two are the same and else 0. What is no number at all (nan) is never near.

    Args:
        said: The answer.
        gold: The right one, 0 or more.

    Returns:
        0 to 1, in tenths.

    Reference:
        Thinking in Space, arXiv 2412.14171, section 3.3.
    """
    if gold == 0:
        return float(said == gold)
    return float((abs(said - gold) / gold <= 1 - THRESHOLDS).mean())
