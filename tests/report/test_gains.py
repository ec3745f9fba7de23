from types import SimpleNamespace

import numpy as np
import pytest
from report.folders import write_sweep

from avatar.report.arms import Arm, group_runs
from avatar.report.find import find_runs
from avatar.report.gains import accuracies, bins_of, gain_of
from avatar.report.runs import read_run
from avatar.report.sweeps import Place


def replies(*pairs):
    """A run that wrote (length, reward)."""
    lengths, rewards = np.array(pairs, dtype=float).reshape(-1, 2).T
    return SimpleNamespace(lengths=lengths, rewards=rewards, place=Place(None))


def test_bins_hold_about_as_many_replies_each():
    bins = bins_of(np.arange(1.0, 101.0))
    assert bins.labels == ("1-25", "26-50", "51-75", "76-100")


def test_bins_are_fewer_where_many_replies_are_equally_long():
    assert bins_of(np.array([7.0] * 9)).labels == ("7",)
    labels = bins_of(np.array([5.0, 5, 5, 5, 5, 9, 9, 30])).labels
    assert labels == ("5", "9-30")


def test_accuracy_is_the_mean_reward_of_a_bin_and_nan_without_a_reply():
    bins = bins_of(np.array([1.0, 2, 3, 4]))
    found, counts = accuracies([replies((1, 1.0), (1, 0.0), (4, 1.0)), replies((2, 0.5))], bins)
    np.testing.assert_array_equal(found, [[0.5, np.nan, np.nan, 1.0], [np.nan, 0.5, np.nan, np.nan]])
    np.testing.assert_array_equal(counts, [[2, 0, 0, 1], [0, 1, 0, 0]])


def test_a_gain_is_a_difference_of_means_over_runs_and_not_over_replies():
    bins = bins_of(np.array([1.0, 1.0]))
    # the arm: (1.0 + 0.5) / 2 whatever the number of replies; the baseline: 0.25
    arm = Arm("a", (replies((1, 1.0)), replies(*[(1, 0.5)] * 9)), "b")
    base = Arm("b", (replies((1, 0.25)),), None)
    gain = gain_of(arm, base, bins)
    assert gain.mean.tolist() == [0.5]
    assert (gain.num.tolist(), gain.num_baseline.tolist()) == ([10], [1])
    assert np.isnan([gain.low, gain.high]).all()  # of one run nobody knows


def test_arms_of_the_same_seeds_are_drawn_seed_by_seed(tmp_path):
    write_sweep(tmp_path, {"grpo4": {"steps": 4}, "a": {"steps": 4}}, seeds=(0, 1))
    base, arm = group_runs([read_run(place) for place in find_runs([tmp_path])]).arms
    # seed 1 is better by 0.6 in both, the arm by 0.1 with either: the gain is certain though runs are not
    for one, level in ((base, 0.0), (arm, 0.1)):
        for run, seed in zip(one.runs, (0.0, 0.6), strict=True):
            run.rewards[:] = level + seed
    bins = bins_of(np.array([1.0]))
    gain = gain_of(arm, base, bins)
    assert gain.paired
    assert (gain.low[0], gain.mean[0], gain.high[0]) == pytest.approx((0.1, 0.1, 0.1))
    apart = gain_of(arm, Arm("x", base.runs[:1] * 2, None), bins)
    assert not apart.paired
    assert apart.low[0] < apart.mean[0] < apart.high[0]
