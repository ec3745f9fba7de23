"""The right answer where it is a number, whether the file writes it as one or as a text."""

from __future__ import annotations

import math

from avatar.errors import DataError


def gold_number(gold: object, where: str) -> float:
    """``gold`` as a number.

    Args:
        gold: As the file has it.
        where: Names the record in messages.

    Raises:
        DataError: It is no finite number.
    """
    try:
        number = float(str(gold))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: the answer must be a number, got {gold!r:.80}", "broken annotation")
    return number
