"""The rule of MMMU, which others took over with changes: forms of a letter one after the other, then option texts.

Reference:
    github.com/MMMU-Benchmark/MMMU, ``eval/eval_utils.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# (how a letter must stand to count, what tells where it stands): the two differ in places, by the copies' own slips.
Form = tuple[str, str]
OMNIBENCH_FORMS: tuple[Form, ...] = (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} "))
AV_ODYSSEY_FORMS: tuple[Form, ...] = (("{}", "({})"),)
MARKS = ",.!?;:'"


def mmmu_choice(
    reply: str, options: Mapping[str, str], forms: Sequence[Form], default: str = "", strip: str = ""
) -> str:
    """The letter that stands in ``reply`` in the first form that any stands in; failing that, one whose text it holds.

    Of several letters in one form the last one counts, by where its second form stands; where that stands nowhere for
    any of them, the first in the alphabet. Texts are looked for, in small letters, in a reply of more than five words
    only.

    Args:
        reply: The raw reply; a blank is put before and behind it.
        options: Texts by letter.
        forms: In their order, with ``{}`` for the letter.
        default: What comes of a reply that holds none.
        strip: Characters to take off both ends first, each of them once in this order.

    Returns:
        A letter, or ``default``.
    """
    for mark in strip:
        reply = reply.strip(mark)
    reply = f" {reply} "
    for seen, placed in forms:
        if found := {x: reply.rfind(placed.format(x)) for x in options if seen.format(x) in reply}:
            return _last(found)
    if len(reply.split()) > 5:
        lower = reply.lower()
        if found := {x: lower.rfind(text.lower()) for x, text in options.items() if text.lower() in lower}:
            return _last(found)
    return default


def _last(found: Mapping[str, int]) -> str:
    return max(found, key=found.__getitem__)  # of equals the first
