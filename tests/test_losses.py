import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from avatar.errors import ConfigError
from avatar.losses import (
    MAX_FRESH_KL,
    MAX_LOG_RATIO,
    MAX_REPLAYED_KL,
    Losses,
    Objective,
    TokenBatch,
    clipped_token_loss,
    completion_mean,
    constant_mean,
    effective_sample_share,
    k3_kl,
    token_mean,
)

LN2 = math.log(2)
PLAIN = Objective(beta=0.0)  # the policy part alone
FP32 = {"rtol": 1e-5, "atol": 1e-6}  # the KL term is fp32 even where the rest is float64
AGGREGATIONS = ["completion", "token", "constant"]
PARTS = ["fresh", "replayed"]
quick = settings(max_examples=30, deadline=None)
parts = pytest.mark.parametrize("part", PARTS)


def ragged_mask(lengths, width=None):
    """[N, T] with the first ``lengths[i]`` tokens of row i real."""
    return torch.arange(max(lengths) if width is None else width) < torch.tensor(lengths)[:, None]


def random_batch(lengths, replayed=None, seed=0, shift=0.5):
    """Log-probs of a policy ``shift`` nats or so away from those that sampled; advantages per token; float64."""
    gen, mask = torch.Generator().manual_seed(seed), ragged_mask(lengths)
    behaviour, ref, noise, advantages = torch.randn(4, *mask.shape, generator=gen, dtype=torch.float64)
    behaviour, ref = -behaviour.abs(), -ref.abs()
    logprobs = (behaviour + shift * noise).requires_grad_()
    return TokenBatch(logprobs, behaviour, advantages, mask, flags(replayed, len(lengths)), ref)


def flags(replayed, num):
    return torch.tensor([False] * num if replayed is None else replayed, dtype=torch.bool)


def of_ratios(ratios, advantages, replayed=None, reference=None):
    """Ragged rows of ratios to behaviour log-probs of -3, with advantages; ``reference`` is d = ref - log-prob."""
    mask, pad = ragged_mask([len(row) for row in ratios]), torch.nn.utils.rnn.pad_sequence
    rows = [pad([torch.tensor(r, dtype=torch.float32) for r in x], batch_first=True) for x in (ratios, advantages)]
    logprobs = torch.where(mask, rows[0].log() - 3.0, 0.0).requires_grad_()
    ref = None
    if reference is not None:
        ref = logprobs.detach() + pad([torch.tensor(r, dtype=torch.float32) for r in reference], batch_first=True)
    return TokenBatch(logprobs, torch.full_like(rows[0], -3.0), rows[1], mask, flags(replayed, len(ratios)), ref)


def learn(objective, tokens, alpha=1.0, max_length=1):
    """Losses, metrics and the gradient of the sum of the losses."""
    losses, metrics = objective(tokens, alpha, max_length)
    (gradient,) = torch.autograd.grad(losses.total, tokens.logprobs)
    return losses, metrics, gradient


def reordered(tokens, order):
    chosen = {f.name: getattr(tokens, f.name) for f in fields(tokens)}
    return TokenBatch(**{k: None if v is None else v[order] for k, v in chosen.items()})


def token_by_hand(objective, log_ratio, d, advantage, replayed):
    """Loss of one token and its derivative in the log-prob, in plain floats: one case after the other."""
    ratio, cap = math.exp(log_ratio), objective.max_replayed_ratio
    flat = False
    if replayed and cap is not None and ratio > cap:
        ratio, flat = cap, True
    low, high = 1 - objective.clip_eps_low, 1 + objective.clip_eps_high
    loss = -ratio * advantage
    if advantage > 0 and ratio > high:
        loss, flat = -high * advantage, True
    if advantage < 0 and ratio < low:
        loss, flat = -low * advantage, True
    if advantage < 0 and objective.dual_clip is not None and ratio > objective.dual_clip:
        loss, flat = -objective.dual_clip * advantage, True
    slope = 0.0 if flat else -ratio * advantage
    if objective.beta and (not replayed or objective.kl_on == "all"):
        bound = 5.0 if replayed else 20.0
        loss += objective.beta * (math.exp(min(d, bound)) - min(d, bound) - 1)
        slope += objective.beta * (1 - math.exp(d)) if d < bound else 0.0
    return loss, slope


def objective_by_loop(objective, tokens, alpha, max_length):
    """Fresh loss, replayed loss and gradient, by loops over parts, completions and tokens; no tensor arithmetic."""
    gradient = [[0.0] * tokens.mask.shape[1] for _ in tokens.mask]
    losses = {}
    for part, factor in (("fresh", 1.0), ("replayed", alpha)):
        rows = [i for i in range(len(tokens.mask)) if bool(tokens.is_replayed[i]) == (part == "replayed")]
        lengths = {i: int(tokens.mask[i].sum()) for i in rows}
        num_completions, num_tokens = sum(n > 0 for n in lengths.values()), sum(lengths.values())
        losses[part] = 0.0
        for i in rows:
            for t in range(tokens.mask.shape[1]):
                if not tokens.mask[i, t]:
                    continue
                share = (
                    factor
                    * {
                        "completion": 1 / (lengths[i] * num_completions),
                        "token": 1 / num_tokens,
                        "constant": 1 / (max_length * num_completions),
                    }[objective.aggregation]
                )
                now, then = tokens.logprobs[i, t].item(), tokens.behaviour_logprobs[i, t].item()
                d = tokens.ref_logprobs[i, t].item() - now
                advantage = tokens.advantages[i, t].item()
                loss, slope = token_by_hand(objective, now - then, d, advantage, part == "replayed")
                losses[part] += share * loss
                gradient[i][t] = share * slope
    return losses["fresh"], losses["replayed"], torch.tensor(gradient, dtype=torch.float64)


