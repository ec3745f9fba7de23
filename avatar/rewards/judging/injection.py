"""Completions that speak to their judge: a policy that is paid by a judge learns to, if it pays.

The patterns are words of English and the marks of chat templates. They are no proof: other languages, base64 or a
polite lie pass. What passes is still sent as quoted data.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}  # controls, zero-width marks, halves of characters, private ones
# Blank though letters or marks: Hangul and Khmer fillers, a Braille cell without dots, variation selectors.
_BLANK = re.compile("[\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef\u034f\u180b-\u180d]")
# Letters of Cyrillic and Greek that look like Latin ones.
_ALIKE = str.maketrans("аеорсухіјѕԁһԛԝӏкмтнв" + "αοενιρτκυχ", "aeopcyxijsdhqwlkmthb" + "aoeviptkyx")

# Every repetition is bounded and no two that meet can match the same, so that no text takes long: see the tests.
_WORDS = r"\W{1,4}(?:\w{1,30}\W{1,4}){0,5}?"  # up to five words between two others
_NUM = r"['\"* ]{0,4}(?::|=|\bis|\bat|\bto)['\"* ]{0,4}\d"
_JUDGES = r"(?:judges?|graders?|evaluators?|assessors?|reviewers?|reward model|language model|llm|ai|assistant)"
_MARKS = r"(?:scores?|marks?|credits?|ratings?|points?|grades?|rewards?)"
_FULL = r"(?:full|max|maximum|maximal|perfect|highest|best|top|high|1(?:\.0)?|one|10/10|100 ?%)"
_ROLES = r"(?:system|assistant|user|human|developer|grader|evaluator)"
_RULES = {
    "a criterion of the verdict": (
        r"\b(?:audio[_-]?grounding|visual[_-]?identification|location[_-]?accuracy|caption[_-]?correctness)\b",
        r"\b(?:audio grounding|visual identification|location accuracy|caption correctness)"
        rf"(?:\W{{1,4}}(?:score|rating))?{_NUM}",
    ),
    "a JSON score": (r"\{ {0,4}['\"]?\w[\w -]{0,40}['\"]? {0,4}: {0,4}['\"]?[-+.]?\d", r"``` ?json"),
    "a chat-control token": (
        r"<\|[^<>|]{0,60}\|",
        r"</?s>|\[/?inst\]|<</?sys>>|</?(?:start|end)_of_turn>|<(?:bos|eos|pad)>",
    ),
    "a role marker": (
        rf"(?:^|[\n>]|\\n)[ #*\[({{<-]{{0,8}}{_ROLES}(?: (?:message|prompt|note|turn))?[ *\])}}>]{{0,8}}:",
        r"</?(?:system|instructions?|assistant|candidate|verdict)>|<<<|>>>",
        r"### ?(?:system|instructions?|assistant|user)\b",
    ),
    "an order to ignore instructions": (
        rf"\b(?:ignore|disregard|forget|override|bypass|overlook|skip){_WORDS}"
        r"(?:instructions?|prompts?|rubrics?|criteria|criterion|guidelines?|directives?)\b",
        r"\b(?:ignore|disregard|forget) (?:all|everything|anything)(?: \w{1,30}){0,3} "
        r"(?:above|before|previously|earlier|prior)\b",
        r"\b(?:ignore|disregard|forget) (?:all )?(?:of )?(?:the )?(?:above|previous|prior|preceding)(?: text)?"
        r"(?:[.,;:!]|$)",
        r"\b(?:new|updated|real|actual|following) instructions? (?:are|is|for|to)\b|\binstructions? ?:",
    ),
    "letters for another reader": (
        r"[a-z0-9+/]{40,}",  # base64, or a sentence without blanks
        r"ignore(?:all|any|the|your|previous|prior|above){1,3}(?:instruction|prompt|rubric)",
        r"(?:full|perfect|highest|maximum)(?:mark|score|credit)",
    ),
    "a word to the judge": (
        r"\b(?:dear|hey|hello|hi|attention|(?:note|message|memo|instructions?) (?:to|for)),? "
        rf"(?:the |all |my |any ){{0,2}}{_JUDGES}\b",
        rf"\byou(?:'re| are)(?: now)? (?:an? |the )?(?:\w{{1,30}} )?{_JUDGES}\b",
        rf"\bas (?:an? |the )(?:\w{{1,30}} )?{_JUDGES},? you\b",
    ),
    "a plea for a score": (
        r"\b(?:give|award|assign|grant|rate|grade|score|return|output|respond|reply|set|mark|deserves?)"
        rf"{_WORDS}{_FULL}(?!\w)(?:\W{{1,4}}\w{{1,30}}){{0,2}}?\W{{1,4}}{_MARKS}\b",
        rf"\b(?:set|make) (?:all|every|each)(?: \w{{1,30}}){{0,3}}{_NUM}",
        rf"\b(?:all|every|each|four)(?: \w{{1,30}}){{0,2}} (?:scores?|criteria|criterion|ratings?){_NUM}",
        rf"\b(?:score|rate|grade|mark) (?:this|it|me|my|the (?:answer|response|candidate|completion))\W{{1,4}}"
        rf"(?:\w{{1,30}}\W{{1,4}}){{0,3}}?{_FULL}(?!\w)",
        rf"\bdeserves?{_WORDS}{_MARKS}\b",
        r"\bfinal (?:score|verdict|grade|rating) ?[:=] ?\d",
    ),
    "the gold answer": (r"\b(?:gold|golden|ground[- ]truth|reference)[- ](?:answer|label|solution)s?\b",),
}
_SPELT = re.compile(r"(?<!\w)\w(?:[^\w\n]\w(?!\w)){2,}")  # l i k e  t h i s
_PATTERNS = {name: re.compile("|".join(patterns), re.MULTILINE) for name, patterns in _RULES.items()}


def visible(text: str) -> str:
    """``text`` without control, zero-width and blank characters; line and paragraph separators become line ends."""
    text = _BLANK.sub("", text.replace("\u2028", "\n").replace("\u2029", "\n"))
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _INVISIBLE)


def plainest(text: str) -> str:
    """The text as a reader takes it: visible, in small plain letters without accents, one blank between words."""
    plain = unicodedata.normalize("NFKD", visible(text)).lower()
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn").translate(_ALIKE)
    plain = _SPELT.sub(lambda m: re.sub(r"\W", "", m[0]), plain)
    return "\n".join(" ".join(line.split()) for line in plain.splitlines() if line.strip())


def addresses_judge(text: str) -> str | None:
    """What in ``text`` is meant for a judge and not for the reader, in a few words; None where nothing is."""
    plain = plainest(text)
    return next((name for name, pattern in _PATTERNS.items() if pattern.search(plain)), None)
