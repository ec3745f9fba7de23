"""Whether a hint tells the answer: it may say how to look and listen, and nothing of what is found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from string import ascii_uppercase

from avatar.answers import gold_answer, same_answer
from avatar.data.words import count, ordinal, plain, spelt, words

RUN = 4  # words in a row of a longer answer that give it away
LARGEST = 10**12  # beyond it numbers are not said in words
_ARTICLES = ("a", "an", "the")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_OTHER_NAMES = {
    0: ("none", "no", "nothing", "nil", "never"),
    1: ("once", "single", "sole"),
    2: ("twice", "pair", "couple", "ii"),
    3: ("thrice", "triple", "trio", "iii"),
    4: ("quadruple", "quartet", "iv"),
    5: ("quintet",),
    6: ("half a dozen", "half dozen", "vi"),
    7: ("vii",),
    8: ("viii",),
    9: ("ix",),
    11: ("xi",),
    12: ("dozen", "xii"),
}  # of numbers; V and X would be found in too much else
_CUE = r"(?:option|choice|answer|letter|alternative|candidate)s?"
_JOINT = r"\W+(?:(?:and|or|to|through|vs)\W+)?"
_ABBREVIATION = re.compile(r"(?<![\w.])(?:e\.\s?g|i\.\s?e)\b\.?", re.IGNORECASE)


def leaks(hint: str, answer: str, problem_type: str, options: Sequence[str] = ()) -> str | None:
    """What a hint tells of the gold answer; None where it tells nothing.

    A number is told by its digits or its words; an option by its text, letter or place, unless every option is named
    as often, and by naming all the others; a text by itself or, if it is longer, by any ``RUN`` words of it in a row;
    a location by any thing in it. Case, punctuation, width and accents of signs do not matter, nor where blanks stand.
    What says the answer in other words, or in another language, is not found.

    Args:
        hint: The hint.
        answer: The gold answer, see :mod:`avatar.answers`.
        problem_type: Its type.
        options: Option texts without letters.

    Returns:
        A few words, which hold the answer themselves, or None.
    """
    if problem_type == "choice":
        with suppress(ValueError):
            return _choice(hint, int(gold_answer(answer, "choice", options)), options)
    if problem_type == "location":
        things = (part.partition(":")[2] or part for part in answer.split("|"))
        return next((found for thing in things if (found := _text(hint, thing))), None)
    return _text(hint, answer)


def _text(hint: str, answer: str) -> str | None:
    """For an answer that is a text, or a number, which may stand in any type of question."""
    found = words(hint)
    with suppress(ValueError):
        if _num_times(hint, found, float(gold_answer(answer, "number"))):
            return f"it says {answer!r}"
    if not words(answer):  # nothing but signs
        return f"it says {answer!r}" if plain(answer).strip() in plain(hint) else None
    told = next((run for run in _runs(words(answer)) if count(found, run)), None)
    return f"it says {' '.join(told)!r}" if told else None


def _runs(text: list[str]) -> Iterator[list[str]]:
    """All of a short text but the article before it, every ``RUN`` words of a longer one."""
    text = _bare(text) if len(text) <= RUN else text
    for start in range(max(1, len(text) - RUN + 1)):
        yield text[start : start + RUN]


def _bare(text: list[str]) -> list[str]:
    """Without the article before it."""
    return text[1:] if len(text) > 1 and text[0] in _ARTICLES else text


def _num_times(hint: str, found: Sequence[str], value: float) -> int:
    """How often a number is said."""
    size = abs(value)
    told = sum(same_answer(_value(m), size) for m in _NUMBER.findall(plain(hint)))
    return max(told, max(count(found, words(form)) for form in _forms(size)))


def _value(digits: str) -> float | None:
    with suppress(ValueError):
        return float(digits.replace(",", ""))
    return None


def _forms(size: float) -> list[str]:
    """A number in digits and in words."""
    forms = [f"{size:.15g}"]
    if size >= LARGEST:
        return forms
    whole = int(size)
    if size != whole:
        forms += [f"{form} point {' '.join(f'{size:.15g}'.partition('.')[2])}" for form in spelt(whole)]
        forms += [f"{form} and a half" for form in spelt(whole) if size == whole + 0.5]
        return [*forms, *(["half"] if size == 0.5 else [])]
    forms += [*spelt(whole), *(f"{form}fold" for form in spelt(whole)), *_OTHER_NAMES.get(whole, ())]
    return [*forms, *([ordinal(whole)] if whole > 2 else [])]  # "look first, and in a second step ..." tells nothing


def _choice(hint: str, gold: int, options: Sequence[str]) -> str | None:
    """For one of several options."""
    times = [_times_named(hint, i, options) for i in range(len(options))]
    if len(set(times)) == 1:
        return None
    name = f"option {ascii_uppercase[gold]} ({options[gold]!r})"
    if any(times[gold]):
        return f"it names {name}"
    return f"it names every option but {name}" if sum(not any(t) for t in times) == 1 else None


def _times_named(hint: str, number: int, options: Sequence[str]) -> tuple[int, int, int]:
    """How often an option is named by its text, by its letter, by its place."""
    found, option = words(_ABBREVIATION.sub(" ", hint)), options[number]
    named = count(found, _bare(words(option)))
    with suppress(ValueError):
        named = max(named, _num_times(hint, found, float(gold_answer(option, "number"))))
    return named, _letters(hint, ascii_uppercase[number], len(options)), _places(found, number, len(options))


def _letters(hint: str, letter: str, total: int) -> int:
    """How often an option is called by its letter; A and I are words too, and need more to be a letter."""
    text = _ABBREVIATION.sub(" ", plain(hint))
    alone = rf"(?<![\w'\u2019]){letter}(?!\w|['\u2019]\w)"
    if letter not in "AI":
        return len(re.findall(alone, text, re.IGNORECASE))
    other = rf"[{ascii_uppercase[:total]}]"
    ways = (
        rf"\b(?i:{_CUE})\W+(?:(?i:is|no|number)\W+)?(?i:{letter})(?!\w)",  # option A
        rf"[(\[\"*]\s*(?i:{letter})\s*[)\]\"*.:]|{alone}\s*[).:/]",  # (a), A.
        rf"{alone}(?={_JOINT}{other}(?!\w))",  # A or B
        rf"(?<!\w){other}{_JOINT}{letter}(?!\w)",  # B or A
    )
    return len({m.end() for way in ways for m in re.finditer(way, text)})


def _places(found: Sequence[str], number: int, total: int) -> int:
    """How often an option is called by its place: option two, the second choice, the last one."""
    text = " ".join(found)
    named = rf"\b{_CUE} (?:(?:no|nr|number) )?(?:{number + 1}|{spelt(number + 1)[0]})\b"
    places = [ordinal(number + 1), f"{number + 1} (?:st|nd|rd|th)", *(["last"] if number + 1 == total else [])]
    return len(re.findall(rf"{named}|\b(?:{'|'.join(places)}) {_CUE}\b", text))