any_logprob = st.floats(max_value=0, allow_nan=False, allow_infinity=False, width=32)  # down to -3.4e38
lengths_of_completions = st.lists(st.integers(0, 5), min_size=1, max_size=5)
mixed_lengths = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=7)
objectives = st.builds(
    Objective,
    beta=st.sampled_from([0.0, 0.1, 1.0]),
    clip_eps_low=st.sampled_from([0.1, 0.2]),
    clip_eps_high=st.sampled_from([0.2, 0.28]),
    dual_clip=st.sampled_from([None, 1.1, 3.0]),
    max_replayed_ratio=st.sampled_from([None, 1.1, 2.0]),
    aggregation=st.sampled_from(AGGREGATIONS),
    kl_on=st.sampled_from(["fresh", "all"]),
)

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


# --- token_mean and constant_mean -----------------------------------------------------------------------------------


def test_over_tokens_a_long_completion_weighs_more():
    values, mask = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]]), ragged_mask([3, 1])
    assert token_mean(values, mask).item() == 2.5  # (1 + 2 + 3 + 4) / 4


def test_over_a_constant_a_completion_weighs_as_much_as_its_sum():
    values, mask = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]]), ragged_mask([3, 1, 0])
    assert (
        constant_mean(values, mask, length=5).item() == 1.0
    )  # ((1 + 2 + 3) / 5 + 4 / 5) / 2; the empty one is left out


