r"""The rule of Video-MME, which others took over: drop set phrases, then take the first capital letter of an option.

Reference:
    github.com/thanku-all/parse_answer, which Video-MME points to; copies with other phrases in open-compass/VLMEvalKit
    and EvolvingLMMs-Lab/lmms-eval.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# The list there lacks two commas, so that two pairs of phrases are one long phrase each, which no reply holds: the B of
# "Best answer: C" is what is read.
VIDEO_MME_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
    "Answer:",
    "Option:",
)
VIDEO_TT_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)


def first_character(reply: str, letters: str = "ABCD", phrases: Sequence[str] = VIDEO_MME_PHRASES) -> str:
    """The first of ``letters`` in the reply less all ``phrases``, which are dropped in their order wherever they stand.

    Words count: ``Depending on the frame: C`` gives ``D``, ``A man`` gives ``A``.

    Args:
        reply: The raw reply.
        letters: Capital letters that count.
        phrases: What is dropped first.

    Returns:
        The letter; empty where there is none.
    """
    for phrase in phrases:
        reply = reply.replace(phrase, "")
    match = re.search(f"[{letters}]", reply)
    return match[0] if match else ""
