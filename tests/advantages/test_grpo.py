import math

import pytest
import torch
from advantages.batches import experience
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.advantages import GRPO, group_normalized_advantage
from avatar.errors import ConfigError

quick = settings(max_examples=50, deadline=None)
rewards_of_groups = st.lists(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0, -1.0, 3.0]), min_size=1, max_size=6), min_size=1, max_size=4
)


def flat(groups):
    """Rewards and group ids of a ragged list of groups, in float64."""
    rewards = torch.tensor([r for row in groups for r in row], dtype=torch.float64)
    return rewards, torch.tensor([g for g, row in enumerate(groups) for _ in row])


def by_loop(groups, eps):
    """The equation of the docstring, group by group, with torch's own deviation."""
    out = []
    for row in map(torch.tensor, groups):
        row = row.double()
        equal = len(row) == 1 or row.max() == row.min()
        out.append(torch.zeros_like(row) if equal else (row - row.mean()) / (row.std() + eps))
    return torch.cat(out)


# --- group_normalized_advantage -------------------------------------------------------------------------------------


def test_the_advantage_of_two_groups_by_hand():
    advantages = group_normalized_advantage(*flat([[0, 0, 0, 1], [1, 5, 9]]), eps=0.5)
    # Group 0: mean 1/4, squares 3/16 + 9/16 = 3/4 over n - 1 = 3, so deviation 1/2. Group 1: mean 5, deviation 4.
    expected = [-0.25 / 1.0, -0.25 / 1.0, -0.25 / 1.0, 0.75 / 1.0, -4 / 4.5, 0.0, 4 / 4.5]
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float64))


def test_the_floor_is_one_in_ten_thousand_by_default():
    advantages = group_normalized_advantage(*flat([[0, 1]]))
    assert advantages[1].item() == pytest.approx(0.5 / (math.sqrt(0.5) + 1e-4))


def test_a_group_is_scored_only_against_itself():
    rewards, group = flat([[0, 0, 0, 1], [5, 9, 7], [2]])
    alone = torch.cat([group_normalized_advantage(rewards[group == g], group[group == g]) for g in range(3)])
    torch.testing.assert_close(group_normalized_advantage(rewards, group), alone)


@given(rewards_of_groups, st.sampled_from([1e-4, 0.1, 1.0]))
@quick
def test_it_agrees_with_a_plain_loop_over_groups(groups, eps):
    torch.testing.assert_close(group_normalized_advantage(*flat(groups), eps=eps), by_loop(groups, eps))


@given(rewards_of_groups)
@quick
def test_advantages_of_a_group_sum_to_zero(groups):
    rewards, group = flat(groups)
    totals = torch.zeros(len(groups), dtype=torch.float64).index_add(
        0, group, group_normalized_advantage(rewards, group)
    )
    torch.testing.assert_close(totals, torch.zeros_like(totals), atol=1e-9, rtol=0)


@given(rewards_of_groups, st.randoms(use_true_random=False), st.permutations(range(4)))
@quick
def test_neither_order_nor_numbering_of_groups_matters(groups, random, numbers):
    rewards, group = flat(groups)
    order = torch.tensor(random.sample(range(len(rewards)), len(rewards)))
    renumbered = torch.tensor(numbers)[group] * 7 - 3  # gaps and a negative number too
    expected = group_normalized_advantage(rewards, group)[order]
    torch.testing.assert_close(group_normalized_advantage(rewards[order], renumbered[order]), expected)


@given(rewards_of_groups, st.floats(-5, 5), st.floats(0.1, 10))
@quick
def test_without_a_floor_neither_the_unit_nor_the_zero_of_rewards_matters(groups, shift, scale):
    groups = [row if len(set(row)) > 1 else [0.0, 1.0] for row in groups]
    rewards, group = flat(groups)
    moved = group_normalized_advantage(scale * rewards + shift, group, eps=0.0)
    torch.testing.assert_close(moved, group_normalized_advantage(rewards, group, eps=0.0), atol=1e-6, rtol=1e-6)


@given(st.floats(-100, 100, width=32), st.integers(1, 16), st.integers(1, 16))
@quick
def test_a_group_of_equal_rewards_gets_exact_zeros_whatever_its_mean_rounds_to(reward, size, other_size):
    # In fp32 the mean of three times 0.1 is not 0.1, and a deviation of 1e-9 over a floor of 1e-4 would be a signal.
    rewards = torch.tensor([reward] * size + [0.7] * other_size)
    group = torch.tensor([0] * size + [1] * other_size)
    assert group_normalized_advantage(rewards, group).tolist() == [0.0] * (size + other_size)