@pytest.mark.parametrize("mean", [token_mean, lambda values, mask: constant_mean(values, mask, 7)])
@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0), (3, 4)])
def test_the_other_means_of_no_tokens_are_zero_and_so_are_their_gradients(mean, shape):
    values = torch.full(shape, math.nan, requires_grad=True)
    total = mean(values, torch.zeros(shape, dtype=torch.bool))
    total.backward()
    assert total.item() == 0.0
    assert (values.grad == 0).all()


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
@quick
def test_all_means_agree_where_all_completions_have_the_full_length(num, length, seed):
    values = torch.randn(num, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = ragged_mask([length] * num)
    torch.testing.assert_close(token_mean(values, mask), completion_mean(values, mask))
    torch.testing.assert_close(constant_mean(values, mask, length), completion_mean(values, mask))


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


@pytest.mark.parametrize("d", [19.0, 21.0, 90.0, 1e6])
def test_k3_is_constant_beyond_its_bound_and_has_no_gradient_there(d):
    logprobs = torch.tensor([[-d, -1.0]], requires_grad=True)
    k3 = k3_kl(logprobs, torch.tensor([[0.0, -1.0]]))
    k3.sum().backward()
    reached = min(d, 20.0)
    assert k3[0, 0].item() == pytest.approx(math.exp(reached) - reached - 1)
    assert logprobs.grad[0, 0].item() == pytest.approx(1 - math.exp(d) if d < 20 else 0.0)
    assert k3[0, 1].item() == logprobs.grad[0, 1].item() == 0.0


def test_k3_takes_the_bound_that_it_is_given():
    k3 = k3_kl(torch.tensor([-9.0, -4.0]), torch.tensor([0.0, 0.0]), bound=5.0)
    assert k3.tolist() == pytest.approx([math.exp(5) - 6, math.exp(4) - 5])


@given(st.lists(st.tuples(any_logprob, any_logprob), min_size=1, max_size=8))
@quick
def test_k3_and_its_gradient_never_overflow(pairs):
    logprobs, ref = torch.tensor(pairs).T
    logprobs.requires_grad_()
    k3 = k3_kl(logprobs, ref)
    (gradient,) = torch.autograd.grad(k3.sum(), logprobs)
    assert k3.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= math.exp(20)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_k3_of_half_precision_log_probs_is_computed_in_fp32(dtype):
    # d = 1, e - 2 = 0.71828; bf16 has 0.71875 there, and e^20 is infinite in fp16.
    k3 = k3_kl(torch.tensor([-2.0, -30.0], dtype=dtype), torch.tensor([-1.0, 0.0], dtype=dtype))
    assert k3.dtype == torch.float32
    torch.testing.assert_close(k3, torch.tensor([math.e - 2, math.exp(20) - 21]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_expectation_of_k3_under_the_policy_is_the_kl_divergence(seed):
    gen = torch.Generator().manual_seed(seed)
    policy, ref = (Categorical(logits=torch.randn(7, generator=gen, dtype=torch.float64)) for _ in range(2))
    expected = (policy.probs * k3_kl(policy.logits, ref.logits)).sum()  # every token, weighted by how often it is drawn
    torch.testing.assert_close(expected, kl_divergence(policy, ref), rtol=1e-5, atol=1e-7)  # k3 itself is fp32


# --- clipped_token_loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.5, 1.0, -1.2, 0.0),  # good and already more likely than 1 + 0.2: cut off
        (1.5, -1.0, 1.5, 1.5),  # bad and more likely: pushed down in full
        (0.5, 1.0, -0.5, -0.5),  # good and less likely: pushed up in full
        (0.5, -1.0, 0.8, 0.0),  # bad and already less likely than 1 - 0.2: cut off
        (1.1, 2.0, -2.2, -2.2),  # inside the trust region
        (0.9, -2.0, 1.8, 1.8),
        (2.9, -2.0, 5.8, 5.8),  # bad and likelier, but less than 3 times: pushed down in full
        (3.5, -2.0, 6.0, 0.0),  # bad and 3.5 times as likely: bounded by 3 |A|
        (3.5, 2.0, -2.4, 0.0),
        (3.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_clips_cut_off_what_would_go_further_and_what_is_too_far_already(ratio, advantage, loss, slope):
    tokens = of_ratios([[ratio], [1.0]], [[advantage], [0.0]])
    losses, metrics, gradient = learn(PLAIN, tokens)
    assert losses.fresh.item() == pytest.approx(loss / 2, abs=1e-6)
    assert gradient.tolist() == [[pytest.approx(slope / 2, abs=1e-6)], [0.0]]  # d ratio / d logprob = ratio
    assert metrics["clip_share/fresh"].item() == (0.5 if advantage and slope == 0 else 0.0)


def test_the_two_sides_of_the_clip_are_set_apart():
    tokens = of_ratios([[1.5, 0.5], [1.5]], [[1.0, -1.0], [2.0]])
    losses, _ = Objective(beta=0.0, clip_eps_low=0.1, clip_eps_high=0.3)(tokens)
    # token losses -1.3 and 0.9, then -2.6: ((-1.3 + 0.9) / 2 - 2.6) / 2
    assert losses.fresh.item() == pytest.approx(-1.4)


@given(st.floats(0, 1e4), st.floats(-10, 10), st.sampled_from([1.5, 3.0]))
@quick
def test_dual_clip_bounds_the_loss_of_a_bad_token_whatever_its_ratio(ratio, advantage, bound):
    one, value = torch.tensor([[ratio]], dtype=torch.float64), torch.tensor([[advantage]], dtype=torch.float64)
    loss, _ = clipped_token_loss(one, value, 0.2, 0.2, bound)
    unbounded, _ = clipped_token_loss(one, value, 0.2, 0.2, None)
    assert loss.item() <= bound * abs(advantage)
    assert loss.item() == (unbounded.item() if advantage >= 0 else min(unbounded.item(), -bound * advantage))


# --- Objective: closed forms ----------------------------------------------------------------------------------------


def test_on_fresh_data_the_loss_is_the_mean_advantage_and_its_gradient_that_of_reinforce():
    batch = random_batch([3, 1, 2], shift=0.0)
    batch = replace(batch, advantages=torch.tensor([[1.0], [-2.0], [4.0]], dtype=torch.float64).expand(3, 3))
    losses, metrics, gradient = learn(PLAIN, batch)
    assert losses.total.item() == pytest.approx(-1.0)  # -(1 - 2 + 4) / 3
    # -A / (completions * tokens of this one): 1 / 9, 2 / 3, 4 / 6
    expected = torch.tensor([[-1 / 9, -1 / 9, -1 / 9], [2 / 3, 0, 0], [-4 / 6, -4 / 6, 0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected)
    assert metrics["ratio_mean/fresh"].item() == metrics["ratio_max/fresh"].item() == 1.0
    assert metrics["ess/fresh"].item() == pytest.approx(1.0)
    assert metrics["clip_share/fresh"].item() == 0.0


RAGGED = ([[1.0, 1.0, 1.0], [1.0], [1.0, 1.0], [1.0], []], [[3.0] * 3, [5.0], [-2.0] * 2, [8.0], []])
OF_WHOM = [False, True, True, False, True]  # fresh: 3 tokens of 3 and 1 of 8; replayed: 1 of 5, 2 of -2 and none


@pytest.mark.parametrize(
    ("aggregation", "fresh", "replayed"),
    [
        ("completion", -(3 + 8) / 2, -(5 - 2) / 2),
        ("token", -(3 * 3 + 8) / 4, -(5 - 2 * 2) / 3),
        (
            "constant",
            -(3 * 3 + 8) / 10 / 2,
            -(5 - 2 * 2) / 10 / 2,
        ),  # by max_length 10, over two completions with a token
    ],
)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_each_part_is_normalised_by_itself_and_alpha_weighs_the_replayed(aggregation, fresh, replayed, alpha):
    objective = Objective(beta=0.0, aggregation=aggregation)
    losses, metrics = objective(of_ratios(*RAGGED, OF_WHOM), alpha, max_length=10)
    assert losses.fresh.item() == pytest.approx(fresh)
    assert losses.replayed.item() == pytest.approx(alpha * replayed)
    assert losses.total.item() == pytest.approx(fresh + alpha * replayed)
    assert metrics["loss/fresh"].item() == pytest.approx(fresh)
    assert metrics["loss/replayed"].item() == pytest.approx(replayed)  # before alpha


@pytest.mark.parametrize(
    ("aggregation", "shares"),
    [
        ("completion", [1 / 6, 1 / 2, 1 / 4, 1 / 2]),  # 1 / (2 completions of the part * tokens of this one)
        ("token", [1 / 4, 1 / 3, 1 / 3, 1 / 4]),  # 4 fresh tokens, 3 replayed
        ("constant", [1 / 20] * 4),  # 1 / (10 * 2 completions of the part)
    ],
)
def test_the_weight_of_a_token_in_the_gradient_by_hand(aggregation, shares):
    objective = Objective(beta=0.0, aggregation=aggregation)
    _, _, gradient = learn(objective, of_ratios(*RAGGED, OF_WHOM), alpha=0.5, max_length=10)
    first = [-share * (3, 5, -2, 8)[i] * (0.5 if OF_WHOM[i] else 1) for i, share in enumerate(shares)]
    assert gradient[:, 0].tolist() == pytest.approx([*first, 0.0])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_more_replayed_completions_leave_the_gradient_of_the_fresh_as_it_was(aggregation):
    objective = Objective(aggregation=aggregation)
    batch = random_batch([3, 1, 4, 2, 5, 2], [False, True, False, True, True, True])
    _, _, of_all = learn(objective, batch)
    _, _, of_three = learn(objective, reordered(batch, torch.tensor([0, 1, 2])))
    torch.testing.assert_close(of_all[[0, 2]], of_three[[0, 2]])


def test_without_a_clip_the_loss_is_plain_importance_weighting():
    batch = random_batch([4, 1, 3], shift=2.0)
    losses, metrics = Objective(beta=0.0, clip_eps_low=1.0, clip_eps_high=math.inf, dual_clip=None)(batch)
    ratio = (batch.logprobs - batch.behaviour_logprobs).exp()
    torch.testing.assert_close(losses.total, completion_mean(-ratio * batch.advantages, batch.mask))
    assert metrics["clip_share/fresh"].item() == 0.0


def test_the_cap_holds_for_replayed_tokens_only_whatever_their_advantage():
    ratios, advantages = [[4.0, 1.5], [1.0], [4.0, 1.5], [1.0]], [[-1.0, -1.0], [1.0], [-1.0, -1.0], [1.0]]
    objective = Objective(beta=0.0, dual_clip=None, max_replayed_ratio=2.0)
    losses, metrics, gradient = learn(objective, of_ratios(ratios, advantages, [False, False, True, True]))
    assert losses.fresh.item() == pytest.approx(((4 + 1.5) / 2 - 1) / 2)
    assert losses.replayed.item() == pytest.approx(((2 + 1.5) / 2 - 1) / 2)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 0.375], [-0.5, 0], [0.0, 0.375], [-0.5, 0]]))
    assert metrics["clip_share/fresh"].item() == 0.0
    assert metrics["clip_share/replayed"].item() == pytest.approx(1 / 3)
    assert metrics["ratio_max/replayed"].item() == pytest.approx(4.0)  # as it is, before the cap


def test_a_cap_below_the_clip_bounds_good_tokens_too():
    objective = Objective(beta=0.0, max_replayed_ratio=1.1)
    losses, metrics, gradient = learn(objective, of_ratios([[1.15, 1.05], [1.0]], [[2.0] * 2, [1.0]], [True, False]))
    assert losses.replayed.item() == pytest.approx(-(2.2 + 2.1) / 2)  # 1.15 is inside 1 + 0.2 and above the cap
    assert gradient[0].tolist() == pytest.approx([0.0, -1.05])
    assert metrics["clip_share/replayed"].item() == 0.5


def test_the_metrics_of_each_part_count_its_own_real_tokens():
    # Fresh 2, 1, 4, 0.5, of which 4 is cut off (positive advantage). Replayed 1, 3, 0.5, of which 0.5 is (negative).
    ratios = [[2.0, 1.0, 4.0], [0.5], [1.0, 3.0], [0.5]]
    tokens = of_ratios(ratios, [[-1.0, 1.0, 1.0], [1.0], [1.0, -1.0], [-1.0]], [False, False, True, True])
    _, metrics = Objective(beta=0.0, dual_clip=None)(tokens)
    assert {k: v.item() for k, v in metrics.items()} == pytest.approx(
        {
            "loss/fresh": ((2 - 1 - 1.2) / 3 - 0.5) / 2,
            "clip_share/fresh": 1 / 4,
            "ratio_mean/fresh": 7.5 / 4,
            "ratio_max/fresh": 4.0,
            "ess/fresh": 7.5**2 / (4 * (4 + 1 + 16 + 0.25)),
            "loss/replayed": ((-1 + 3) / 2 + 0.8) / 2,
            "clip_share/replayed": 1 / 3,
            "ratio_mean/replayed": 4.5 / 3,
            "ratio_max/replayed": 3.0,
            "ess/replayed": 4.5**2 / (3 * (1 + 9 + 0.25)),
        }
    )


# --- Objective: KL --------------------------------------------------------------------------------------------------

REPLAYED = [False, True, False, True, True]


def test_the_kl_term_is_weighted_by_beta_and_logged_without_it():
    batch = random_batch([3, 1])
    without, bare = PLAIN(replace(batch, ref_logprobs=None))
    losses, metrics = Objective(beta=0.1)(batch)
    expected = completion_mean(k3_kl(batch.logprobs, batch.ref_logprobs), batch.mask)
    torch.testing.assert_close(metrics["kl/fresh"], expected.detach())
    torch.testing.assert_close(losses.total, without.total + 0.1 * expected)
    torch.testing.assert_close(metrics["loss/fresh"], without.total.detach())
    assert set(metrics) - set(bare) == {"kl/fresh"}


def test_the_kl_of_replayed_tokens_adds_neither_loss_nor_gradient_and_is_watched():
    batch = random_batch([3, 1, 4, 2, 5], REPLAYED)
    losses, metrics, gradient = learn(Objective(beta=0.5), batch)
    without, _, of_without = learn(PLAIN, batch)
    old = batch.is_replayed
    assert torch.equal(losses.replayed, without.replayed)
    assert torch.equal(gradient[old], of_without[old])
    assert losses.fresh > without.fresh
    assert not torch.isclose(gradient[~old], of_without[~old])[batch.mask[~old]].any()
    expected = completion_mean(k3_kl(batch.logprobs, batch.ref_logprobs, 5.0), batch.mask & old[:, None])
    torch.testing.assert_close(metrics["kl/replayed"], expected.detach())


def test_with_kl_on_all_it_counts_on_replayed_tokens_too():
    batch = random_batch([3, 1, 4, 2, 5], REPLAYED)
    losses, metrics, gradient = learn(Objective(beta=0.5, kl_on="all"), batch, alpha=0.25)
    without, _, of_without = learn(PLAIN, batch, alpha=0.25)
    old = batch.is_replayed
    torch.testing.assert_close(losses.fresh, without.fresh + 0.5 * metrics["kl/fresh"], check_dtype=False)
    torch.testing.assert_close(losses.replayed, without.replayed + 0.25 * 0.5 * metrics["kl/replayed"])
    assert not torch.isclose(gradient[old], of_without[old])[batch.mask[old]].any()


def test_each_part_has_its_own_bound_of_the_kl():
    # d = 10 on one token of each part, 0 on the other: fresh e^10 - 11, replayed e^5 - 6 without a gradient.
    tokens = of_ratios(
        [[1.0, 1.0], [1.0], [1.0, 1.0]],
        [[0.0] * 2, [0.0], [0.0] * 2],
        [False, False, True],
        [[10.0, 0.0], [0.0], [0.0, 10.0]],
    )
    losses, metrics, gradient = learn(Objective(beta=1.0, kl_on="all"), tokens)
    assert losses.fresh.item() == pytest.approx((math.exp(10) - 11) / 4, rel=1e-5)
    assert losses.replayed.item() == pytest.approx((math.exp(5) - 6) / 2, rel=1e-5)
    assert metrics["kl/replayed"].item() == pytest.approx(losses.replayed.item())
    assert gradient[0, 0].item() == pytest.approx((1 - math.exp(10)) / 4, rel=1e-5)
    assert gradient[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kl_on", ["fresh", "all"])
def test_a_reference_without_a_weight_is_watched_and_changes_nothing(kl_on):
    batch = random_batch([3, 1, 4, 2, 5], REPLAYED)
    watched, metrics, of_watched = learn(Objective(beta=0.0, kl_on=kl_on), batch)
    plain, _, of_plain = learn(PLAIN, replace(batch, ref_logprobs=None))
    assert metrics["kl/fresh"] > 0
    assert metrics["kl/replayed"] > 0
    assert torch.equal(watched.total, plain.total)
    assert torch.equal(of_watched, of_plain)


def test_a_weight_without_a_reference_is_refused():
    with pytest.raises(ValueError, match="beta is not 0, so ref_logprobs must be given"):
        Objective(beta=0.1)(replace(random_batch([1, 2]), ref_logprobs=None))


# --- Objective: properties ------------------------------------------------------------------------------------------


@given(mixed_lengths, objectives, st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.3, 1.5]))
@settings(max_examples=100, deadline=None)
def test_loss_and_gradient_are_those_of_a_plain_loop_over_tokens(rows, objective, seed, alpha, shift):
    batch = random_batch(*zip(*rows, strict=True), seed, shift)
    losses, _, gradient = learn(objective, batch, alpha, max_length=6)
    fresh, replayed, by_loop = objective_by_loop(objective, batch, alpha, max_length=6)
    digits = FP32 if objective.beta else {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close([losses.fresh.item(), losses.replayed.item()], [fresh, replayed], **digits)
    torch.testing.assert_close(gradient, by_loop, **digits)


@given(mixed_lengths, objectives, st.integers(0, 99))
@quick
def test_the_gradient_is_that_of_finite_differences(rows, objective, seed):
    objective, h = replace(objective, beta=0.0), 1e-6
    batch = random_batch(*zip(*rows, strict=True), seed)
    ratio = (batch.logprobs - batch.behaviour_logprobs).exp().detach()
    kinks = [1 - objective.clip_eps_low, 1 + objective.clip_eps_high, objective.dual_clip, objective.max_replayed_ratio]
    for kink in filter(None, kinks):
        batch.mask.logical_and_((ratio - kink).abs() > 1e-4)
    _, _, gradient = learn(objective, batch, alpha=0.7, max_length=4)
    for cell in batch.mask.nonzero().tolist():
        step = torch.zeros_like(ratio)
        step[tuple(cell)] = h
        moved = [replace(batch, logprobs=batch.logprobs.detach() + s) for s in (step, -step)]
        up, down = (objective(m, 0.7, 4)[0].total.item() for m in moved)
        assert gradient[tuple(cell)].item() == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-7)


@given(mixed_lengths, objectives, st.integers(0, 99), st.sampled_from([0.3, 1.0, 2.0]))
@quick
def test_clip_share_counts_exactly_the_tokens_without_a_gradient(rows, objective, seed, shift):
    batch = random_batch(*zip(*rows, strict=True), seed, shift)  # no advantage is 0
    _, metrics, gradient = learn(replace(objective, beta=0.0), batch)
    for part, here in (("fresh", ~batch.is_replayed), ("replayed", batch.is_replayed)):
        tokens = batch.mask & here[:, None]
        if tokens.any():
            without = (gradient[tokens] == 0).float().mean()
            assert metrics[f"clip_share/{part}"].item() == pytest.approx(without.item())


@parts
def test_clip_share_counts_a_bad_token_whose_ratio_is_beyond_fp32_without_a_dual_clip_too(part):
    # The ratio stops at e^50, so the first token has no gradient; the other two have.
    logprobs, mask = torch.tensor([[-1.0, -1.0], [-1.0, 0.0]], requires_grad=True), ragged_mask([2, 1])
    behaviour, bad = torch.tensor([[-101.0, -1.0], [-1.0, 0.0]]), torch.full((2, 2), -1.0)
    tokens = TokenBatch(logprobs, behaviour, bad, mask, torch.tensor([part == "replayed"] * 2))
    _, metrics, gradient = learn(Objective(beta=0.0, dual_clip=None), tokens)
    assert gradient.tolist() == [[0.0, 0.25], [0.5, 0.0]]
    assert metrics[f"clip_share/{part}"].item() == pytest.approx(1 / 3)


def test_clip_share_does_not_take_the_gradient_of_the_kl_for_its_own():
    batch = random_batch([3, 1, 4, 2, 5], REPLAYED, shift=1.5)
    _, with_kl = Objective(beta=1.0, kl_on="all")(batch)
    _, without = PLAIN(batch)
    for part in PARTS:
        assert with_kl[f"clip_share/{part}"] == without[f"clip_share/{part}"] > 0


@given(mixed_lengths, objectives, st.integers(0, 99), st.randoms(use_true_random=False))
@quick
def test_the_order_of_completions_does_not_matter(rows, objective, seed, random):
    batch = random_batch(*zip(*rows, strict=True), seed)
    order = torch.tensor(random.sample(range(len(rows)), len(rows)))
    losses, metrics, gradient = learn(objective, batch)
    shuffled = reordered(batch, order)
    moved, moved_metrics = objective(shuffled)
    (of_moved,) = torch.autograd.grad(moved.total, batch.logprobs)
    torch.testing.assert_close(moved.total, losses.total, **FP32)
    torch.testing.assert_close(moved_metrics, metrics, **FP32)
    torch.testing.assert_close(of_moved, gradient, **FP32)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("junk", [0.0, -math.inf, math.inf, math.nan, 1e30])
@pytest.mark.parametrize("where", ["logprobs", "behaviour_logprobs", "advantages", "ref_logprobs", "all"])
def test_more_padding_of_any_content_changes_neither_loss_nor_metrics_nor_gradient(where, junk, aggregation):
    batch = random_batch([4, 1, 3, 2], [False, False, True, True])
    names = ("logprobs", "behaviour_logprobs", "advantages", "ref_logprobs")
    fill = {k: junk if where in (k, "all") else 0.0 for k in names}
    wide = {k: torch.nn.functional.pad(getattr(batch, k).detach(), (0, 2), value=fill[k]) for k in names}
    wide["logprobs"].requires_grad_()
    wide = TokenBatch(mask=ragged_mask([4, 1, 3, 2], width=6), is_replayed=batch.is_replayed, **wide)
    objective = Objective(aggregation=aggregation, kl_on="all", max_replayed_ratio=2.0)
    (losses, metrics, gradient), (of_wide, wide_metrics, wide_gradient) = (
        learn(objective, b, max_length=8) for b in (batch, wide)
    )
    torch.testing.assert_close(of_wide.total, losses.total, **FP32)
    torch.testing.assert_close(wide_metrics, metrics, **FP32)
    torch.testing.assert_close(wide_gradient[:, :4], gradient, **FP32)
    assert (wide_gradient[:, 4:] == 0).all()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0), (2, 3)])
