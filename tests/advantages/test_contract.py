"""What every registered estimator promises, whatever its equation."""

import math
from dataclasses import fields, replace

import pytest
import torch
from advantages.batches import experience, experiences, reordered, widened
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.advantages import ADVANTAGES

LENGTHS = [3, 1, 5, 2, 4, 0, 2]
REWARDS = [0.0, 1.0, 0.5, 2.0, 3.0, 5.0, 2.0]
GROUP = [0, 0, 0, 1, 1, 1, 1]  # two groups of different size
every = pytest.mark.parametrize("name", list(ADVANTAGES))  # for hypothesis, which wants no fixture
apart = pytest.mark.parametrize("name", [n for n in ADVANTAGES if ADVANTAGES[n]().needs_replay])
together = pytest.mark.parametrize("name", [n for n in ADVANTAGES if not ADVANTAGES[n]().needs_replay])
quick = settings(max_examples=20, deadline=None)


@pytest.fixture(params=list(ADVANTAGES))
def estimator(request):
    return ADVANTAGES[request.param]()


def fresh(rewards=REWARDS, group=GROUP, valid=None, lengths=LENGTHS):
    """Completions straight from the policy: none replayed, no reference score yet."""
    return experience(rewards, group, lengths, valid)


def replayed():
    """Five stored completions: two and a not valid one of the first group, two of the second, one without a score."""
    scores = [0.5, 0.25, 0.5, 1.0, math.nan]
    valid = [True, True, False, True, True]
    return experience([1.0, 0.5, 9.0, 0.0, 2.0], [0, 0, 0, 1, 1], [2, 6, 1, 0, 3], valid, [True] * 5, scores)


def mixed(**kwargs):
    return fresh(**kwargs).join(replayed())


batches = pytest.mark.parametrize("build", [fresh, mixed])


@batches
def test_there_is_one_number_per_token(estimator, build):
    batch = build()
    advantages = estimator(batch)
    assert advantages.shape == batch.ids.shape == ((7, 5) if build is fresh else (12, 6))
    assert advantages.dtype == torch.float32
    assert advantages.isfinite().all()


def test_padding_gets_zero_and_real_tokens_get_a_signal(estimator):
    batch = fresh()
    advantages = estimator(batch)
    assert (advantages[~batch.mask] == 0).all()
    assert advantages[1, 0] > 0  # the best of its group, one token long
    assert advantages[0, 0] < 0  # the worst


