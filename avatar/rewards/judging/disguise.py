"""What reaches a judge in disguise: orders in another language, and hedges that hold the gold answer.

It goes with :mod:`avatar.rewards.judging.injection`, which knows orders in plain English. What is refused here depends
on the question: a script or a list of names may belong to it.
"""

from __future__ import annotations

import re
import unicodedata

from avatar.answers import normalize, payloads
from avatar.rewards.judging.injection import plainest
from avatar.types import Prompt

FOREIGN = 4  # letters of another script than the question's that are let pass, as in a name or a formula
_SEPARATOR = re.compile(r"[,;/|.\n]|\b(?:or|and)\b")
_LEAD = re.compile(r"^(?:the )?answer (?:is|could be|may be) ")
# Spanish, Portuguese, French, Italian and German, without accents, as `plainest` leaves them.
_LEAVE = r"ignor\w*|olvid\w*|esquec\w*|desconsider\w*|oubli\w*|dimentic\w*|vergiss\w*|vergesse\w*|missacht\w*"
_RULES = r"instruc\w*|istruz\w*|anweisung\w*|vorgaben|consignes?|indicac\w*|reglas?|regras?|regles?|regole|regeln"
_MARK = r"puntuacion|pontuacao|calificacion|nota|note|punteggio|punktzahl|bewertung"
_MOST = r"maxim\w*|massim\w*|perfect\w*|parfaite?|perfett\w*|hochst\w*|volle\w*"
_ORDER = re.compile(
    rf"\b(?:{_LEAVE})\W+(?:\w+\W+){{0,6}}?(?:{_RULES})\b|\b(?:{_MARK})\W+(?:{_MOST})\b|\b(?:{_MOST})\W+(?:{_MARK})\b"
)


def disguise(text: str, prompt: Prompt) -> str | None:
    """What in a completion is meant to get past a judge, in a few words; None where nothing is.

    Args:
        text: The completion.
        prompt: What it answers: its own scripts and words are no disguise.
    """
    plain = plainest(text)
    if _ORDER.search(plain):
        return "an order in another language"
    known = {"LATIN", *_scripts(plainest(_asked(prompt)))}
    if sum(script not in known for script in _scripts(plain)) > FOREIGN:
        return "a script that the question does not use"
    return "the gold answer among others" if hedges(text, prompt) else None


def hedges(text: str, prompt: Prompt) -> bool:
    """Whether one of several answers that are given side by side is the gold one; only where answers are names.

    An answer to a choice, a number or a location that holds several is unparsed already, and a longer text that holds
    the gold one is graded by how much of it that is.
    """
    if prompt.problem_type != "exact":
        return False
    gold = normalize(unicodedata.normalize("NFKC", prompt.answer))
    for payload in payloads(text):
        answer = unicodedata.normalize("NFKC", payload).lower()
        parts = {_LEAD.sub("", normalize(part)) for part in _SEPARATOR.split(answer)} - {""}
        if gold in parts and len(parts) > 1:
            return True
    return False


def _asked(prompt: Prompt) -> str:
    contents = [message["content"] for message in prompt.messages]
    parts = [[content] if isinstance(content, str) else [p.get("text", "") for p in content] for content in contents]
    texts = [text for part in parts for text in part]
    return "\n".join([*texts, *prompt.options, prompt.answer, prompt.audio_caption or ""])


def _scripts(text: str) -> list[str]:
    """Of each letter beyond ASCII, the script: the first word of its Unicode name."""
    letters = (c for c in text if c > "\x7f" and unicodedata.category(c)[0] == "L")
    return [unicodedata.name(c, "UNKNOWN").split()[0] for c in letters]
