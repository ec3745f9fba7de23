import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.errors import CheckpointError, ConfigError
from avatar.replay import RewardTracker


def ranks(tracker):
    return [tracker.at_rank(rank) for rank in range(len(tracker))]


# -- what is remembered ----------------------------------------------------------------------------------------------


def test_a_score_is_the_mean_of_the_last_twenty_rewards():
    tracker = RewardTracker()
    for step in range(6):  # 24 rewards 0, 1, ..., 23; the last 20 are 4 .. 23, their mean is 13.5
        tracker.record("a", [4.0 * step + i for i in range(4)], step=step)
    assert list(tracker["a"].rewards) == [float(i) for i in range(4, 24)]
    assert tracker.reference_score("a") == tracker["a"].score == 13.5


def test_one_visit_may_bring_more_than_the_window_holds():
    tracker = RewardTracker(window=3)
    tracker.record("a", [1.0, 2.0, 3.0, 4.0, 5.0], step=0)
    assert tracker.reference_score("a") == 4.0  # (3 + 4 + 5) / 3


def test_hinted_rewards_have_a_window_of_their_own():
    tracker = RewardTracker(window=2)
    tracker.record("a", [0.0, 0.5], [1.0, 0.8, 0.6], step=0)
    assert tracker.reference_score("a") == 0.25
    assert tracker.reference_score("a", hinted=True) == pytest.approx(0.7)  # (0.8 + 0.6) / 2


def test_prompts_keep_apart():
    tracker = RewardTracker()
    tracker.record("a", [1.0], step=0)
    tracker.record("b", [0.0], step=0)
    assert (tracker.reference_score("a"), tracker.reference_score("b")) == (1.0, 0.0)


def test_without_rewards_there_is_no_score_and_no_rank():
    tracker = RewardTracker()
    tracker.record("hinted", [], [1.0], step=0)
    assert math.isnan(tracker.reference_score("hinted"))
    assert math.isnan(tracker.reference_score("never seen"))
    assert math.isnan(tracker.reference_score("never seen", hinted=True))
    assert len(tracker) == 0
    for key in ("hinted", "never seen"):
        with pytest.raises(KeyError):
            tracker.rank(key)


def test_asking_for_a_prompt_does_not_make_it_seen():
    tracker = RewardTracker()
    assert (len(tracker["a"].rewards), tracker["a"].empty_visits) == (0, 0)
    assert "a" not in tracker
    assert tracker.state_dict()["keys"] == []


def test_a_window_must_hold_something():
    with pytest.raises(ConfigError, match=re.escape("model.reward_window must be at least 1, got 0")):
        RewardTracker(0)


# -- empty visits ----------------------------------------------------------------------------------------------------


def test_empty_visits_count_visits_and_not_completions():
    tracker = RewardTracker()
    for step in range(3):
        tracker.record("a", [0.0] * 4, step=step, earned=False)
    assert tracker["a"].empty_visits == 3


def test_a_reward_for_the_format_does_not_end_a_row_of_empty_visits_what_was_earned_does():
    tracker = RewardTracker()
    tracker.record("a", [0.5], step=0, earned=False)
    tracker.record("a", [0.5], step=1, earned=False)
    assert tracker["a"].empty_visits == 2
    tracker.record("a", [0.5, 1.0], step=2, earned=True)
    assert tracker["a"].empty_visits == 0
    tracker.record("a", [0.5], step=3, earned=False)
    assert tracker["a"].empty_visits == 1


@pytest.mark.parametrize("earned", [True, False])
def test_a_visit_with_hinted_rewards_alone_leaves_score_and_row_as_they_are(earned):
    tracker = RewardTracker()
    tracker.record("a", [0.0, 0.5], step=0, earned=False)
    tracker.record("a", (), [1.0, 1.0], step=1, earned=earned)
    assert tracker["a"].empty_visits == 1
    assert tracker.reference_score("a") == 0.25


def test_what_hinted_completions_earn_does_not_end_the_row():
    tracker = RewardTracker()
    for step in range(3):
        tracker.record("a", [0.0, 0.0], [1.0, 1.0], step=step, earned=False)
    assert tracker["a"].empty_visits == 3
    assert tracker.reference_score("a") == 0.0


def test_last_visit_and_kl_are_those_of_the_last_visit():
    tracker = RewardTracker()
    tracker.record("a", [0.0], step=3, kl=0.2)
    assert (tracker["a"].last_visit, tracker["a"].kl) == (3, 0.2)
    tracker.record("a", [0.0], step=8)
    assert tracker["a"].last_visit == 8
    assert math.isnan(tracker["a"].kl)