@parts
@pytest.mark.parametrize("content", [-1.0, math.nan, -math.inf])
def test_a_batch_without_a_token_to_train_on_gives_zero_loss_and_gradient(content, shape, part, aggregation):
    logprobs = torch.full(shape, content, requires_grad=True)
    other, mask = torch.full(shape, -2.0), torch.zeros(shape, dtype=torch.bool)
    tokens = TokenBatch(logprobs, other, torch.ones(shape), mask, torch.full(shape[:1], part == "replayed"), other)
    losses, _, gradient = learn(Objective(beta=0.1, aggregation=aggregation), tokens)
    assert losses.total.item() == losses.fresh.item() == losses.replayed.item() == 0.0
    assert (gradient == 0).all()


@parts
def test_one_token_alone_has_a_loss(part):
    losses, _, gradient = learn(PLAIN, of_ratios([[1.0]], [[0.5]], [part == "replayed"]))
    assert getattr(losses, part).item() == losses.total.item() == pytest.approx(-0.5)
    assert gradient.item() == pytest.approx(-0.5)


# --- Objective: metrics ---------------------------------------------------------------------------------------------


def names_of(*present):
    kinds = ("loss", "kl", "clip_share", "ratio_mean", "ratio_max", "ess")
    return {f"{kind}/{part}" for kind in kinds for part in present}


