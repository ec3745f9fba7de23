r"""What the AVATAR authors' scripts read out of a reply: one extractor, with small differences between their scripts.

Their scripts compare what comes out of it with the gold letter as it stands, unless said otherwise.

Reference:
    github.com/yogkul2000/AVATAR, folder ``eval``.
"""

from __future__ import annotations

import re

from avatar.benchmarks.grades import Grade, read

_OPEN, _CLOSE = "<answer>", "</answer>"
_TURN = "assistant\n"


def authors_answer(reply: str, letters: str = "A-Z", fallback: str = "", tags: bool = True) -> str:
    r"""What their scripts take for the answer.

    That is the first of these that there is: the first ``<answer>`` payload, as it stands; the last ``\b[letters]\b``;
    the first ``[letters]``. Where the outcome is empty, it is the first of ``fallback`` in the reply, small or capital.

    A payload need not be a letter: ``<answer>B. dog</answer>`` gives ``B. dog``. An empty one is an empty outcome, and
    the ``a`` of its own tag a letter to fall back on. Letters are looked for behind the first ``assistant`` that ends a
    line, tags before it too.

    Args:
        reply: The reply alone: most of their scripts decode the prompt along, so that its letters may answer.
        letters: Inside of a character class.
        fallback: Inside of a character class; empty where the script has no such step.
        tags: Whether the script looks for ``<answer>`` at all.

    Returns:
        Stripped; empty when nothing is found.
    """
    found = _payload(reply) if tags else None
    if found is None:
        found = _letter(reply.split(_TURN, 1)[-1], letters)
    if not found and fallback:
        match = re.search(f"[{fallback}]", reply, re.IGNORECASE)
        found = match[0].upper() if match else ""
    return found


def grade_authors(
    reply: str, gold: str, letters: str = "A-Z", fallback: str = "", tags: bool = True, fold: bool = False
) -> Grade:
    """1 if :func:`authors_answer` is the gold letter, else 0; ``fold`` where the script compares in capitals."""
    answer = authors_answer(reply, letters, fallback, tags)
    same = (answer.upper() if fold else answer) == gold.strip().upper()
    return read(bool(answer) and same, answer)


def _payload(text: str) -> str | None:
    start = text.find(_OPEN)
    end = text.find(_CLOSE, start + len(_OPEN))
    return text[start + len(_OPEN) : end].strip() if start >= 0 <= end else None


def _letter(text: str, letters: str) -> str:
    if alone := re.findall(rf"\b[{letters}]\b", text):
        return str(alone[-1])
    first = re.search(f"[{letters}]", text)
    return first[0] if first else ""
