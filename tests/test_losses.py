import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from avatar.losses import clipped_policy_loss, completion_mean, k3_kl

LN2 = math.log(2)
quick = settings(max_examples=30, deadline=None)


def ragged_mask(lengths, width=None):
    """[N, T] with the first ``lengths[i]`` tokens of row i real."""
    return torch.arange(max(lengths) if width is None else width) < torch.tensor(lengths)[:, None]


def random_batch(lengths, seed=0, shift=0.5):
    """Log-probs of a policy ``shift`` nats or so away from those that sampled; advantages per token; float64."""
    gen, mask = torch.Generator().manual_seed(seed), ragged_mask(lengths)
    behaviour, ref, noise, advantages = torch.randn(4, *mask.shape, generator=gen, dtype=torch.float64)
    behaviour, ref = -behaviour.abs(), -ref.abs()
    return {
        "logprobs": (behaviour + shift * noise).requires_grad_(),
        "behaviour_logprobs": behaviour,
        "advantages": advantages,
        "mask": mask,
        "ref_logprobs": ref,
    }


def ratios(*rows):
    """Log-probs whose ratios to behaviour log-probs of -3 are ``rows``."""
    return (torch.tensor(rows).log() - 3.0).requires_grad_(), torch.full((len(rows), len(rows[0])), -3.0)


def loss_by_loop(logprobs, behaviour_logprobs, advantages, mask, ref_logprobs, beta, low, high):
    """The equation of the docstring, one token at a time, in plain Python."""
    of_completions = []
    for i in range(len(mask)):
        tokens = []
        for t in range(mask.shape[1]):
            if mask[i, t]:
                ratio = math.exp(logprobs[i, t].item() - behaviour_logprobs[i, t].item())
                d = (ref_logprobs[i, t] - logprobs[i, t]).item()
                a = advantages[i, t].item()
                gain = min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a)
                tokens.append(-gain + beta * (math.exp(d) - d - 1))
        if tokens:
            of_completions.append(sum(tokens) / len(tokens))
    return sum(of_completions) / len(of_completions) if of_completions else 0.0


lengths_of_completions = st.lists(st.integers(0, 5), min_size=1, max_size=5)

# --- completion_mean ------------------------------------------------------------------------------------------------


def test_a_long_completion_weighs_no_more_than_a_short_one():
    values, mask = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]]), ragged_mask([3, 1])
    assert completion_mean(values, mask).item() == 3.0  # ((1 + 2 + 3) / 3 + 4) / 2; over tokens it would be 10 / 4


def test_a_completion_without_tokens_is_left_out_of_the_mean():
    values, mask = torch.tensor([[1.0, 3.0], [9.0, 9.0], [6.0, 9.0]]), ragged_mask([2, 0, 1])
    assert completion_mean(values, mask).item() == 4.0  # ((1 + 3) / 2 + 6) / 2, not / 3


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0), (3, 4)])
def test_the_mean_of_no_tokens_is_zero_and_so_is_its_gradient(shape):
    values = torch.ones(shape, requires_grad=True)
    mean = completion_mean(values, torch.zeros(shape, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0.0
    assert (values.grad == 0).all()


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf])
def test_what_stands_on_padding_reaches_neither_the_mean_nor_the_gradient(junk):
    values = torch.tensor([[1.0, junk], [2.0, 4.0]], requires_grad=True)
    mean = completion_mean(values, ragged_mask([1, 2]))
    mean.backward()
    assert mean.item() == 2.0  # (1 + (2 + 4) / 2) / 2
    assert values.grad.tolist() == [[0.5, 0.0], [0.25, 0.25]]  # 1 / (completions * tokens of this one)


@given(lengths_of_completions, st.integers(0, 99))
@quick
def test_the_mean_is_that_of_a_plain_loop_over_completions(lengths, seed):
    mask = ragged_mask(lengths)
    values = torch.randn(mask.shape, generator=torch.Generator().manual_seed(seed))
    means = [values[i, :length].mean() for i, length in enumerate(lengths) if length]
    expected = torch.stack(means).mean() if means else torch.tensor(0.0)
    torch.testing.assert_close(completion_mean(values, mask), expected)


# --- k3_kl ----------------------------------------------------------------------------------------------------------


