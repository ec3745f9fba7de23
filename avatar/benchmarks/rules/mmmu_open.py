r"""MMMU's rule for questions without options, as Video-MMMU has it: key phrases and numbers, held against the answer.

Reference:
    github.com/MMMU-Benchmark/MMMU, ``eval/eval_utils.py``; EvolvingLMMs-Lab/VideoMMMU has the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# What an answer follows. Their order matters in one case: a tail that is empty gives way to that of the next.
_CUES = (
    *("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "are "),
    *("in total ", "total ", "identify ", "recognize ", "calculated as ", "counted as ", "measured as "),
    *("observed as ", "concluded as ", "found to be ", "equals ", "determined to be ", "number of ", "value is "),
    *("adds up to ", "have ", "has "),
)
_MARKS = (":", ",", ".", "!", "?", ";", "'")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)

Value = float | str


def open_match(reply: str, gold: str | Iterable[str]) -> bool:
    """Whether any phrase of the reply holds the answer, or any of its numbers is the answer to two decimals.

    The answer as a part of a longer phrase counts: ``acute pain`` for ``pain``. So does one of several numbers: ``2 or
    4`` for 4. Of a single letter a blank must stand on one side. Words for numbers are not read.

    Args:
        reply: The raw reply.
        gold: The answer, or several of which any will do.
    """
    said = {value for text in _with_numbers(key_phrases(reply)) for value in normalized(text)}
    wanted = {value for text in ([gold] if isinstance(gold, str) else gold) for value in normalized(text)}
    texts = [value for value in wanted if isinstance(value, str)]
    return any(value in wanted if isinstance(value, float) else any(t in value for t in texts) for value in said)


def key_phrases(reply: str) -> list[str]:
    """Of each line what follows the last of its cues, where that is more than a mark; the whole reply if none does.

    In small letters, without full stops around it. In the last line what follows ``=`` is one, too.
    """
    reply = reply.strip().strip(".").lower()
    lines = reply.split("\n")
    cues = [_CUES] * (len(lines) - 1) + [(*_CUES, "=")]
    found = [_tail(line, of_line) for line, of_line in zip(lines, cues, strict=True)]
    return [tail for tail in found if tail and tail not in _MARKS] or [reply]


def normalized(text: str) -> list[Value]:
    """A number to two decimals, or the text in small letters; a single letter with a blank before, and behind it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _tail(line: str, cues: Iterable[str]) -> str:
    """The shortest text that follows the last place of a cue."""
    best = ""
    for tail in [line.rsplit(cue, 1)[-1].strip() for cue in cues if cue in line]:
        if not best or len(tail) < len(best):
            best = tail
    return best


def _with_numbers(phrases: list[str]) -> list[str]:
    return [*phrases, *(number for phrase in phrases for form in _NUMBERS for number in form.findall(phrase))]
