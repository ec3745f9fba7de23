r"""The one parser of answers, for rewards and graders alike. It says "unparsed" and never guesses.

The answer is looked for in the ``<answer>`` payload, or in the whole reply where there is no tag. Several tags count
only if they agree. A reading is ``strict`` when the payload is the answer and nothing else, ``lenient`` when exactly
one candidate stands out of other words, and ``unparsed`` when there is none or more than one.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

How = Literal["strict", "lenient", "unparsed"]

# Each runs to the end of the text where the closing tag is missing: one pass, and what was cut off is known as such.
_TAG = re.compile(r"<answer>(.*?)(</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_THINK = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL | re.IGNORECASE)
_STRAY = re.compile(r"</?(?:answer|think)\b", re.IGNORECASE)
_INNER_COLON = re.compile(r":(?!\d)|(?<!\d):")  # and not that of 3:15
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_NUMBER = re.compile(rf"[-+]?(?:{_DIGITS}(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?")
_NUMBER_IN_TEXT = re.compile(rf"(?<![\w.])(?<![eE][-+])[-+]?{_DIGITS}(?:\.\d+)?(?!\w|\.\d)")
_LOOSE_MINUS = re.compile(r"(?:-\s+|\b(?:minus|negative)\s+)[\d.]", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:not|no|never|neither|nor|except)\b|n't\b")
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
# Of scripts without spaces (Thai, Lao, Burmese, Khmer, kana, Chinese) each character is a word; signs on or after a
# letter (accents; Hebrew, Arabic and Indian vowels) belong to it, though \w leaves them out.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_SIGNS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u0670\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(rf"[^\W_{_SPACELESS}]+(?:[{_SIGNS}]+[^\W_{_SPACELESS}]*)*|[{_SPACELESS}]")
_BETWEEN = re.compile(r"[,;\n]|\band\b|&")
_CUE = r"\b(?i:answers?|options?|choices?)(?: (?i:is|are))?:? ?"
_WORD_IN_TEXT = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b")


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


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits of any script, after NFKC; of scripts without spaces, single characters.

    On ASCII these are the tokens of the ``rouge_score`` package without a stemmer.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def payloads(text: str) -> list[str]:
    """The ``<answer>`` payloads outside ``<think>``; without a tag, the reply less its thinking, finished or not.

    A payload whose closing tag is missing was cut off, and one that holds another tag hedges: both count as empty.
    """
    spoken = _THINK.sub(lambda m: "" if m[1] else m[0], text)
    found = [m[1].strip() if m[2] and not _STRAY.search(m[1]) else "" for m in _TAG.finditer(spoken)]
    return found or [_THINK.sub("", spoken).strip()]


def parse_answer(text: str, problem_type: str, options: Sequence[str] = ()) -> Answer:
    """Read the answer of a completion.

    A location is ``Left: cyclist | Center: girl playing flute``, in any order, and nothing around it; a place that is
    named twice, an empty side, or one that names a second place makes it unparsed. A free answer has at least one word,
    and a text of any type more than dots and commas.

    Args:
        text: The completion, tags and all.
        problem_type: ``choice`` gives an option index, ``number`` a float, ``exact`` the normalised text, ``ocr`` and
            ``free`` the text as it is, ``location`` who is where as ``center: girl | left: cyclist``, ``choices`` the
            letters of any number of options as ``B,E``.
        options: Option texts without letters; needed for ``choice`` and ``choices``.

    Raises:
        ValueError: ``problem_type`` is none of these, a choice has no options, or ``choices`` more than 26.
    """
    if problem_type in ("choice", "choices") and not options:
        raise ValueError(f"a question of type {problem_type!r} needs its options")
    if problem_type == "choices" and len(options) > len(ascii_uppercase):
        raise ValueError(f"a question of type 'choices' has at most 26 options, got {len(options)}")
    readers = {
        "choice": lambda p: _choice(p, options),
        "number": _number,
        "exact": _exact,
        "ocr": _text,
        "free": _free,
        "location": _location,
        "choices": lambda p: _choices(p, options),
    }
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


def _text(payload: str) -> Answer:
    return Answer(payload, "strict") if normalize(payload) else UNPARSED


def _free(payload: str) -> Answer:
    return Answer(payload, "strict") if words(payload) else UNPARSED


def _location(payload: str) -> Answer:
    sides = [side.partition(":")[::2] for side in payload.split("|")]
    found = {normalize(place): normalize(thing) for place, thing in sides}
    whole = len(found) == len(sides) and all(found) and all(found.values())
    if not whole or any(_INNER_COLON.search(thing) for thing in found.values()):
        return UNPARSED
    return Answer(" | ".join(f"{place}: {thing}" for place, thing in sorted(found.items())), "strict")


def _number(payload: str) -> Answer:
    payload = payload.replace("\u2212", "-")
    if normalize(payload) in _WORDS:
        return Answer(float(_WORDS.index(normalize(payload))), "strict")
    text = payload.lower().strip(" \n\t\"'`").rstrip(" \"'`.,;:!")
    if _NUMBER.fullmatch(text):
        return _finite(text, "strict")
    found = {float(m.replace(",", "")): m for m in _NUMBER_IN_TEXT.findall(payload)}
    in_words = {float(_WORDS.index(w)) for w in _WORD_IN_TEXT.findall(payload.lower())}
    if len(found) != 1 or in_words - set(found) or _LOOSE_MINUS.search(payload):
        return UNPARSED
    return _finite(next(iter(found.values())), "lenient")


def _finite(text: str, how: How) -> Answer:
    value = float(text.replace(",", ""))
    return Answer(value, how) if math.isfinite(value) else UNPARSED


def _choice(payload: str, options: Sequence[str]) -> Answer:
    letters = ascii_uppercase[: len(options)]
    payload = " ".join(payload.split())  # and so no run of blanks for a pattern to go back over
    texts = [normalize(o) for o in options]
    candidates = {i for i, option in enumerate(texts) if option and option == normalize(payload)}
    if by_letter := re.fullmatch(rf"\(?([{letters}{letters.lower()}])\)?[.:,]?", payload):
        candidates.add(letters.index(by_letter[1].upper()))
    by_both = re.fullmatch(rf"\(?([{letters}{letters.lower()}])[).:] ?(.+)", payload)
    if by_both and (text := normalize(by_both[2])) in texts:
        letter = letters.index(by_both[1].upper())
        candidates |= {letter} if texts[letter] == text else {letter, texts.index(text)}  # at odds: two candidates
    if candidates:
        return Answer(candidates.pop(), "strict") if len(candidates) == 1 else UNPARSED
    return _choice_in_words(payload, texts, letters)


def _choices(payload: str, options: Sequence[str]) -> Answer:
    """Any number of options, with commas, semicolons, "and" or line breaks between them, or letters in a sentence.

    One piece that is no option makes the whole unparsed; an option named twice counts once.
    """
    whole = _choice(payload, options)  # an option may have a comma in it
    strict = {whole} if whole.how == "strict" else _choices_between(payload, options)
    found = {int(answer.value) for answer in strict if answer.value is not None}
    chosen = sorted(found or _choices_in_words(" ".join(payload.split()), options))
    letters = ",".join(ascii_uppercase[i] for i in chosen)
    return Answer(letters, "strict" if found else "lenient") if chosen else UNPARSED


def _choices_between(payload: str, options: Sequence[str]) -> set[Answer]:
    """The options that commas and the like part; none if one of the pieces is no option."""
    found: set[Answer] = set()
    for piece in dict.fromkeys(piece.strip() for piece in _BETWEEN.split(payload) if normalize(piece)):
        answer = _choice(piece, options)
        if answer.how != "strict":
            return set()
        found.add(answer)
    return found


def _choices_in_words(payload: str, options: Sequence[str]) -> set[int]:
    """The one list of letters after "answer is" and its like, or the only letter; none if others are named too."""
    letters, words = ascii_uppercase[: len(options)], normalize(payload)
    one = rf"\(?\**{_letter(letters)}\**\)?"
    many = rf"{_CUE}{one}(?:(?: ?[,;&/] ?(?:and )?| and )(?:option )?{one})*"
    alone = rf"(?<!\w)[{letters}](?!\w)"
    lists = {frozenset(map(letters.index, re.findall(alone, m[0]))) for m in re.finditer(many, payload)}
    others = _letters_named(payload, letters)
    others |= {i for i, option in enumerate(options) if (t := normalize(option)) and re.search(_whole(t), words)}
    if lists:
        return set(*lists) if len(lists) == 1 and others.issubset(*lists) else set()
    return others if len(others) == 1 == len(set(re.findall(alone, payload))) else set()


def _choice_in_words(payload: str, texts: Sequence[str], letters: str) -> Answer:
    found = _letters_named(payload, letters)
    words = normalize(payload)
    if not found and not _DENIAL.search(words):
        found = {i for i, t in enumerate(texts) if t and re.search(_whole(t), words)}
    return Answer(found.pop(), "lenient") if len(found) == 1 else UNPARSED


def _letters_named(payload: str, letters: str) -> set[int]:
    """Options named by letter: after "answer is" and its like, in brackets, in bold, or at the start as ``B.``."""
    letter = _letter(letters)
    cue = rf"\b(?i:answer|option|choice)(?: (?i:is))?:? ?\**\(?\b{letter}"
    cue += rf"(?: ?(?:/|,|or|and) ?(?:option )?\b{letter})*"
    found = {x for m in re.finditer(cue, payload) for x in re.findall(rf"\b[{letters}]\b", m[0])}
    found |= {x for pair in re.findall(rf"\(([{letters}])\)|^\*\*([{letters}])\*\*", payload) for x in pair if x}
    if start := re.match(rf"([{letters}])[.:)](?: |$)", payload):
        found |= {start[1], *re.findall(rf"(?<!\w){letter}", payload)}
    return {letters.index(x) for x in found}


def _letter(letters: str) -> str:
    """A pattern for one of ``letters``, but not for the article A and the pronoun I.

    These stand before a word in small letters, unless that word goes on about the choice.
    """
    return rf"([{letters}])\b(?!')(?!(?<=[AI]) (?!(?:because|since|as|or|and|but)\b)[a-z])"


def _whole(text: str) -> str:
    """A pattern for ``text`` as a whole word, or as a whole number."""
    before = r"(?<![\w+-])(?<!\d[.,])" if text[0].isdigit() else r"(?<!\w)"
    after = r"(?!\w|[.,]\d)" if text[-1].isdigit() else r"(?!\w)"
    return before + re.escape(text) + after