# -- ranks -----------------------------------------------------------------------------------------------------------


def test_prompts_rank_by_their_scores_lowest_first():
    tracker = RewardTracker()
    for key, reward in (("a", 0.5), ("b", 1.0), ("c", 0.0)):
        tracker.record(key, [reward], step=0)
    assert ranks(tracker) == ["c", "a", "b"]
    tracker.record("c", [1.0] * 20, step=1)  # now as good as b, and visited later
    assert ranks(tracker) == ["a", "b", "c"]


def test_equal_scores_rank_by_the_last_visit_the_longer_ago_the_lower():
    tracker = RewardTracker()
    for step, key in enumerate("cab"):
        tracker.record(key, [0.5], step=step)
    assert ranks(tracker) == ["c", "a", "b"]
    tracker.record("c", [0.5], step=9)
    assert ranks(tracker) == ["a", "b", "c"]


VISITS = st.lists(
    st.tuples(
        st.sampled_from("abcdefg"),
        st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0]), max_size=4),
        st.lists(st.sampled_from([0.0, 1.0]), max_size=2),
        st.booleans(),
    ),
    max_size=40,
)


def record_all(tracker, visits, first=0):
    for step, (key, rewards, hinted, earned) in enumerate(visits, first):
        tracker.record(key, rewards, hinted, step=step // 2, earned=earned, kl=0.01 * step)


@given(VISITS, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_it_agrees_with_lists_that_are_sorted_anew(visits, window):
    tracker, rewards, hinted, last, row = RewardTracker(window), {}, {}, {}, {}
    for step, visit in enumerate(visits):
        key, plain, with_hint, earned = visit
        record_all(tracker, [visit], step)
        rewards[key] = (rewards.get(key, []) + plain)[-window:]
        hinted[key] = (hinted.get(key, []) + with_hint)[-window:]
        last[key] = step // 2
        row[key] = row.get(key, 0) if not plain else 0 if earned else row.get(key, 0) + 1
        ordered = sorted((sum(r) / len(r), last[k], k) for k, r in rewards.items() if r)
        assert ranks(tracker) == [k for _, _, k in ordered]
        assert [tracker.rank(k) for k in ranks(tracker)] == list(range(len(ordered)))
    for key in rewards:
        assert list(tracker[key].rewards) == rewards[key]
        assert list(tracker[key].hinted_rewards) == hinted[key]
        assert (tracker[key].last_visit, tracker[key].empty_visits) == (last[key], row[key])


# -- state -----------------------------------------------------------------------------------------------------------


def same(a, b):
    """Whether two states hold the same, nan included."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(-1.0), b.nan_to_num(-1.0))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    return a == b


@given(VISITS, VISITS, st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_a_loaded_tracker_goes_on_as_if_it_had_never_stopped(through_a_file, before, after, window):
    kept, loaded = RewardTracker(window), RewardTracker(window)
    record_all(kept, before)
    loaded.record("gone", [1.0], step=0)  # what a tracker held before it is loaded is forgotten
    loaded.load_state_dict(through_a_file(kept.state_dict()))
    for tracker in (kept, loaded):
        record_all(tracker, after, first=len(before))
    assert ranks(loaded) == ranks(kept)
    assert same(loaded.state_dict(), kept.state_dict())


def test_a_shorter_window_keeps_the_last_rewards(through_a_file):
    long, short = RewardTracker(4), RewardTracker(2)
    long.record("a", [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0], step=0)
    long.record("b", [3.0], step=0)
    short.load_state_dict(through_a_file(long.state_dict()))
    assert (short.reference_score("a"), short.reference_score("a", hinted=True)) == (3.5, 6.5)
    assert ranks(long) == ["a", "b"]  # 2.5 and 3.0
    assert ranks(short) == ["b", "a"]  # 3.0 and 3.5


def test_a_broken_state_is_said():
    tracker = RewardTracker()
    tracker.record("a", [1.0, 0.0], [1.0], step=0)
    tracker.record("b", [1.0], step=1)
    whole = tracker.state_dict()
    broken = [{k: v for k, v in whole.items() if k != name} for name in whole]
    broken += [{**whole, name: value[:-1]} for name, value in whole.items() if not isinstance(value, dict)]
    broken += [
        {**whole, "rewards": {**whole["rewards"], part: whole["rewards"][part][:-1]}} for part in whole["rewards"]
    ]
    broken += [{**whole, "kl": None}, {**whole, "rewards": []}]
    for state in broken:
        with pytest.raises(CheckpointError, match="the reward history of the checkpoint is broken"):
            RewardTracker().load_state_dict(state)
