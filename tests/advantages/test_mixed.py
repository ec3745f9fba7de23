import math

import pytest
import torch
from advantages.batches import experience, experiences, reordered
from hypothesis import given, settings

from avatar.advantages import GRPO, Mixed, group_normalized_advantage, vcrs_advantage
from avatar.errors import ConfigError

quick = settings(max_examples=30, deadline=None)
NAN = math.nan


def vcrs(rewards, group, reference, **kwargs):
    """In float64."""
    values = (torch.tensor(x, dtype=torch.float64) for x in (rewards, reference))
    rewards, reference = values
    return vcrs_advantage(rewards, torch.tensor(group), reference, **kwargs)


def vcrs_by_loop(rewards, group, reference, eps, std_floor):
    """The equation of the docstring, one completion at a time, with torch's own deviation."""
    out = []
    for reward, of, score in zip(rewards, group, reference, strict=True):
        members = torch.tensor([r for r, g in zip(rewards, group, strict=True) if g == of], dtype=torch.float64)
        deviation = 1.0 if len(members) == 1 else max(members.std().item(), std_floor)
        out.append(0.0 if math.isnan(score) else (reward - score) / (deviation + eps))
    return out


# --- vcrs_advantage -------------------------------------------------------------------------------------------------


def test_replayed_rewards_of_two_groups_by_hand():
    advantages = vcrs([0.0, 4.0, 1.0, 2.0], [0, 1, 0, 0], [0.5, 3.0, 0.5, 1.0], eps=0.5)
    # Group 0 is 0, 1, 2 with deviation 1, the last of a prompt with another score; group 1 is one alone.
    expected = [-0.5 / 1.5, 1.0 / 1.5, 0.5 / 1.5, 1.0 / 1.5]
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float64))


def test_the_deviation_is_that_of_the_replayed_rewards_with_ddof_1():
    advantages = vcrs([1.0, 5.0, 9.0, 0.0, 0.0, 0.0, 1.0], [0] * 3 + [1] * 4, [3.0] * 7, eps=0.0)
    # Group 0: deviation 4. Group 1: mean 1/4, squares 3/4 over n - 1 = 3, deviation 1/2.
    expected = [-2 / 4, 2 / 4, 6 / 4, -3 / 0.5, -3 / 0.5, -3 / 0.5, -2 / 0.5]
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float64))


def test_a_completion_replayed_alone_has_a_deviation_of_one():
    assert vcrs([0.25, 3.0], [7, 2], [1.0, 1.0], eps=0.0).tolist() == [-0.75, 2.0]


def test_a_group_of_equal_rewards_still_tells_whether_they_are_better_than_usual():
    # Deviation 0, so the floor of 0.1: (1 - 0.5) / (0.1 + 1e-4) = 4.995, and (1 - 1.2) / 0.1001 = -1.998.
    advantages = vcrs([1.0, 1.0, 1.0, 1.0, 1.0], [0, 0, 1, 1, 1], [0.5, 0.5, 1.2, 1.2, 1.2])
    torch.testing.assert_close(advantages, torch.tensor([0.5, 0.5, -0.2, -0.2, -0.2], dtype=torch.float64) / 0.1001)


def test_danger_zero_std_of_replayed_rewards_gives_no_advantages_of_hundreds():
    # Over 1e-4 alone a reward 0.0834 above the score gave 834; over the floor it is 0.83.
    reward, score = [1.0, 1.0, 0.0], [0.9166, 0.9166, 0.0834]
    advantages = vcrs(reward, [0, 0, 1], score)
    assert advantages.abs().max() < 1
    unfloored = vcrs(reward, [0, 0, 1], score, std_floor=0.0)
    assert unfloored[0].item() == pytest.approx(834, rel=1e-3)  # what the floor is for


def test_the_floor_is_a_floor_and_adds_nothing_above_it():
    # Group 0: deviation sqrt(1/2) * 0.1 = 0.0707, below 0.1. Group 1: sqrt(1/2), above it.
    advantages = vcrs([0.0, 0.1, 0.0, 1.0], [0, 0, 1, 1], [1.0, 1.0, 1.0, 2.0], eps=0.0)
    expected = [-1 / 0.1, -0.9 / 0.1, -math.sqrt(2), -math.sqrt(2)]
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float64))


