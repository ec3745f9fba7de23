r"""The one parser of answers, for rewards and graders alike. It says "unparsed" and never guesses.

The answer is looked for in the ``<answer>`` payload, or in the whole reply where there is no tag. Several tags count
only if they agree. A reading is ``strict`` when the payload is the answer and nothing else, ``lenient`` when exactly one
candidate stands out of other words, and ``unparsed`` when there is none or more than one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

How = Literal["strict", "lenient", "unparsed"]

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_THINK = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?"
_NUMBER_IN_TEXT = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w]|\.\d)")
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@dataclass(frozen=True)
class Answer:
    """A parsed answer.

    Attributes:
        value: Option index (choice), number, or text; None when unparsed.
        how: ``strict``, ``lenient`` or ``unparsed``.
    """

    value: int | float | str | None
    how: How

    @property
    def parsed(self) -> bool:
        """Whether there is a value."""
        return self.how != "unparsed"


UNPARSED = Answer(None, "unparsed")


def normalize(text: str) -> str:
    """Lower case, single spaces, no surrounding quotes, full stop or comma: what "the same text" means here."""
    return " ".join(text.lower().split()).strip(" \"'`.,;:!")


def payloads(text: str) -> list[str]:
    """The ``<answer>`` payloads of ``text``; without a tag, the whole reply less its ``<think>`` part."""
    found = _TAG.findall(text)
    return [p.strip() for p in found] or [_THINK.sub("", text).strip()]


def parse_answer(text: str, problem_type: str, options: Sequence[str] = ()) -> Answer:
    """Read the answer of a completion.

    Args:
        text: The completion, tags and all.
        problem_type: ``choice`` gives an option index, ``number`` a float, ``exact`` the normalised text.
        options: Option texts without letters; needed for ``choice``.

    Raises:
        ValueError: ``problem_type`` is none of these, or a choice has no options.
    """
    if problem_type == "choice" and not options:
        raise ValueError("a question of type 'choice' needs its options")
    readers = {"choice": lambda p: _choice(p, options), "number": _number, "exact": _exact}
    if problem_type not in readers:
        raise ValueError(f"unknown problem_type {problem_type!r}; known: {', '.join(readers)}")
    answers = [readers[problem_type](p) for p in payloads(text)]
    if len({a.value for a in answers}) != 1 or not answers[0].parsed:
        return UNPARSED
    return Answer(answers[0].value, "lenient" if any(a.how == "lenient" for a in answers) else "strict")


def gold_answer(answer: str, problem_type: str, options: Sequence[str] = ()) -> int | float | str:
    """The gold answer in the form that :func:`parse_answer` gives; a choice is named by letter or by option text.

    Raises:
        ValueError: The gold answer itself cannot be read: the record is wrong.
    """
    parsed = parse_answer(f"<answer>{answer}</answer>", problem_type, options)
    if parsed.value is None or parsed.how != "strict":
        raise ValueError(f"gold answer {answer!r} is no {problem_type} answer (options: {list(options)})")
    return parsed.value


def same_answer(a: int | float | str | None, b: int | float | str | None, tolerance: float = 1e-3) -> bool:
    """Equal option, equal text, or numbers within ``tolerance`` of ``b``, relative (absolute where ``b`` is 0)."""
    if a is None or b is None:
        return False
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= tolerance * (abs(b) or 1.0)
    return a == b


def _exact(payload: str) -> Answer:
    text = normalize(payload)
    return Answer(text, "strict") if text else UNPARSED


def _number(payload: str) -> Answer:
    text = normalize(payload)
    if text in _WORDS:
        return Answer(float(_WORDS.index(text)), "strict")
    if text and re.fullmatch(_NUMBER, text) and re.search(r"\d", text):
        value = float(text.replace(",", ""))
        return Answer(value, "strict") if math.isfinite(value) else UNPARSED
    found = {float(m.replace(",", "")) for m in _NUMBER_IN_TEXT.findall(payload)}
    return Answer(found.pop(), "lenient") if len(found) == 1 else UNPARSED


def _choice(payload: str, options: Sequence[str]) -> Answer:
    letters = ascii_uppercase[: len(options)]
    text, texts = normalize(payload), [normalize(o) for o in options]
    by_letter = re.fullmatch(rf"\(?([{letters}{letters.lower()}])\)?[.:,]?", payload.strip())
    by_both = re.fullmatch(rf"\(?([{letters}])(?:\)|[.:])\s*(.+)", payload.strip(), re.DOTALL)
    candidates = {i for i, option in enumerate(texts) if option == text}
    if by_letter:
        candidates.add(letters.index(by_letter[1].upper()))
    if by_both and normalize(by_both[2]) == texts[letters.index(by_both[1])]:
        candidates.add(letters.index(by_both[1]))
    if candidates:
        return Answer(candidates.pop(), "strict") if len(candidates) == 1 else UNPARSED
    return _choice_in_words(payload, texts, letters)


def _choice_in_words(payload: str, texts: Sequence[str], letters: str) -> Answer:
    named = re.findall(rf"\(([{letters}])\)|\b(?:answer|option|choice)\s*(?:is|:)?\s*([{letters}])\b(?!')", payload)
    start = re.match(rf"([{letters}])[.:)](?:\s|$)", payload.strip())
    found = {letters.index(a or b) for a, b in named} | ({letters.index(start[1])} if start else set())
    if not found:
        words = normalize(payload)
        found = {i for i, t in enumerate(texts) if t and re.search(rf"(?<!\w){re.escape(t)}(?!\w)", words)}
    return Answer(found.pop(), "lenient") if len(found) == 1 else UNPARSED