def test_k3_of_a_token_twice_or_half_as_likely_under_the_reference():
    k3 = k3_kl(torch.tensor([[-2.0, -2.0]]), torch.tensor([[-2.0 + LN2, -2.0 - LN2]]))
    torch.testing.assert_close(k3, torch.tensor([[1 - LN2, LN2 - 0.5]]))  # 2 - ln 2 - 1 and 1/2 + ln 2 - 1


def test_k3_and_its_gradient_are_zero_where_policy_and_reference_agree():
    logprobs = torch.tensor([[-0.1, -5.0, 0.0]], requires_grad=True)
    k3 = k3_kl(logprobs, logprobs.detach().clone())
    k3.sum().backward()
    assert k3.tolist() == logprobs.grad.tolist() == [[0.0, 0.0, 0.0]]


@given(st.lists(st.tuples(st.floats(-30, 0, width=32), st.floats(-30, 0, width=32)), min_size=1, max_size=8))
@quick
def test_k3_is_never_negative(pairs):
    logprobs, ref = torch.tensor(pairs).T
    assert (k3_kl(logprobs, ref) >= 0).all()


@pytest.mark.parametrize("d", [1e-2, 1e-3, -1e-3, 1e-4])
def test_k3_keeps_its_digits_where_the_two_nearly_agree(d):
    # About d^2 / 2: 5e-9 for 1e-4, which exp(d) - d - 1 in fp32 would round to 0 or to 1e-7.
    k3 = k3_kl(torch.tensor(0.0), torch.tensor(d))
    torch.testing.assert_close(k3.item(), d**2 / 2 + d**3 / 6, rtol=1e-2, atol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_expectation_of_k3_under_the_policy_is_the_kl_divergence(seed):
    gen = torch.Generator().manual_seed(seed)
    policy, ref = (Categorical(logits=torch.randn(7, generator=gen, dtype=torch.float64)) for _ in range(2))
    expected = (policy.probs * k3_kl(policy.logits, ref.logits)).sum()  # every token, weighted by how often it is drawn
    torch.testing.assert_close(expected, kl_divergence(policy, ref))


# --- clipped_policy_loss: closed forms ------------------------------------------------------------------------------


def test_on_fresh_data_the_loss_is_the_mean_advantage_and_its_gradient_that_of_reinforce():
    batch = random_batch([3, 1, 2], shift=0.0)
    batch["advantages"] = torch.tensor([[1.0], [-2.0], [4.0]], dtype=torch.float64).expand(3, 3)
    loss, metrics = clipped_policy_loss(**batch)
    loss.backward()
    assert loss.item() == pytest.approx(-1.0)  # -(1 - 2 + 4) / 3
    # -A / (completions * tokens of this one): 1 / 9, 2 / 3, 4 / 6
    expected = torch.tensor([[-1 / 9, -1 / 9, -1 / 9], [2 / 3, 0, 0], [-4 / 6, -4 / 6, 0]], dtype=torch.float64)
    torch.testing.assert_close(batch["logprobs"].grad, expected)
    assert metrics["ratio/mean"].item() == metrics["ratio/max"].item() == 1.0
    assert metrics["clip_share"].item() == 0.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.5, 1.0, -1.2, 0.0),  # good and already more likely than 1 + 0.2: cut off
        (1.5, -1.0, 1.5, 1.5),  # bad and more likely: pushed down in full
        (0.5, 1.0, -0.5, -0.5),  # good and less likely: pushed up in full
        (0.5, -1.0, 0.8, 0.0),  # bad and already less likely than 1 - 0.2: cut off
        (1.1, 2.0, -2.2, -2.2),  # inside the trust region
        (0.9, -2.0, 1.8, 1.8),
        (3.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_clip_cuts_off_only_what_would_go_further_from_the_behaviour(ratio, advantage, loss, slope):
    logprobs, behaviour = ratios([ratio])
    value, metrics = clipped_policy_loss(logprobs, behaviour, torch.tensor([[advantage]]), ragged_mask([1]))
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(slope, abs=1e-6)  # d ratio / d logprob = ratio
    assert metrics["clip_share"].item() == (1.0 if advantage and slope == 0 else 0.0)


def test_the_two_sides_of_the_clip_are_set_apart():
    logprobs, behaviour = ratios([1.5, 0.5], [1.5, 0.5])
    advantages = torch.tensor([[1.0, -1.0], [2.0, -4.0]])
    loss, _ = clipped_policy_loss(
        logprobs, behaviour, advantages, ragged_mask([2, 2]), clip_eps_low=0.1, clip_eps_high=0.3
    )
    # token losses -1.3 and 0.9, then -2.6 and 3.6: ((-1.3 + 0.9) / 2 + (-2.6 + 3.6) / 2) / 2
    assert loss.item() == pytest.approx(0.15)


def test_without_a_clip_the_loss_is_plain_importance_weighting():
    batch = random_batch([4, 1, 3], shift=2.0)
    loss, metrics = clipped_policy_loss(**batch, clip_eps_low=1.0, clip_eps_high=math.inf)
    ratio = (batch["logprobs"] - batch["behaviour_logprobs"]).exp()
    torch.testing.assert_close(loss, completion_mean(-ratio * batch["advantages"], batch["mask"]))
    assert metrics["clip_share"].item() == 0.0


def test_the_metrics_count_real_tokens_only():
    # Real ratios 2, 1, 4 and 0.5, one of them cut off by the clip (4, with a positive advantage); padding would be 50.
    logprobs, behaviour = ratios([2.0, 1.0, 4.0], [0.5, 50.0, 50.0])
    advantages = torch.tensor([[-1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    _, metrics = clipped_policy_loss(logprobs, behaviour, advantages, ragged_mask([3, 1]))
    assert metrics["clip_share"].item() == 0.25
    assert metrics["ratio/mean"].item() == pytest.approx(7.5 / 4)
    assert metrics["ratio/max"].item() == pytest.approx(4.0)


def test_the_kl_term_is_weighted_by_beta_and_logged_without_it():
    batch = random_batch([3, 1])
    without, bare = clipped_policy_loss(**{**batch, "ref_logprobs": None})
    loss, metrics = clipped_policy_loss(**batch, beta=0.1)
    expected = completion_mean(k3_kl(batch["logprobs"], batch["ref_logprobs"]), batch["mask"])
    torch.testing.assert_close(metrics["kl"], expected.detach())
    torch.testing.assert_close(loss, without + 0.1 * expected)
    torch.testing.assert_close(metrics["loss/policy"], without.detach())
    assert set(metrics) - set(bare) == {"kl"}


def test_a_reference_without_a_weight_is_watched_and_changes_nothing():
    batch = random_batch([3, 1])
    watched, metrics = clipped_policy_loss(**batch, beta=0.0)
    plain, _ = clipped_policy_loss(**{**batch, "ref_logprobs": None})
    assert metrics["kl"] > 0
    (of_watched,) = torch.autograd.grad(watched, batch["logprobs"])
    (of_plain,) = torch.autograd.grad(plain, batch["logprobs"])
    assert torch.equal(watched, plain)
    assert torch.equal(of_watched, of_plain)


def test_a_weight_without_a_reference_is_refused():
    batch = {**random_batch([1]), "ref_logprobs": None}
    with pytest.raises(ValueError, match="beta is not 0, so ref_logprobs must be given"):
        clipped_policy_loss(**batch, beta=0.1)


# --- clipped_policy_loss: properties --------------------------------------------------------------------------------


@given(
    lengths_of_completions,
    st.integers(0, 99),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([0.1, 0.2]),
    st.sampled_from([0.2, 0.28]),
)
@quick
def test_the_loss_is_that_of_a_plain_loop_over_tokens(lengths, seed, beta, low, high):
    batch = random_batch(lengths, seed)
    loss, _ = clipped_policy_loss(**batch, beta=beta, clip_eps_low=low, clip_eps_high=high)
    assert loss.item() == pytest.approx(loss_by_loop(**batch, beta=beta, low=low, high=high), rel=1e-9, abs=1e-12)


@given(lengths_of_completions, st.integers(0, 99))
@quick
def test_the_gradient_is_that_of_finite_differences(lengths, seed):
    batch = random_batch(lengths, seed)
    logprobs, start, h = batch.pop("logprobs"), batch["behaviour_logprobs"], 1e-6
    ratio = (logprobs - start).exp()
    batch["mask"] &= ((ratio - 0.8).abs() > 1e-4) & ((ratio - 1.2).abs() > 1e-4)  # away from the kinks
    (grad,) = torch.autograd.grad(clipped_policy_loss(logprobs, **batch, beta=0.1)[0], logprobs)
    for cell in torch.cartesian_prod(*map(torch.arange, logprobs.shape)) if logprobs.numel() else ():
        step = torch.zeros_like(logprobs)
        step[tuple(cell)] = h
        up, down = (clipped_policy_loss(logprobs.detach() + s, **batch, beta=0.1)[0].item() for s in (step, -step))
        assert grad[tuple(cell)].item() == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-7)


def test_the_order_of_completions_does_not_matter():
    batch = random_batch([4, 1, 0, 3])
    order = torch.tensor([2, 3, 0, 1])
    loss, metrics = clipped_policy_loss(**batch, beta=0.1)
    shuffled_loss, shuffled_metrics = clipped_policy_loss(**{k: v[order] for k, v in batch.items()}, beta=0.1)
    torch.testing.assert_close(shuffled_loss, loss)
    torch.testing.assert_close(shuffled_metrics, metrics)


@pytest.mark.parametrize("junk", [0.0, -math.inf, math.nan, 1e30])
def test_more_padding_of_any_content_changes_neither_loss_nor_metrics_nor_gradient(junk):
    batch = random_batch([4, 1, 3])
    wide = {k: torch.nn.functional.pad(v.detach(), (0, 2), value=junk) for k, v in batch.items() if k != "mask"}
    wide |= {"mask": ragged_mask([4, 1, 3], width=6), "logprobs": wide["logprobs"].requires_grad_()}
    (loss, metrics), (wide_loss, wide_metrics) = (clipped_policy_loss(**b, beta=0.1) for b in (batch, wide))
    loss.backward()
    wide_loss.backward()
    torch.testing.assert_close(wide_loss, loss)
    torch.testing.assert_close(wide_metrics, metrics)
    torch.testing.assert_close(wide["logprobs"].grad[:, :4], batch["logprobs"].grad)
    assert (wide["logprobs"].grad[:, 4:] == 0).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0), (2, 3)])
