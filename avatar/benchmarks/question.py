"""A question as a benchmark's own files have it, with all that any of the three gradings needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from avatar.data.schema import Medium

_LETTERED = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])\s*[.:)])\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        key: Unique in the benchmark, also where the benchmark's own ids are not.
        text: What is asked, without the options.
        gold: The answer as the benchmark's rule compares it: the letter of a choice (by index, where the file gives a
            text or a number), letters with commas for several, a number, a text, or clues.
        problem_type: As in :func:`avatar.answers.parse_answer`; or ``clue`` for what a benchmark reads itself.
        options: As they stand in the file, with letters or without.
        media: What is shown, in order; names are paths below the benchmark's folder.
        qtype: The benchmark's own type, where its rule goes by it.
        groups: What results are reported by: title to label, or to several labels.
        parts: Where media stand between pieces of the text: parts of a chat turn, without the options. Empty where all
            media come before ``text``.
        ident: The benchmark's own id, where its rule goes by it.
        shown: Names what is shown, if ``media`` do not.
    """

    key: str
    text: str
    gold: Any
    problem_type: str = "choice"
    options: tuple[str, ...] = ()
    media: tuple[Medium, ...] = ()
    qtype: str = ""
    groups: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    parts: tuple[Mapping[str, str], ...] = ()
    ident: str = ""
    shown: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The options without letters."""
        return option_texts(self.options)

    @property
    def clip(self) -> str:
        """Names what is shown: questions about the same are no independent draws."""
        return self.shown or " ".join(sorted({medium.name for medium in self.media})) or self.key


def option_texts(options: Sequence[str]) -> tuple[str, ...]:
    """Options without the letters before them, if all have theirs, in order: ``A. dog``, ``(A) dog``, ``A: dog``."""
    found = [_LETTERED.fullmatch(option) for option in options]
    letters = [match and (match[1] or match[2]) for match in found]
    if letters != list(ascii_uppercase[: len(options)]):
        return tuple(options)
    return tuple(match[3].strip() for match in found if match)


def letter_of(index: int) -> str:
    """``A`` for 0."""
    return ascii_uppercase[index]