@pytest.mark.parametrize(
    ("lengths", "replayed", "present"),
    [
        ([3, 1, 2], [False, False, True], PARTS),
        ([3, 1, 2], [False] * 3, ["fresh"]),
        ([3, 1, 0], [False, False, True], ["fresh"]),  # a replayed completion without a token is no part
        ([3, 1, 2], [True] * 3, ["replayed"]),
        ([3, 1, 0], [True, True, False], ["replayed"]),
        ([0, 0], [True, False], []),
    ],
)
def test_a_part_has_metrics_only_if_it_has_a_token(lengths, replayed, present):
    _, metrics = Objective(beta=0.1)(random_batch(lengths, replayed))
    assert set(metrics) == names_of(*present)


def test_metrics_are_scalars_that_hold_no_graph():
    _, metrics = Objective(beta=0.1, kl_on="all")(random_batch([3, 1, 2], [False, True, True]))
    assert all(v.ndim == 0 and not v.requires_grad for v in metrics.values())


def test_metrics_do_not_depend_on_alpha():
    batch = random_batch([3, 1, 2], [False, True, True])
    assert Objective()(batch, 0.0)[1] == Objective()(batch, 3.0)[1]


@pytest.mark.parametrize("ratio", [1.0, 0.25, 9.0])
def test_equal_ratios_are_worth_all_their_tokens(ratio):
    share = effective_sample_share(torch.full((3, 4), ratio), ragged_mask([4, 1, 2]))
    assert share.item() == pytest.approx(1.0)


