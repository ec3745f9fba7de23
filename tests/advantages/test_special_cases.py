"""What one estimator is of another, seen where it counts: in the loss and its gradient."""

import math
from dataclasses import replace

import pytest
import torch
from advantages.batches import experience, experiences, reordered
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.advantages import AVATAR, GRPO, TAS, Mixed, Uniform
from avatar.losses import Objective, TokenBatch

quick = settings(max_examples=40, deadline=None)


def learn(estimator, objective, batch, alpha=1.0, seed=0):
    """Loss and its gradient on all log-probs, under a policy some way off the behaviour; the same for the same seed."""
    gen = torch.Generator().manual_seed(seed)
    width = 16  # drawn wide, so that a batch and the batch it is part of see the same numbers
    drawn = -torch.rand(3, 32, width, generator=gen)[:, : len(batch), : batch.ids.shape[1]]
    logprobs = (2 * drawn[0]).requires_grad_()
    tokens = TokenBatch(
        logprobs, 2 * drawn[1], estimator(batch), batch.mask & batch.valid[:, None], batch.is_replayed, 2 * drawn[2]
    )
    losses, _ = objective(tokens, alpha)
    losses.total.backward()
    return losses.total.detach(), logprobs.grad


def old_ones(**kwargs):
    """Three replayed completions, one of them alone in its group, longer than any fresh one."""
    return experience(
        [1.0, 0.0, 0.5], [0, 0, 1], [6, 1, 2], replayed=[True] * 3, reference=[0.25, 0.25, 0.75], **kwargs
    )


@given(experiences(), st.integers(0, 99), st.sampled_from([0.0, 0.1]))
@quick
def test_mixed_and_uniform_with_alpha_0_learn_from_the_fresh_what_grpo_learns_to_the_bit(batch, seed, beta):
    # The same rows in both, so that sums run in the same order: to GRPO the replayed ones have no token to learn from.
    mixed = learn(TAS(Mixed(), Uniform()), Objective(beta), batch, alpha=0.0, seed=seed)
    masked = replace(batch, valid=batch.valid & ~batch.is_replayed)
    loss, gradient = learn(GRPO(), Objective(beta), masked, seed=seed)
    assert torch.equal(mixed[0], loss)
    assert torch.equal(mixed[1], gradient)


@pytest.mark.parametrize("aggregation", ["completion", "token", "constant"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_alpha_0_the_fresh_learn_what_they_learn_without_any_replayed_ones(aggregation, seed):
    fresh = experience([0.0, 1.0, 0.5, 3.0, 1.0], [0, 0, 0, 1, 1], [3, 1, 5, 2, 4])
    objective = Objective(aggregation=aggregation)
    loss, gradient = learn(GRPO(), objective, fresh, seed=seed)
    mixed, of_all = learn(TAS(Mixed(), Uniform()), objective, fresh.join(old_ones()), alpha=0.0, seed=seed)
    torch.testing.assert_close(mixed, loss)  # wider rows may add up in another order
    assert torch.equal(of_all[:5, :5], gradient)
    assert (of_all[5:] == 0).all()
    assert (of_all[:, 5:] == 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_alpha_above_0_they_do_not(seed):
    fresh = experience([0.0, 1.0, 0.5, 3.0, 1.0], [0, 0, 0, 1, 1], [3, 1, 5, 2, 4])
    loss, gradient = learn(GRPO(), Objective(), fresh, seed=seed)
    mixed, of_all = learn(Mixed(), Objective(), fresh.join(old_ones()), alpha=0.5, seed=seed)
    assert not torch.isclose(mixed, loss)
    assert torch.equal(of_all[:5, :5], gradient)  # each part is normalised by itself
    assert (of_all[5:] != 0).any()


def copies(rewards, group, lengths):
    """A fresh batch, and the same completions replayed with the mean of their group as the score."""
    fresh = experience(rewards, group, lengths)
    means = [fresh.rewards[fresh.group == g].mean() for g in group]
    return fresh, replace(
        fresh, is_replayed=torch.ones_like(fresh.is_replayed), reference_score=torch.stack(means).float()
    )


ragged_groups = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 1.0, -1.0, 3.0]), min_size=1, max_size=5), min_size=1, max_size=3
)


@given(ragged_groups, st.integers(0, 99), st.sampled_from([0.5, 1.0]))
@quick
def test_replayed_copies_scored_by_their_group_mean_give_grpo_back(groups, seed, eps):
    # Both have the deviation with ddof 1; a completion alone has 0 over 1 here and 0 over 0 there: 0 in both.
    rewards, group = [r for row in groups for r in row], [g for g, row in enumerate(groups) for _ in row]
    fresh, old = copies(rewards, group, [1 + (3 * i + seed) % 5 for i in range(len(rewards))])
    objective = Objective(beta=0.0, dual_clip=None)
    loss, gradient = learn(GRPO(eps), objective, fresh, seed=seed)
    replayed, of_replayed = learn(Mixed(eps, std_floor=0.0), objective, old, alpha=1.0, seed=seed)
    torch.testing.assert_close(replayed, loss, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(of_replayed, gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_they_do_so_to_the_bit_where_the_means_are_exact(seed):
    fresh, old = copies([0.0, 1.0, 0.0, 3.0, 2.0, 1.0, 6.0], [0, 0, 0, 0, 1, 1, 1], [3, 1, 5, 2, 4, 0, 2])
    objective = Objective(beta=0.0, dual_clip=None)  # means 1 and 3
    loss, gradient = learn(GRPO(), objective, fresh, seed=seed)
    replayed, of_replayed = learn(Mixed(std_floor=0.0), objective, old, seed=seed)
    assert torch.equal(replayed, loss)
    assert torch.equal(of_replayed, gradient)


def test_the_floor_and_the_kl_term_are_what_else_sets_the_two_apart():
    fresh, old = copies([0.0, 0.04, 3.0, 2.0], [0, 0, 1, 1], [3, 1, 4, 2])
    loss, gradient = learn(GRPO(), Objective(beta=0.0, dual_clip=None), fresh)
    floored, _ = learn(Mixed(), Objective(beta=0.0, dual_clip=None), old)  # deviation 0.028, below 0.1
    assert not torch.isclose(floored, loss)
    with_kl, _ = learn(Mixed(std_floor=0.0), Objective(beta=0.1, dual_clip=None, kl_on="all"), old)
    assert not torch.isclose(with_kl, loss)
    without, of_without = learn(Mixed(std_floor=0.0), Objective(beta=0.1, dual_clip=None), old)  # KL on fresh only
    torch.testing.assert_close(without, loss)
    torch.testing.assert_close(of_without, gradient)


@given(experiences(), st.integers(0, 99))
@quick
def test_avatar_without_strength_and_replay_is_grpo(batch, seed):
    batch = reordered(batch, ~batch.is_replayed)
    avatar = learn(AVATAR(strength=0.0), Objective(), batch, seed=seed)
    grpo = learn(GRPO(), Objective(), batch, seed=seed)
    assert torch.equal(avatar[0], grpo[0])
    assert torch.equal(avatar[1], grpo[1])
    assert math.isfinite(avatar[0])
