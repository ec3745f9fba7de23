"""Options as an object of letters and texts."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

from avatar.benchmarks.files import take
from avatar.errors import DataError


def take_lettered(record: Any, name: str, where: str) -> tuple[str, ...]:
    """The texts of a field such as ``{"A": "dog", "B": "cat", "C": ""}``, less blank ones at the end.

    Raises:
        DataError: It is missing or something else, letters are left out, or nothing is left.
    """
    found = take(record, name, dict, where)
    if list(found) != list(ascii_uppercase[: len(found)]):
        raise DataError(f"{where}: field {name!r} must have keys A, B, C, ..., has {list(found)}", "broken annotation")
    texts = [take(found, letter, str, f"{where}: field {name!r}") for letter in found]
    while texts and not texts[-1].strip():
        texts.pop()
    if not texts:
        raise DataError(f"{where}: field {name!r} has no option that is not blank", "broken annotation")
    return tuple(texts)