def test_one_dominating_ratio_is_worth_one_token():
    ratio = torch.full((3, 4), 1e-9)
    ratio[1, 0] = 5.0
    assert effective_sample_share(ratio, ragged_mask([4, 1, 2])).item() == pytest.approx(1 / 7)


def test_the_effective_share_of_four_ratios_by_hand():
    ratio = torch.tensor([[1.0, 2.0, 50.0], [3.0, 50.0, 50.0], [2.0, 50.0, 50.0]])
    share = effective_sample_share(ratio, ragged_mask([2, 1, 1], width=3))
    assert share.item() == pytest.approx(8**2 / (4 * (1 + 4 + 9 + 4)))  # 64 / 72


def test_the_effective_share_of_no_token_is_one():
    assert effective_sample_share(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)).item() == 1.0


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9))
@quick
def test_the_effective_share_lies_between_one_token_and_all(ratios):
    share = effective_sample_share(torch.tensor([ratios]), ragged_mask([len(ratios)])).item()
    assert 1 / len(ratios) * (1 - 1e-5) <= share <= 1 + 1e-5


# --- the numerical dangers of the micro-world -----------------------------------------------------------------------


@pytest.mark.parametrize("kl_on", ["fresh", "all"])
def test_danger_k3_on_abandoned_replayed_tokens_does_not_explode(kl_on):
    # The policy has given up a token that the reference likes: d = 12, so e^12 - 13 = 162,742 if it were let through.
    tokens = of_ratios([[1.0, 1e-5], [1.0, 1.0]], [[0.5, 0.5], [0.5, -0.5]], [True, False], [[0.0, 12.0], [0.0, 0.0]])
    losses, metrics, gradient = learn(Objective(beta=0.1, kl_on=kl_on), tokens)
    assert metrics["kl/replayed"].item() <= math.exp(5) - 6
    assert losses.total.abs().item() < 10
    assert gradient.norm().item() < 1
    assert gradient[0, 1].item() == pytest.approx(-0.5 * 1e-5 / 2)  # of the policy part alone


