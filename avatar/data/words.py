"""Texts as bare words, so that "f-i-v-e", "ＦＩＶＥ" and "five" are one; and numbers as they are spelt in English."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Scripts without blanks between words: each of their signs is a word.
_SINGLE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_SINGLE}]|[^\W\d_{_SINGLE}]+|\d+")
_UNSEEN = ("Cf", "Mn", "Me")  # what joins or marks other signs, or cannot be seen at all
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")  # letters without a shape
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ODD = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_DIGITS = {word: str(n) for n, word in enumerate(_UNITS)} | {word: f"{n}0" for n, word in enumerate(_TENS) if word}


def plain(text: str) -> str:
    """``text`` without marks and without what cannot be seen, each sign in its common form, numbers in 0-9."""
    written = "".join(map(_numeral, text))
    parts = unicodedata.normalize("NFKD", written)
    seen = "".join(c for c in parts if unicodedata.category(c) not in _UNSEEN and c not in _FILLERS)
    return unicodedata.normalize("NFC", seen)


def _numeral(sign: str) -> str:
    """A sign that is a number in 0-9: one of several digits (５) as it is, one that is a whole (Ⅴ, 五, ½) apart."""
    if sign.isascii():
        return sign
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    value = unicodedata.numeric(sign, None)
    return sign if value is None else f" {value:g} "


def words(text: str) -> list[str]:
    """The words of a text in small letters, digits apart from letters; all else only divides them."""
    return _WORD.findall(plain(text).casefold())


def count(text: Sequence[str], phrase: Sequence[str]) -> int:
    """How often some words come in a text, wherever either is cut into words; a plural is the same.

    What begins or ends inside a word does not count: "ten" is not in "listen", but it is in "t e n" and "t-en".
    """
    wanted = "".join(phrase)
    return max(_count(text, wanted), _count(_in_digits(text), "".join(_in_digits(phrase)))) if wanted else 0


def _count(text: Sequence[str], wanted: str) -> int:
    found = 0
    for start in range(len(text)):
        joined = ""
        for word in text[start:]:
            joined += word
            found += joined in (wanted, f"{wanted}s", f"{wanted}es")
            if joined.startswith(wanted) or len(joined) > len(wanted):
                break
    return found


def numbers(text: Sequence[str]) -> list[str]:
    """The words that are a number, in digits or spelt, but for "one", which is much else."""
    return [word for word in text if word.isdigit() or (word in _DIGITS and word != "one")]


def _in_digits(text: Sequence[str]) -> list[str]:
    return [_DIGITS.get(word, word) for word in text]


def spelt(number: int) -> list[str]:
    """How a number from 0 on is said: ``one hundred five``, ``one hundred and five``, ``a hundred five`` ..."""
    said = [_spelt(number), _spelt(number, " and ")]
    if 1100 <= number < 10_000 and number % 1000 >= 100:  # nineteen eighty, nineteen hundred
        high, low = divmod(number, 100)
        said.append(f"{_spelt(high)} {_spelt(low) if low else 'hundred'}")
    said += [f"a {form.removeprefix('one ')}" for form in said if form.startswith("one ")]
    return list(dict.fromkeys(said))


def _spelt(number: int, joint: str = " ") -> str:
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return f"{_TENS[tens]} {_UNITS[rest]}" if rest else _TENS[tens]
    scale, name = next(pair for pair in _SCALES if number >= pair[0])
    high, rest = divmod(number, scale)
    whole = f"{_spelt(high, joint)} {name}"
    return f"{whole}{joint if rest < 100 else ' '}{_spelt(rest, joint)}" if rest else whole


def ordinal(number: int) -> str:
    """``first``, ``second``, ``twenty third`` ..."""
    *before, last = _spelt(number).split()
    return " ".join([*before, _ODD.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")])