def test_a_better_completion_of_a_group_gets_a_higher_advantage(estimator):
    first_token = estimator(fresh(lengths=[2] * 7))[:, 0]
    rewards, group = torch.tensor(REWARDS), torch.tensor(GROUP)
    for i in range(7):
        for j in range(7):
            if group[i] == group[j] and rewards[i] > rewards[j]:
                assert first_token[i] > first_token[j]


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, -0.7])  # the mean of equal tenths rounds
def test_a_group_without_spread_gives_no_signal_beside_one_with(estimator, reward):
    advantages = estimator(fresh(rewards=[reward] * 3 + [0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(advantages[:3], torch.zeros(3, 5), atol=1e-6, rtol=0)
    assert (advantages[3:] != 0).any()


def test_a_group_of_one_gives_no_signal(estimator):
    advantages = estimator(fresh(rewards=[3.0, 0.0, 1.0], group=[4, 7, 7], lengths=[2, 1, 3]))
    torch.testing.assert_close(advantages[0], torch.zeros(3), atol=1e-6, rtol=0)
    assert (advantages[1:] != 0).any()


def test_a_completion_without_a_valid_reward_gets_zero(estimator):
    valid = torch.tensor([True, True, False, True, False, True, True])
    advantages = estimator(fresh(valid=valid.tolist()))
    assert (advantages[~valid] == 0).all()
    assert (advantages[0] != 0).any()


@pytest.mark.parametrize("junk", [1e6, math.nan, -math.inf])
def test_a_reward_that_is_not_valid_has_no_influence_on_others(estimator, junk):
    valid = [True, True, True, True, False, True, True]
    changed = [junk if not v else r for r, v in zip(REWARDS, valid, strict=True)]
    torch.testing.assert_close(estimator(fresh(rewards=changed, valid=valid)), estimator(fresh(valid=valid)))


def test_without_any_valid_reward_there_is_no_signal(estimator):
    assert (estimator(fresh(rewards=[math.nan] * 7, valid=[False] * 7)) == 0).all()


@every
@given(batch=experiences(), random=st.randoms(use_true_random=False))
@quick
def test_reordering_completions_reorders_their_advantages(name, batch, random):
    order = torch.tensor(random.sample(range(len(batch)), len(batch)))
    estimator = ADVANTAGES[name]()
    torch.testing.assert_close(estimator(reordered(batch, order)), estimator(batch)[order], atol=1e-5, rtol=1e-5)


@every
@given(batch=experiences(), by=st.integers(1, 4))
@quick
def test_more_padding_changes_nothing(name, batch, by):
    estimator = ADVANTAGES[name]()
    assert torch.equal(estimator(widened(batch, by)), torch.nn.functional.pad(estimator(batch), (0, by)))


@every
@given(batch=experiences())
@quick
def test_any_batch_gets_finite_numbers_and_zero_on_padding_and_where_no_reward_is_valid(name, batch):
    advantages = ADVANTAGES[name]()(batch)
    assert advantages.isfinite().all()
    assert (advantages[~batch.mask] == 0).all()
    assert (advantages[~batch.valid] == 0).all()


@batches
def test_the_experience_is_left_as_it_was(estimator, build):
    batch, before = build(), build()
    estimator(batch)
    for f in fields(batch):
        torch.testing.assert_close(getattr(batch, f.name), getattr(before, f.name), equal_nan=True)


@batches
def test_no_gradient_flows_through_advantages(estimator, build):
    assert not estimator(build()).requires_grad


@pytest.mark.parametrize("length", [0, 1])
def test_completions_of_one_token_or_none_are_no_special_case(estimator, length):
    advantages = estimator(fresh(lengths=[length] * 7))
    assert advantages.shape == (7, length)
    assert advantages.isfinite().all()


# --- with replayed completions --------------------------------------------------------------------------------------


@apart
def test_replayed_completions_leave_the_fresh_ones_their_advantages_to_the_bit(name):
    advantages = ADVANTAGES[name]()(mixed())
    assert torch.equal(advantages[:7, :5], ADVANTAGES[name]()(fresh()))
    assert (advantages[7:] != 0).any()


@apart
@given(batch=experiences(), moved=st.sampled_from([-2.0, 0.3, 8.0]))
@quick
def test_neither_replayed_rewards_nor_scores_reach_the_fresh_ones(name, batch, moved):
    estimator, old = ADVANTAGES[name](), batch.is_replayed
    rewards, scores = batch.rewards.where(~old, moved * batch.rewards + 1), batch.reference_score.where(~old, moved)
    other = replace(batch, rewards=rewards, reference_score=scores)
    assert torch.equal(estimator(other)[~old], estimator(batch)[~old])


@together
def test_replayed_completions_move_the_mean_of_their_group(name):
    # 0, 1, 0.5 with mean 0.5 get a replayed 1 and 0.5, mean 0.6; 2, 3, 5, 2 with mean 3 get 0 and 2, mean 14 / 6.
    beside, alone = ADVANTAGES[name]()(mixed())[:7, 0], ADVANTAGES[name]()(fresh())[:, 0]
    assert not torch.isclose(beside, alone)[[2, 3, 4]].any()


@together
@given(batch=experiences(), score=st.sampled_from([0.0, -3.0, math.nan]))
@quick
def test_a_replayed_completion_counts_like_a_fresh_one_and_its_score_not_at_all(name, batch, score):
    other = replace(batch, is_replayed=~batch.is_replayed, reference_score=torch.full_like(batch.rewards, score))
    assert torch.equal(ADVANTAGES[name]()(other), ADVANTAGES[name]()(batch))


def test_a_batch_of_nothing_but_replayed_ones_gets_numbers_too(estimator):
    batch = replayed()
    advantages = estimator(batch)
    assert advantages.shape == batch.ids.shape
    assert advantages.isfinite().all()
    assert (advantages[0, :2] > 0).all()  # 1.0, over the score of 0.5 and over the mean of the replayed 1.0 and 0.5
    assert (advantages[~batch.valid] == 0).all()


@pytest.mark.parametrize("junk", [1e6, math.nan, -math.inf])
def test_a_replayed_reward_that_is_not_valid_has_no_influence_on_others(estimator, junk):
    batch = mixed()
    changed = replace(batch, rewards=batch.rewards.where(batch.valid, junk))
    assert torch.equal(estimator(changed), estimator(batch))


def test_what_follows_another_prompt_counts_in_the_group_that_it_is_replayed_for(estimator):
    batch = mixed()
    assert torch.equal(estimator(replace(batch, prompt=batch.prompt + 5)), estimator(batch))


def test_what_was_written_and_when_has_no_influence(estimator):
    batch = mixed()
    other = replace(
        batch,
        ids=batch.ids + 1,
        behaviour_logprobs=2 * batch.behaviour_logprobs,
        step=batch.step + 9,
        hinted=~batch.hinted,
    )
    assert torch.equal(estimator(other), estimator(batch))