@pytest.mark.parametrize("kl_on", ["fresh", "all"])
@given(st.integers(0, 99), st.sampled_from([1.0, 10.0, 40.0]))
@quick
def test_danger_k3_gradient_of_replayed_tokens_is_bounded(kl_on, seed, shift):
    batch = random_batch([3, 1, 5], [True] * 3, seed, shift)
    batch = replace(batch, advantages=torch.zeros_like(batch.advantages))
    _, _, gradient = learn(Objective(beta=0.1, kl_on=kl_on), batch)
    assert gradient.abs().sum() <= 0.1 * (math.exp(5) - 1)  # the mean of slopes no steeper than at the bound


def test_danger_a_stale_ratio_of_9_with_a_negative_advantage_is_bounded():
    tokens = of_ratios([[9.0, 1.0], [1.0], [9.0]], [[-2.0, -2.0], [1.0], [-0.5]], [True, False, True])
    losses, metrics, gradient = learn(PLAIN, tokens)
    assert losses.replayed.item() == pytest.approx(((3 * 2 + 2) / 2 + 3 * 0.5) / 2)  # 3 |A|, not 9 |A|
    assert gradient[0].tolist() == pytest.approx([0.0, 2 / 4])
    assert gradient[2, 0].item() == 0.0
    assert metrics["clip_share/replayed"].item() == pytest.approx(2 / 3)
    unbounded, _, steep = learn(Objective(beta=0.0, dual_clip=None), tokens)
    assert unbounded.replayed.item() == pytest.approx(((9 * 2 + 2) / 2 + 9 * 0.5) / 2)  # what the bound is for
    assert steep[0, 0].item() == pytest.approx(9 * 2 / 4)


