import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.errors import ConfigError
from avatar.replay import TIERS, Replay


def test_the_defaults_are_those_of_the_paper_and_its_release():
    replay = Replay()
    assert (replay.capacity, replay.num_replayed, replay.alpha) == (10_000, 4, 1.0)
    assert (replay.easy_share, replay.medium_share, replay.hard_share) == (0.25, 0.35, 0.40)
    assert (replay.priority_reward, replay.priority_kl, replay.priority_temperature) == (1.0, 0.1, 1.0)
    assert replay.quotas() == {"hard": 4000, "medium": 3500, "easy": 2500}


WRONG = [
    ({"num_replayed": 0}, "model.replay.num_replayed must be at least 1, got 0"),
    ({"ramp_steps": -1}, "model.replay.ramp_steps must be at least 0, got -1"),
    ({"minimum": -1}, "model.replay.minimum must be at least 0, got -1"),
    ({"max_staleness": -1}, "model.replay.max_staleness must be at least 0, got -1"),
    ({"scope": "all"}, "model.replay.scope must be prompt or any, got 'all'"),
    ({"when": "never"}, "model.replay.when must be always or zero_spread, got 'never'"),
    ({"draw": "lifo"}, "model.replay.draw must be priority or uniform or fifo, got 'lifo'"),
    ({"alpha": -0.5}, "model.replay.alpha must be 0 or more, got -0.5"),
    ({"alpha": math.nan}, "model.replay.alpha must be 0 or more, got nan"),
    ({"priority_temperature": 0.0}, "model.replay.priority_temperature must be above 0, got 0.0"),
    ({"priority_temperature": math.nan}, "model.replay.priority_temperature must be above 0, got nan"),
    ({"capacity": 0, "minimum": 0}, "model.replay.capacity must be at least 1 and hold the minimum of 0, got 0"),
    ({"capacity": 9}, "model.replay.capacity must be at least 1 and hold the minimum of 10, got 9"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_argument_is_named_with_what_was_wanted_and_what_came(arguments, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Replay(**arguments)


SHARES = [
    ((0.25, 0.35, 0.5), "easy_share 0.25 + medium_share 0.35 + hard_share 0.5", "1.1"),
    ((0.25, 0.35, 0.3), "easy_share 0.25 + medium_share 0.35 + hard_share 0.3", "0.9"),
    ((-0.1, 0.5, 0.6), "easy_share -0.1 + medium_share 0.5 + hard_share 0.6", "1"),
    ((25, 35, 40), "easy_share 25 + medium_share 35 + hard_share 40", "100"),
    ((math.nan, 0.5, 0.5), "easy_share nan + medium_share 0.5 + hard_share 0.5", "nan"),
    ((math.inf, 0.5, -math.inf), "easy_share inf + medium_share 0.5 + hard_share -inf", "nan"),
]


@pytest.mark.parametrize(("shares", "named", "total"), SHARES)
def test_shares_that_do_not_sum_to_one_are_said(shares, named, total):
    easy, medium, hard = shares
    message = f"model.replay: {named} must each be 0 or more and sum to 1, their sum is {total}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Replay(easy_share=easy, medium_share=medium, hard_share=hard)


def test_thirds_sum_to_one_as_well_as_numbers_can():
    assert Replay(easy_share=0.333333, medium_share=0.333333, hard_share=0.333334).capacity == 10_000
    assert Replay(easy_share=1 / 3, medium_share=1 / 3, hard_share=1 / 3, capacity=12).quotas() == dict.fromkeys(
        TIERS, 4
    )


@given(st.integers(1, 20_000), st.integers(0, 100), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_quotas_fill_the_capacity_and_are_within_one_of_their_shares(capacity, first, second):
    low, high = sorted((first, second))
    shares = {"hard_share": low / 100, "medium_share": (high - low) / 100, "easy_share": (100 - high) / 100}
    replay = Replay(capacity=capacity, minimum=0, **shares)
    quotas = replay.quotas()
    assert sum(quotas.values()) == capacity
    assert all(abs(quotas[tier] - capacity * replay.share(tier)) <= 1 for tier in TIERS)


def test_alpha_grows_by_equal_parts_up_to_its_full_value():
    # 4 steps to 2.0: 0.5, 1.0, 1.5, 2.0, and there it stays.
    replay = Replay(alpha=2.0, ramp_steps=4)
    assert [replay.alpha_at(step) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_without_a_ramp_alpha_is_full_at_once():
    assert Replay(alpha=0.7).alpha_at(0) == 0.7
