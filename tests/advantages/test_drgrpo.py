import math

import pytest
import torch
from advantages.batches import experience, experiences
from hypothesis import given, settings

from avatar.advantages import GRPO, DrGRPO

quick = settings(max_examples=30, deadline=None)


def test_the_advantage_of_two_groups_by_hand():
    batch = experience([0.0, 1.0, 0.0, 5.0, 0.0, 9.0, 1.0], [0, 1, 0, 1, 0, 1, 0])
    # Group 0 is 0, 0, 0, 1 with mean 1/4; group 1 is 1, 5, 9 with mean 5. No deviation divides.
    expected = torch.tensor([-0.25, -4.0, -0.25, 0.0, -0.25, 4.0, 0.75])
    torch.testing.assert_close(DrGRPO().estimate(batch), expected)


def test_each_real_token_gets_the_advantage_of_its_completion_and_padding_none():
    advantages = DrGRPO()(experience([0.0, 2.0, 8.0, 4.0], [0, 0, 1, 1], lengths=[1, 3, 2, 0]))
    # Means 1 and 6; the last completion has no token to carry its -2.
    assert advantages.tolist() == [[-1, 0, 0], [1, 1, 1], [2, 2, 0], [0, 0, 0]]


@given(experiences())
@quick
def test_it_agrees_with_a_plain_loop(batch):
    members = [i for i in range(len(batch)) if batch.valid[i]]
    for i, advantage in enumerate(DrGRPO().estimate(batch).tolist()):
        group = [batch.rewards[j].item() for j in members if batch.group[j] == batch.group[i]]
        expected = batch.rewards[i].item() - sum(group) / len(group) if i in members else 0.0
        assert advantage == pytest.approx(expected, abs=1e-6)


def test_it_is_grpo_times_the_deviation_of_the_group():
    batch = experience([0.0, 0.0, 0.0, 1.0, 1.0, 5.0, 9.0], [0, 0, 0, 0, 1, 1, 1])
    deviation = torch.tensor([0.5] * 4 + [4.0] * 3)  # as in the test of GRPO
    torch.testing.assert_close(DrGRPO().estimate(batch), GRPO(eps=0.0).estimate(batch) * deviation)


def test_a_rare_failure_weighs_as_much_as_its_reward_and_not_more():
    # What GRPO blows up: 1 of 8 wrong by 0.01 has a deviation of 0.0035, and GRPO gives it -2.4.
    advantages = DrGRPO().estimate(experience([1.0] * 7 + [0.99], [0] * 8))
    assert advantages[7].item() == pytest.approx(-0.01 * 7 / 8, rel=1e-4)


@pytest.mark.parametrize("reward", [0.1, 0.7, -1 / 3])
def test_equal_rewards_give_exact_zeros_although_their_mean_rounds(reward):
    advantages = DrGRPO().estimate(experience([reward] * 3 + [0.0, 1.0], [0, 0, 0, 1, 1]))
    assert advantages.tolist() == [0.0, 0.0, 0.0, -0.5, 0.5]


@pytest.mark.parametrize("junk", [7.0, math.nan])
def test_one_valid_completion_left_of_a_larger_group_gets_zero(junk):
    batch = experience([3.0, junk, junk, 0.0, 1.0], [0, 0, 0, 1, 1], valid=[True, False, False, True, True])
    assert DrGRPO().estimate(batch).tolist() == [0.0, 0.0, 0.0, -0.5, 0.5]


def test_replayed_completions_are_members_of_their_group():
    batch = experience([0.0, 1.0, 5.0, 2.0, 4.0], [0, 1, 0, 0, 1], replayed=[False, False, False, True, True])
    # Group 0 is 0, 5 and a replayed 2, mean 7/3; group 1 is 1 and a replayed 4, mean 5/2.
    expected = torch.tensor([-7 / 3, -1.5, 8 / 3, -1 / 3, 1.5])
    torch.testing.assert_close(DrGRPO().estimate(batch), expected)
