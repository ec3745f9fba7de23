"""What every registered estimator promises, whatever its equation."""

import math
from dataclasses import fields, replace

import pytest
import torch

from avatar.advantages import ADVANTAGES
from avatar.types import Completion, Experience

LENGTHS = [3, 1, 5, 2, 4, 0, 2]
REWARDS = [0.0, 1.0, 0.5, 2.0, 3.0, 5.0, 2.0]
GROUP = [0, 0, 0, 1, 1, 1, 1]  # two groups of different size


@pytest.fixture(params=list(ADVANTAGES))
def estimator(request):
    return ADVANTAGES[request.param]()


def fresh(rewards=REWARDS, group=GROUP, valid=None, lengths=LENGTHS):
    """Completions straight from the policy: none replayed, no reference score yet."""
    completions = [Completion(torch.arange(n), -torch.ones(n), "", True) for n in lengths]
    valid = [True] * len(rewards) if valid is None else valid
    return Experience.from_completions(
        completions, torch.tensor(group), torch.tensor(rewards), torch.tensor(valid, dtype=torch.bool)
    )


def test_there_is_one_number_per_token(estimator):
    batch = fresh()
    advantages = estimator(batch)
    assert advantages.shape == batch.ids.shape == (7, 5)
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


@pytest.mark.parametrize("seed", range(5))
def test_reordering_completions_reorders_their_advantages(estimator, seed):
    batch = fresh(valid=[True, True, True, True, True, False, True])
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    shuffled = replace(batch, **{f.name: getattr(batch, f.name)[order] for f in fields(batch)})
    torch.testing.assert_close(estimator(shuffled), estimator(batch)[order])


def test_more_padding_changes_nothing(estimator):
    batch = fresh()
    pad = torch.nn.functional.pad
    wide = replace(batch, **{k: pad(getattr(batch, k), (0, 3)) for k in ("ids", "mask", "behaviour_logprobs")})
    torch.testing.assert_close(estimator(wide), pad(estimator(batch), (0, 3)))


def test_the_experience_is_left_as_it_was(estimator):
    batch, before = fresh(), fresh()
    estimator(batch)
    for f in fields(batch):
        torch.testing.assert_close(getattr(batch, f.name), getattr(before, f.name), equal_nan=True)


def test_no_gradient_flows_through_advantages(estimator):
    assert not estimator(fresh()).requires_grad


@pytest.mark.parametrize("length", [0, 1])
def test_completions_of_one_token_or_none_are_no_special_case(estimator, length):
    advantages = estimator(fresh(lengths=[length] * 7))
    assert advantages.shape == (7, length)
    assert advantages.isfinite().all()