def test_danger_a_stale_ratio_of_9_with_a_negative_advantage_is_capped_without_dual_clip_too():
    tokens = of_ratios([[9.0, 1.0], [1.0]], [[-2.0, -2.0], [1.0]], [True, False])
    losses, _, gradient = learn(Objective(beta=0.0, dual_clip=None, max_replayed_ratio=2.0), tokens)
    assert losses.replayed.item() == pytest.approx((2 * 2 + 2) / 2)
    assert gradient[0].tolist() == pytest.approx([0.0, 2 / 2])


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("dual_clip", [None, 3.0])
@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("gap", [100.0, 1e4, 3e38])
@parts
def test_danger_a_ratio_beyond_fp32_has_a_finite_loss_and_no_gradient(part, gap, advantage, dual_clip, cap):
    # exp(100) = 2.7e43 is infinite in fp32, and inf * 0 is nan.
    logprobs = torch.tensor([[-1.0, -1.0], [-1.0, 0.0]], requires_grad=True)
    behaviour = torch.tensor([[-gap, -1.0], [-1.0, 0.0]])
    values = torch.tensor([[advantage, 1.0], [1.0, 0.0]])
    mask, old = ragged_mask([2, 1]), torch.tensor([part == "replayed"] * 2)
    objective = Objective(beta=0.1, dual_clip=dual_clip, max_replayed_ratio=cap, kl_on="all")
    tokens = TokenBatch(logprobs, behaviour, values, mask, old, logprobs.detach())
    losses, metrics, gradient = learn(objective, tokens)
    assert losses.total.isfinite()
    assert gradient.tolist() == [[0.0, -0.25], [-0.5, 0.0]]
    assert all(value.isfinite() for value in metrics.values())
    assert metrics[f"ratio_max/{part}"].item() == pytest.approx(math.exp(MAX_LOG_RATIO), rel=1e-5)


@pytest.mark.parametrize(("advantage", "loss"), [(1.0, -1.2), (0.0, 0.0), (-1.0, 3.0)])
def test_a_ratio_beyond_fp32_is_clipped_like_any_other(advantage, loss):
    logprobs, mask = torch.tensor([[-1.0]], requires_grad=True), ragged_mask([1])
    tokens = TokenBatch(logprobs, torch.tensor([[-101.0]]), torch.tensor([[advantage]]), mask, flags(None, 1))
    losses, _, gradient = learn(PLAIN, tokens)
    assert losses.total.item() == pytest.approx(loss)
    assert gradient.item() == 0.0


@parts
def test_danger_tokens_that_the_policy_has_given_up_altogether_leave_the_metrics_finite(part):
    # exp(-200) is 0 in fp32: all weights are 0, and 0 / 0 is nan.
    logprobs = torch.tensor([[-201.0, -201.0], [-201.0, 0.0]], requires_grad=True)
    ones, mask = torch.full((2, 2), -1.0), ragged_mask([2, 1])
    tokens = TokenBatch(logprobs, ones, ones, mask, torch.tensor([part == "replayed"] * 2), ones)
    losses, metrics, gradient = learn(Objective(), tokens)
    assert losses.total.isfinite()
    assert gradient.isfinite().all()
    assert all(value.isfinite() for value in metrics.values()), metrics


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["beta", "clip_eps_low", "clip_eps_high"])
@pytest.mark.parametrize("bad", [-0.1, math.nan])
def test_a_weight_or_a_clip_below_zero_is_refused(name, bad):
    with pytest.raises(ConfigError, match=f"model.objective.{name} must be 0 or more, got {bad}"):
        Objective(**{name: bad})


def test_a_lower_clip_above_one_is_refused():
    with pytest.raises(ConfigError, match=r"model\.objective\.clip_eps_low must be at most 1, got 1\.5"):
        Objective(clip_eps_low=1.5)


@pytest.mark.parametrize("bad", [1.0, 0.5, -3.0, math.nan])
def test_a_dual_clip_that_is_not_above_one_is_refused(bad):
    with pytest.raises(ConfigError, match=f"model.objective.dual_clip must be above 1, or null for none, got {bad}"):
        Objective(dual_clip=bad)


@pytest.mark.parametrize("bad", [0.9, 0.0, -1.0, math.nan])
def test_a_cap_below_one_is_refused(bad):
    with pytest.raises(ConfigError, match=f"model.objective.max_replayed_ratio must be 1 or more, or null, got {bad}"):
        Objective(max_replayed_ratio=bad)


@pytest.mark.parametrize(
    ("name", "known"), [("aggregation", "completion or token or constant"), ("kl_on", "fresh or all")]
)
def test_an_unknown_choice_is_refused_with_what_is_known(name, known):
    with pytest.raises(ConfigError, match=f"model.objective.{name} must be {known}, got 'mean'"):
        Objective(**{name: "mean"})


def test_the_edges_are_allowed():
    edges = {"beta": 0.0, "clip_eps_low": 1.0, "clip_eps_high": 0.0, "dual_clip": 1.001, "max_replayed_ratio": 1.0}
    objective = Objective(**edges)
    assert {name: getattr(objective, name) for name in edges} == edges


def test_the_defaults_are_those_of_the_paper_with_kl_on_fresh_and_a_dual_clip():
    assert Objective() == Objective(0.1, 0.2, 0.2, 3.0, None, "completion", "fresh")
    assert (MAX_FRESH_KL, MAX_REPLAYED_KL) == (20.0, 5.0)


@pytest.mark.parametrize("name", ["logprobs", "behaviour_logprobs", "advantages", "ref_logprobs", "is_replayed"])
def test_tokens_of_another_shape_are_refused_by_name(name):
    # A row of advantages [1, T] would go through by broadcasting, and so would flags [N, 1].
    wrong = torch.ones(1, 3) if name != "is_replayed" else torch.ones(2, 1, dtype=torch.bool)
    wanted, came = ("2, 3", "1, 3") if name != "is_replayed" else ("2,", "2, 1")
    with pytest.raises(ValueError, match=rf"{name} must be \({wanted}\), got \({came}\)"):
        replace(random_batch([3, 1]), **{name: wrong})


def test_an_objective_its_tokens_and_its_losses_cannot_be_changed_on_the_way():
    for thing, name in ((Objective(), "beta"), (random_batch([1]), "mask"), (Losses(*torch.ones(2)), "fresh")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)
