import math

import pytest

from avatar.benchmarks.rules.counting import count_parts
from avatar.benchmarks.rules.gold_number import gold_number
from avatar.errors import DataError


@pytest.mark.parametrize(
    ("said", "gold", "acc", "oboa", "error"),
    [
        (12, 12, 1, 1, 0),
        (11, 12, 0, 1, 1),
        (3.5, 4, 0, 1, 0.5),
        (10, 12, 0, 0, 2),
        (103, 3, 0, 0, 100),  # just within max(2 * 3, 100)
        (104, 3, 0, 0, 6),  # beyond: 2 * 3
        (301, 100, 0, 0, 200),  # 201 is beyond max(200, 100)
        (10**400, 3, 0, 0, 6),
        (None, 5, 0, 0, 10),  # as one beyond the cap
        (None, 0, 0, 0, 0),  # and yet not right
    ],
)
def test_errors_beyond_the_cap_count_twice_the_answer(said, gold, acc, oboa, error):
    parts = count_parts(said, gold)
    assert (parts["acc"], parts["oboa"], parts["abs_err"], parts["sq_err"]) == (acc, oboa, error, error**2)
    assert ("pred" in parts) == (said is not None)


def test_without_a_cap_even_the_largest_error_has_a_square():
    assert count_parts(1_000_000, 3, capped=False)["abs_err"] == 999_997
    assert math.isfinite(count_parts(float("inf"), 3, capped=False)["sq_err"])


@pytest.mark.parametrize("gold", ["four", "", "nan", "inf", None, [4]])
def test_a_right_answer_that_is_no_number_is_named(gold):
    assert gold_number("4.5", "x") == gold_number(4.5, "x") == 4.5
    with pytest.raises(DataError, match="row 7: the answer must be a number"):
        gold_number(gold, "row 7")
