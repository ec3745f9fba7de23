import pytest

from avatar.benchmarks.rules.mra import mean_relative_accuracy


@pytest.mark.parametrize(
    ("said", "gold", "expected"),
    [
        (4, 4, 1.0),
        (3, 4, 0.6),  # off by .25: near enough for the steps .5, .45, .4, .35, .3 and .25
        (2, 4, 0.1),  # off by .5: for the widest step alone, its edge included
        (13.2, 26.4, 0.1),
        (6, 4, 0.1),
        (1.9, 4, 0.0),
        (-4, 4, 0.0),
        (float("nan"), 4, 0.0),
        (float("inf"), 4, 0.0),
        (0, 0, 1.0),
        (1, 0, 0.0),
    ],
)
def test_each_of_ten_steps_that_is_near_enough_counts_a_tenth(said, gold, expected):
    assert mean_relative_accuracy(said, gold) == pytest.approx(expected)


def test_it_falls_with_the_distance_and_goes_by_its_ratio_alone():
    scores = [mean_relative_accuracy(10 + d, 10) for d in range(7)]
    assert scores == sorted(scores, reverse=True)
    assert scores == [mean_relative_accuracy(2.5 * (10 + d), 25) for d in range(7)]