@pytest.mark.parametrize("groups", [[[0.3]], [[1.0], [0.0]], [[1.0, 1.0], [0.0, 1.0]]])
def test_a_group_without_spread_gets_zeros_without_a_floor_too(groups):
    advantages = group_normalized_advantage(*flat(groups), eps=0.0)
    torch.testing.assert_close(advantages, by_loop(groups, eps=0.0))


def test_a_group_of_one_gets_zero_beside_a_group_with_a_signal():
    advantages = group_normalized_advantage(*flat([[3.0], [0.0, 1.0]]))
    assert advantages[0] == 0
    assert advantages[2] > 0


def test_no_completions_give_no_advantages():
    assert group_normalized_advantage(torch.zeros(0), torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_the_number_format_of_the_rewards_is_kept():
    rewards, group = flat([[0, 1], [2, 5, 3]])
    for dtype in (torch.float32, torch.float64):
        assert group_normalized_advantage(rewards.to(dtype), group).dtype == dtype


@pytest.mark.parametrize(
    ("rewards", "group"),
    [(torch.zeros(3), torch.zeros(2)), (torch.zeros(2, 2), torch.zeros(2, 2)), (torch.zeros(()),) * 2],
)
def test_rewards_and_groups_must_be_one_row_of_the_same_length(rewards, group):
    with pytest.raises(ValueError, match=r"rewards and group must both be \[N\], got"):
        group_normalized_advantage(rewards, group.long())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_is_refused_with_the_way_out(bad):
    with pytest.raises(ValueError, match="finite; mark completions without a reward as not valid"):
        group_normalized_advantage(torch.tensor([0.0, bad, 1.0]), torch.tensor([0, 0, 1]))


# --- GRPO -----------------------------------------------------------------------------------------------------------


def test_with_all_rewards_valid_the_estimator_is_the_function():
    batch = experience([0.0, 1.0, 5.0, 9.0, 1.0], [0, 0, 1, 1, 1])
    torch.testing.assert_close(
        GRPO(eps=0.3).estimate(batch), group_normalized_advantage(batch.rewards, batch.group, 0.3)
    )


def test_each_real_token_gets_the_advantage_of_its_completion_and_padding_none():
    advantages = GRPO(eps=0.0)(experience([0.0, 2.0, 8.0, 4.0], [0, 0, 1, 1], lengths=[1, 3, 2, 0]))
    a = math.sqrt(0.5)  # two rewards 2x apart: x either side of the mean, over a deviation of sqrt(2) x
    torch.testing.assert_close(advantages, torch.tensor([[-a, 0, 0], [a, a, a], [a, a, 0], [0, 0, 0]]))


@pytest.mark.parametrize("junk", [0.0, 99.0, math.nan, math.inf])
def test_a_completion_without_a_valid_reward_gets_zero_and_takes_no_part_in_its_group(junk):
    batch = experience(
        [0.0, junk, 1.0, junk, 1.0, 5.0, 9.0], [0, 0, 0, 1, 1, 1, 1], valid=[True, False, True, False] + 3 * [True]
    )
    without = group_normalized_advantage(torch.tensor([0.0, 1.0, 1.0, 5.0, 9.0]), torch.tensor([0, 0, 1, 1, 1]))
    advantages = GRPO().estimate(batch)
    torch.testing.assert_close(advantages[batch.valid], without)
    assert advantages[~batch.valid].tolist() == [0.0, 0.0]


def test_a_group_left_with_one_valid_reward_gets_zero():
    advantages = GRPO().estimate(experience([1.0, 0.0, 0.0, 1.0], [0, 0, 1, 1], valid=[True, False, True, True]))
    assert advantages[:2].tolist() == [0.0, 0.0]
    assert advantages[3] > 0


def test_without_any_valid_reward_all_advantages_are_zero():
    batch = experience([1.0, math.nan, 0.0], [0, 0, 1], valid=[False] * 3)
    assert GRPO()(batch).tolist() == [[0.0] * 3] * 3


def test_replayed_completions_are_members_of_their_group():
    batch = experience([0.0, 5.0, 0.0, 9.0, 0.0, 1.0, 1.0], [0, 1, 0, 1, 0, 1, 0], replayed=[False] * 3 + [True] * 4)
    # Group 0, half of it replayed: 0, 0, 0, 1, deviation 1/2. Group 1: 5, 9, 1, deviation 4. See the two groups above.
    expected = torch.tensor([-0.25, 0.0, -0.25, 4 / 4.5, -0.25, -4 / 4.5, 0.75])
    torch.testing.assert_close(GRPO(eps=0.5).estimate(batch), expected)


@pytest.mark.parametrize("eps", [-1e-4, -1.0, math.nan])
def test_a_negative_floor_is_refused(eps):
    with pytest.raises(ConfigError, match=f"advantage.eps must be 0 or more, got {eps}"):
        GRPO(eps=eps)