def test_without_a_score_there_is_nothing_to_hold_a_completion_to_but_it_widens_its_group():
    advantages = vcrs([0.0, 1.0, 2.0, 4.0], [0, 0, 0, 1], [NAN, 0.5, 0.5, NAN], eps=0.0)
    # The deviation of group 0 is that of 0, 1, 2, which is 1; of 1 and 2 it would be 0.71.
    assert advantages.tolist() == [0.0, 0.5, 1.5, 0.0]


@given(experiences())
@quick
def test_it_agrees_with_a_plain_loop(batch):
    columns = [x.tolist() for x in (batch.rewards.double(), batch.group, batch.reference_score.double())]
    for eps, std_floor in ((1e-4, 0.1), (0.5, 1.0)):
        advantages = vcrs(*columns, eps=eps, std_floor=std_floor)
        assert advantages.tolist() == pytest.approx(vcrs_by_loop(*columns, eps, std_floor))


def test_nothing_replayed_gives_no_advantages():
    assert vcrs([], [], []).shape == (0,)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_replayed_reward_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="rewards must be finite"):
        vcrs([bad, 1.0], [0, 0], [0.0, 0.0])


def test_the_advantages_are_finite_without_any_floor():
    # Deviation 0, nothing added: (1 - 0.5) / 0. One that is where it was expected has 0 / 0.
    assert vcrs([1.0, 1.0, 0.5, 0.5], [0, 0, 1, 1], [0.5] * 4, eps=0.0, std_floor=0.0).abs().max() < 1e6


# --- Mixed ----------------------------------------------------------------------------------------------------------


def two_groups():
    """Fresh 0 0 0 1 and 1 5 9, replayed 0 1 2 and a single 4, in one row and not in order."""
    return experience(
        [0.0, 0.0, 1.0, 4.0, 0.0, 5.0, 0.0, 1.0, 9.0, 2.0, 1.0],
        [0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0],
        lengths=[3, 1, 2, 2, 0, 1, 4, 3, 1, 2, 1],
        replayed=[False, True, False, True, False, False, False, True, False, True, False],
        reference=[NAN, 0.5, NAN, 3.0, NAN, NAN, NAN, 0.5, NAN, 1.0, NAN],
    )


def test_the_advantage_of_two_mixed_groups_by_hand():
    # eps 0.5. Fresh of group 0: mean 1/4, deviation 1/2, so over 1; of group 1: mean 5, deviation 4, so over 4.5.
    # Replayed for group 0: 0, 1, 2 with deviation 1, scores 0.5, 0.5 and 1; for 1: 4 alone, score 3. All over 1.5.
    expected = [-0.25, -0.5 / 1.5, -4 / 4.5, 1 / 1.5, -0.25, 0.0, -0.25, 0.5 / 1.5, 4 / 4.5, 1 / 1.5, 0.75]
    torch.testing.assert_close(Mixed(eps=0.5).estimate(two_groups()), torch.tensor(expected))


def test_each_real_token_gets_the_advantage_of_its_completion_and_padding_none():
    batch = two_groups()
    advantages, of_completions = Mixed()(batch), Mixed().estimate(batch)
    for row, length, value in zip(advantages, batch.mask.sum(-1), of_completions, strict=True):
        assert row.tolist() == [value] * length + [0.0] * (4 - length)


def test_the_two_do_not_touch():
    batch = two_groups()
    advantages, old = Mixed().estimate(batch), batch.is_replayed
    assert torch.equal(advantages[~old], GRPO().estimate(reordered(batch, ~old)))
    assert torch.equal(advantages[old], Mixed().estimate(reordered(batch, old)))


@given(experiences())
@quick
def test_with_nothing_replayed_it_is_grpo_to_the_bit(batch):
    batch = reordered(batch, ~batch.is_replayed)
    assert torch.equal(Mixed(0.3).estimate(batch), GRPO(0.3).estimate(batch))


