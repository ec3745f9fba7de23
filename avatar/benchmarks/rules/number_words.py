r"""A number in English words, read as the ``word2number`` package reads it: AV-Counting's rule goes by it.

Reference:
    github.com/akshaynagpal/w2n, version 1.1.
"""

from __future__ import annotations

from collections.abc import Sequence

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = {"billion": 10**9, "million": 10**6, "thousand": 10**3}  # the largest first
_VALUES = {
    **{word: number for number, word in enumerate((*_DIGITS, *_TEENS))},
    **{word: 10 * number for number, word in enumerate(_TENS, 2)},
    "hundred": 100,
    **_SCALES,
}
_POINT = "point"


def word_to_num(text: str) -> int | float:
    """The number that ``text`` names: ``about twelve`` is 12, ``three point five`` 3.5, ``12`` 12.

    Only whole words between blanks count, hyphens being blanks; all others are passed over, digits too, unless the
    text is digits and nothing else: ``12.``, ``about 12`` and ``five.`` name no number. What is left is one number,
    whatever stood between: ``seven dogs and two cats`` is 9. Two words are added, or multiplied where one is a hundred;
    three are a * b + c and four a * b + c + d; of five and more the first alone counts. After ``point`` stand digits,
    or it is as if nothing stood there.

    Raises:
        ValueError: There is no number word, a scale or ``point`` stands twice, scales ascend, or nothing stands before
            one of them.
    """
    text = text.replace("-", " ").lower()
    if text.isdigit():
        return int(text)
    words = [word for word in text.split() if word in _VALUES or word == _POINT]
    if not words:
        raise ValueError(f"{text!r:.80} holds no number word")
    if any(words.count(word) > 1 for word in (*_SCALES, _POINT)):
        raise ValueError(f"{text!r:.80} holds a scale or a point twice")
    if _POINT not in words:
        return _whole(words)
    at = words.index(_POINT)
    return _whole(words[:at]) + _decimals(words[at + 1 :])


def _whole(words: Sequence[str]) -> int:
    if len(words) < 2:
        return sum(_VALUES[word] for word in words)
    places = {scale: words.index(scale) for scale in _SCALES if scale in words}
    if list(places.values()) != sorted(places.values()):
        raise ValueError(f"the scales of {' '.join(words)} ascend")
    total = begin = 0
    for scale, place in places.items():
        total += _group(words[begin:place]) * _SCALES[scale]
        begin = place + 1
    if begin < len(words):
        return total + _group(words[begin:])
    # A scale stands last. After a billion, what follows it is then taken once more, and as one group.
    after_billion = words[places["billion"] + 1 :] if "billion" in places else []
    return total + (_group(after_billion) if after_billion else 0)


def _group(words: Sequence[str]) -> int:
    if not words:
        raise ValueError("nothing stands before a scale")
    values = [_VALUES[word] for word in words]
    if len(values) == 2:
        return values[0] * values[1] if 100 in values else sum(values)
    return values[0] * values[1] + sum(values[2:]) if len(values) in (3, 4) else values[0]


def _decimals(words: Sequence[str]) -> float:
    if not words or any(word not in _DIGITS for word in words):
        return 0
    return float("0." + "".join(str(_VALUES[word]) for word in words))
