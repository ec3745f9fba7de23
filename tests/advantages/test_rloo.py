import math

import pytest
import torch
from advantages.batches import experience, experiences
from hypothesis import given, settings

from avatar.advantages import RLOO, DrGRPO

quick = settings(max_examples=30, deadline=None)


def test_the_advantage_of_two_groups_by_hand():
    batch = experience([0.0, 1.0, 0.0, 5.0, 0.0, 9.0, 1.0], [0, 1, 0, 1, 0, 1, 0])
    # Group 0, 0 0 0 1: a 0 has 0, 0, 1 as others, mean 1/3; the 1 has mean 0. Group 1, 1 5 9: 1 - 7, 5 - 5, 9 - 3.
    expected = torch.tensor([-1 / 3, -6.0, -1 / 3, 0.0, -1 / 3, 6.0, 1.0])
    torch.testing.assert_close(RLOO().estimate(batch), expected)


def test_each_real_token_gets_the_advantage_of_its_completion_and_padding_none():
    advantages = RLOO()(experience([0.0, 2.0, 8.0, 4.0], [0, 0, 1, 1], lengths=[1, 3, 2, 0]))
    # Of two, each is held to the other: -2, 2 and 4; the last completion has no token to carry its -4.
    assert advantages.tolist() == [[-2, 0, 0], [2, 2, 2], [4, 4, 0], [0, 0, 0]]


@given(experiences())
@quick
def test_it_agrees_with_a_plain_loop_over_the_others(batch):
    members = [i for i in range(len(batch)) if batch.valid[i]]
    for i, advantage in enumerate(RLOO().estimate(batch).tolist()):
        others = [batch.rewards[j].item() for j in members if j != i and batch.group[j] == batch.group[i]]
        expected = batch.rewards[i].item() - sum(others) / len(others) if i in members and others else 0.0
        assert advantage == pytest.approx(expected, abs=1e-5)


def test_the_baseline_of_a_completion_does_not_depend_on_its_own_reward():
    low, high = (RLOO().estimate(experience([r, 1.0, 4.0, 0.0, 8.0], [0, 0, 0, 1, 1])) for r in (2.0, 7.0))
    assert high[0].item() - low[0].item() == pytest.approx(5.0)  # all of the change in reward; -0.5 + 5 is 4.5


def test_it_is_dr_grpo_times_n_over_n_less_one():
    batch = experience([0.0, 0.0, 0.0, 1.0, 1.0, 5.0, 9.0], [0, 0, 0, 0, 1, 1, 1])
    factor = torch.tensor([4 / 3] * 4 + [3 / 2] * 3)
    torch.testing.assert_close(RLOO().estimate(batch), DrGRPO().estimate(batch) * factor)


@pytest.mark.parametrize("reward", [0.1, 0.7, -1 / 3])
def test_equal_rewards_give_exact_zeros_although_their_mean_rounds(reward):
    advantages = RLOO().estimate(experience([reward] * 3 + [0.0, 1.0], [0, 0, 0, 1, 1]))
    assert advantages.tolist() == [0.0, 0.0, 0.0, -1.0, 1.0]


@pytest.mark.parametrize("junk", [7.0, math.nan])
def test_one_valid_completion_left_of_a_larger_group_gets_zero(junk):
    batch = experience([3.0, junk, junk, 0.0, 1.0], [0, 0, 0, 1, 1], valid=[True, False, False, True, True])
    assert RLOO().estimate(batch).tolist() == [0.0, 0.0, 0.0, -1.0, 1.0]


def test_a_completion_that_is_not_valid_is_not_counted_among_the_others():
    batch = experience([0.0, 9.0, 1.0, 5.0, 2.0, 8.0], [0, 0, 0, 0, 1, 1], valid=[True, False, True, True, True, True])
    # Three are left, 0 1 5: 0 - 3, 1 - 5/2, 5 - 1/2.
    assert RLOO().estimate(batch).tolist() == pytest.approx([-3.0, 0.0, -1.5, 4.5, -6.0, 6.0])


def test_replayed_completions_are_members_of_their_group():
    batch = experience([0.0, 1.0, 5.0, 2.0, 4.0], [0, 1, 0, 0, 1], replayed=[False, False, False, True, True])
    # Group 0 is 0, 5 and a replayed 2: 0 - 7/2, 5 - 1, 2 - 5/2. Group 1 is 1 and a replayed 4.
    assert RLOO().estimate(batch).tolist() == pytest.approx([-3.5, -3.0, 4.0, -0.5, 3.0])