def test_with_all_replayed_there_is_no_group_mean():
    batch = experience([1.0, 3.0, 2.0, 0.0], [0, 0, 1, 1], replayed=[True] * 4, reference=[0.0, 0.0, 0.5, 0.5])
    # Both deviations are sqrt(2). The advantages of group 0 are both positive: that is the point of the score.
    expected = torch.tensor([1.0, 3.0, 1.5, -0.5]) / math.sqrt(2)
    torch.testing.assert_close(Mixed(eps=0.0).estimate(batch), expected)


def test_a_fresh_group_of_equal_rewards_gets_zero_and_what_is_replayed_for_it_does_not():
    batch = experience([1.0, 1.0, 0.5, 0.0, 1.0], [0, 0, 0, 1, 1], replayed=[False, False, True] + [False] * 2)
    scored = Mixed(eps=0.0).estimate(batch)
    assert scored[2] == 0  # no score yet
    advantages = Mixed(eps=0.0).estimate(
        experience(
            [1.0, 1.0, 0.5, 0.0, 1.0], [0, 0, 0, 1, 1], None, None, [False, False, True, False, False], [0.75] * 5
        )
    )
    half = math.sqrt(0.5)  # 1/2 either side of the mean over sqrt(1/2)
    assert advantages.tolist() == pytest.approx([0.0, 0.0, -0.25, -half, half])


def test_one_valid_fresh_completion_left_gets_zero_and_what_is_replayed_for_it_does_not():
    batch = experience(
        [5.0, 9.0, 9.0, 2.0, 0.0, 1.0],
        [0, 0, 0, 0, 1, 1],
        valid=[True, False, False, True, True, True],
        replayed=[False, False, False, True, False, False],
        reference=[NAN, NAN, NAN, 1.0, NAN, NAN],
    )
    half = math.sqrt(0.5)
    assert Mixed(eps=0.0).estimate(batch).tolist() == pytest.approx([0.0, 0.0, 0.0, 1.0, -half, half])


def test_one_valid_replayed_completion_left_of_several_counts_as_alone():
    batch = experience(
        [0.0, 1.0, 3.0], [0, 0, 0], valid=[False, True, False], replayed=[True] * 3, reference=[0.25] * 3
    )
    assert Mixed(eps=0.0).estimate(batch).tolist() == [0.0, 0.75, 0.0]  # deviation 1, not that of 0, 1, 3


def test_the_scores_of_fresh_completions_are_not_looked_at():
    batch = two_groups()
    batch.reference_score[~batch.is_replayed] = 99.0
    assert torch.equal(Mixed().estimate(batch), Mixed().estimate(two_groups()))


def test_both_floors_reach_their_equations():
    batch = experience([0.0, 2.0, 1.0, 1.0], [0] * 4, replayed=[False, False, True, True], reference=[0.0] * 4)
    advantages = Mixed(eps=0.25, std_floor=0.75).estimate(batch)
    on_policy = group_normalized_advantage(torch.tensor([0.0, 2.0]), torch.tensor([0, 0]), 0.25)
    torch.testing.assert_close(advantages, torch.cat([on_policy, torch.ones(2)]))  # (1 - 0) / (0.75 + 0.25)


def test_by_default_it_adds_one_in_ten_thousand_to_a_floor_of_a_tenth():
    batch = experience([1.0, 1.0], [0, 0], replayed=[True, True], reference=[0.0, 0.0])
    assert Mixed().estimate(batch).tolist() == pytest.approx([1 / 0.1001] * 2)


def test_it_needs_replay_and_grpo_does_not():
    assert Mixed().needs_replay
    assert not GRPO().needs_replay


@pytest.mark.parametrize("name", ["eps", "std_floor"])
@pytest.mark.parametrize("bad", [-0.1, NAN])
def test_a_floor_below_zero_is_refused(name, bad):
    with pytest.raises(ConfigError, match=f"advantage.{name} must be 0 or more, got {bad}"):
        Mixed(**{name: bad})
