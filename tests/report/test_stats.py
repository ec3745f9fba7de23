import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.report.stats import MOST_POINTS, band_of, draws_of_means, interval, mean_interval, smooth


def curve(xs, ys):
    return np.array(xs, dtype=float), np.array(ys, dtype=float)


def test_a_mean_curve_is_taken_at_every_x_that_all_runs_reach():
    # second run at 10: half way from 0.2 to 0.6; first at 20 would be beyond its end
    band = band_of([curve([0, 10, 15], [0.0, 0.4, 0.5]), curve([0, 20], [0.2, 0.6])])
    assert band.x.tolist() == [0, 10, 15]
    np.testing.assert_allclose(band.mean, [0.1, 0.4, (0.5 + 0.5) / 2])
    assert band.num_runs == 2


def test_one_run_has_a_line_and_no_band():
    band = band_of([curve([0, 1], [0.0, 1.0]), curve([], [])])
    assert band.low is None
    assert band.mean.tolist() == [0, 1]
    assert band.num_runs == 1


def test_without_points_or_a_common_range_there_is_no_band():
    assert band_of([curve([], [])]) is None
    assert band_of([curve([0, 1], [0, 0]), curve([5, 6], [0, 0])]) is None


def test_a_long_curve_is_thinned():
    band = band_of([curve(range(1000), range(1000))])
    assert len(band.x) == MOST_POINTS
    np.testing.assert_allclose(band.mean, band.x)


def test_equal_runs_have_a_band_of_no_width():
    band = band_of([curve([0, 1], [0.2, 0.7])] * 3)
    np.testing.assert_allclose([band.low, band.high], [band.mean, band.mean])


def test_the_interval_of_two_runs_is_their_range():
    # a draw of two is both low (1/4), both high (1/4) or mixed: 2.5 % in lies the very end
    mean, low, high = mean_interval([0.2, 0.6])
    assert (mean, low, high) == pytest.approx((0.4, 0.2, 0.6))
    alone = mean_interval([0.2])
    assert alone[0] == 0.2
    assert np.isnan(alone[1:]).all()


def test_the_bootstrap_comes_close_to_the_normal_interval_for_many_runs():
    values = np.random.default_rng(0).normal(size=400)
    _, low, high = mean_interval(list(values))
    error = values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)


def test_what_is_nan_takes_no_part_and_what_has_nothing_is_nan():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    draws = draws_of_means(values)
    assert set(np.unique(draws[:, 0])) == {1.0, 2.0, 3.0}
    low, high = interval(draws)
    assert (low[1], high[1]) == (5, 5)
    assert np.isnan([low[2], high[2]]).all()


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=6))
def test_means_lie_within_their_intervals(values):
    values = np.array(values)
    low, high = interval(draws_of_means(values))
    assert (low <= values.mean(axis=0) + 1e-9).all()
    assert (values.mean(axis=0) <= high + 1e-9).all()


def test_smoothing_takes_the_last_few_points():
    x, y = smooth(curve([1, 2, 3, 4], [1, 3, 5, 7]), 2)
    assert x.tolist() == [1, 2, 3, 4]
    assert y.tolist() == [1, 2, 4, 6]
    assert len(smooth(curve([], []), 2)[1]) == 0
