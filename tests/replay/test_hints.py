import math
import re
from collections import deque

import pytest

from avatar.errors import ConfigError
from avatar.replay import HINTS, HintTrigger, PromptHistory, RewardTracker, Stuck, ZeroStreak

WINDOW = 4


def history(rewards=(), kl=math.nan, empty_visits=0):
    return PromptHistory(deque(rewards, WINDOW), deque(maxlen=WINDOW), empty_visits=empty_visits, kl=kl)


def test_both_triggers_are_registered():
    assert list(HINTS) == ["Stuck", "ZeroStreak"]


@pytest.mark.parametrize("name", list(HINTS))
def test_a_prompt_never_seen_is_shown_no_hint(name):
    trigger = HINTS[name]()
    assert isinstance(trigger, HintTrigger)
    assert not trigger(RewardTracker(WINDOW)["never seen"], WINDOW)


def test_only_the_trigger_that_looks_at_the_kl_needs_a_reference():
    assert Stuck.needs_reference
    assert not ZeroStreak.needs_reference


@pytest.mark.parametrize(
    ("rewards", "kl", "shown"),
    [
        ([0.5] * 4, 0.1, True),  # both at their limits
        ([0.0] * 4, 0.0, True),
        ([0.0, 0.0, 1.0, 1.0], 0.1, True),  # mean 0.5
        ([0.0] * 3, 0.0, False),  # the window is not full
        ([0.5, 0.5, 0.5, 0.6], 0.0, False),  # mean 0.525
        ([0.0] * 4, 0.11, False),  # the policy still moves
        ([0.0] * 4, math.nan, False),  # nothing was measured
        ([], math.nan, False),
    ],
)
def test_stuck_wants_a_full_window_a_low_mean_and_a_low_kl(rewards, kl, shown):
    assert Stuck(max_reward=0.5, max_kl=0.1)(history(rewards, kl), WINDOW) is shown


def test_stuck_reads_the_prompts_own_kl_as_it_was_recorded():
    tracker = RewardTracker(WINDOW)
    tracker.record("still", [0.0] * WINDOW, step=0, kl=0.01)
    tracker.record("moving", [0.0] * WINDOW, step=0, kl=1.0)
    tracker.record("unknown", [0.0] * WINDOW, step=0)
    assert [Stuck()(tracker[key], WINDOW) for key in ("still", "moving", "unknown")] == [True, False, False]


def test_what_hinted_completions_earn_does_not_get_a_prompt_unstuck():
    tracker = RewardTracker(WINDOW)
    for step in range(4):
        tracker.record("a", [0.0, 0.0], [1.0, 1.0], step=step, earned=False, kl=0.0)
    assert Stuck()(tracker["a"], WINDOW)
    assert ZeroStreak()(tracker["a"], WINDOW)


def test_zero_streak_wants_so_many_empty_visits_in_a_row():
    trigger = ZeroStreak(visits=3)
    assert [trigger(history(empty_visits=n), WINDOW) for n in range(5)] == [False, False, False, True, True]


def test_zero_streak_ends_when_the_prompt_earns_without_a_hint():
    tracker, trigger = RewardTracker(), ZeroStreak(visits=2)
    seen = []
    for step, earned in enumerate([False, False, False, True, False]):
        tracker.record("a", [0.5], [1.0], step=step, earned=earned)
        seen.append(trigger(tracker["a"], tracker.window))
    assert seen == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stuck(max_kl=-0.1), "model.hints.max_kl must be 0 or more, got -0.1"),
        (lambda: Stuck(max_kl=math.nan), "model.hints.max_kl must be 0 or more, got nan"),
        (lambda: ZeroStreak(visits=0), "model.hints.visits must be at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_wanted_and_what_came(make, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        make()