def test_a_batch_without_a_token_to_train_on_gives_zero_loss_and_gradient(shape):
    logprobs = torch.full(shape, -1.0, requires_grad=True)
    other, mask = torch.full(shape, -2.0), torch.zeros(shape, dtype=torch.bool)
    loss, metrics = clipped_policy_loss(logprobs, other, torch.ones(shape), mask, other, beta=0.1)
    loss.backward()
    assert loss.item() == 0.0
    assert (logprobs.grad == 0).all()
    assert {k: v.item() for k, v in metrics.items()} == dict.fromkeys(metrics, 0.0)


def test_one_token_alone_has_a_loss():
    logprobs, behaviour = ratios([1.0])
    loss, _ = clipped_policy_loss(logprobs, behaviour, torch.tensor([[0.5]]), ragged_mask([1]))
    assert loss.item() == pytest.approx(-0.5)


def test_metrics_are_scalars_that_hold_no_graph():
    _, metrics = clipped_policy_loss(**random_batch([3, 1]), beta=0.1)
    assert set(metrics) == {"loss/policy", "kl", "clip_share", "ratio/mean", "ratio/max"}
    assert all(v.ndim == 0 and not v.requires_grad for v in metrics.values())


@pytest.mark.parametrize(("advantage", "loss"), [(1.0, -1.2), (0.0, 0.0)])
def test_a_ratio_beyond_fp32_is_clipped_like_any_other(advantage, loss):
    # exp(100) = 2.7e43 is infinite in fp32; the clip has cut the token off, so its gradient is 0 and not nan.
    logprobs, behaviour = torch.tensor([[-1.0]], requires_grad=True), torch.tensor([[-101.0]])
    value, _ = clipped_policy_loss(logprobs, behaviour, torch.tensor([[advantage]]), ragged_mask([1]))
    value.backward()
    assert value.item() == pytest.approx(loss)
    assert logprobs.grad.item() == 0.0
