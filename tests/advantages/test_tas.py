import math

import pytest
import torch
from advantages.batches import experience, experiences, reordered, widened
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.advantages import AVATAR, GRPO, RLOO, SHAPES, TAS, DrGRPO, LinearDecay, Mixed, Parabolic
from avatar.errors import ConfigError

quick = settings(max_examples=30, deadline=None)
NAN = math.nan
bases = pytest.mark.parametrize("base", [GRPO(), DrGRPO(), RLOO(), Mixed()], ids=lambda b: type(b).__name__)


def two_groups():
    """Fresh 0, 1 and 1, 5, 9; replayed 1, 3 for the first and 4 for the second."""
    return experience(
        [0.0, 1.0, 1.0, 5.0, 9.0, 1.0, 3.0, 4.0],
        [0, 0, 1, 1, 1, 0, 0, 1],
        lengths=[3, 1, 5, 2, 0, 2, 3, 1],
        replayed=[False] * 5 + [True] * 3,
        reference=[NAN] * 5 + [2.5, 2.5, 3.0],
    )


# --- TAS ------------------------------------------------------------------------------------------------------------


def test_the_ends_of_each_completion_weigh_more_by_hand():
    advantages = TAS(DrGRPO(), Parabolic(strength=0.5))(
        experience([0.0, 2.0, 8.0, 4.0, 0.0], [0, 0, 1, 1, 1], lengths=[5, 1, 3, 2, 0])
    )
    # Means 1 and 4: -1, 1, 4, 0, -4. Weights 1.5 at both ends, 1 in the middle, 1 + 0.5 / 4 a quarter in.
    expected = [
        [-1.5, -1.125, -1.0, -1.125, -1.5],
        [1.5, 0, 0, 0, 0],
        [6.0, 4.0, 6.0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    torch.testing.assert_close(advantages, torch.tensor(expected))


def test_by_default_it_is_grpo_under_a_parabola_of_three_tenths():
    batch = two_groups()
    assert torch.equal(TAS()(batch), GRPO()(batch) * Parabolic(0.3).weights(batch.mask))


@bases
@pytest.mark.parametrize("name", list(SHAPES))
def test_it_is_the_base_times_the_weights_of_the_shape(base, name):
    batch, shape = two_groups(), SHAPES[name](0.8, normalize=True)
    assert torch.equal(TAS(base, shape)(batch), base(batch) * shape.weights(batch.mask))
    assert torch.equal(TAS(base, shape).estimate(batch), base.estimate(batch))


@bases
@given(batch=experiences(), name=st.sampled_from(list(SHAPES)), normalize=st.booleans())
@quick
def test_a_strength_of_zero_is_the_base_to_the_bit(base, batch, name, normalize):
    assert torch.equal(TAS(base, SHAPES[name](0.0, normalize))(batch), base(batch))


@given(experiences(), st.sampled_from(list(SHAPES)))
@quick
def test_a_normalized_shape_leaves_the_sum_over_each_completion_alone(batch, name):
    shaped, plain = TAS(Mixed(), SHAPES[name](2.0, normalize=True))(batch), Mixed()(batch)
    torch.testing.assert_close(shaped.sum(-1), plain.sum(-1))


@given(experiences(), st.sampled_from(list(SHAPES)), st.randoms(use_true_random=False), st.integers(0, 3))
@quick
def test_neither_order_nor_padding_matters(batch, name, random, by):
    order = torch.tensor(random.sample(range(len(batch)), len(batch)))
    estimator = TAS(Mixed(), SHAPES[name](0.5))
    moved = estimator(widened(reordered(batch, order), by))
    expected = torch.nn.functional.pad(estimator(batch)[order], (0, by))
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)


def test_where_the_base_gives_no_signal_neither_does_the_shape():
    batch = experience([1.0, 1.0, 1.0, 0.0, 1.0], [0, 0, 0, 1, 1], lengths=[4, 1, 2, 3, 3])
    advantages = TAS(shape=Parabolic(5.0))(batch)
    assert (advantages[:3] == 0).all()
    assert (advantages[3:] != 0).all(dim=-1).tolist() == [False, False]  # three tokens of four columns
    assert (advantages[3:, :3] != 0).all()


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("normalize", [False, True])
def test_danger_a_completion_of_one_token_does_not_divide_by_zero(name, normalize):
    # L = 1 makes t' = 0 / 0; here t' = 0, so the token is at the start, beside a completion of several tokens.
    advantages = TAS(DrGRPO(), SHAPES[name](0.3, normalize))(experience([0.0, 2.0, 4.0], [0, 0, 0], lengths=[1, 1, 3]))
    assert advantages.isfinite().all()
    start = 1.0 if normalize else SHAPES[name](0.3).weights(torch.tensor([[True, True]]))[0, 0].item()
    assert advantages[0, 0].item() == pytest.approx(-2 * start)


def test_it_needs_replay_where_its_base_does():
    assert TAS(Mixed()).needs_replay
    assert not TAS(GRPO()).needs_replay
    assert TAS(TAS(Mixed()), LinearDecay()).needs_replay


# --- AVATAR ---------------------------------------------------------------------------------------------------------


def test_the_estimator_of_the_paper_by_hand():
    advantages = AVATAR(eps=0.0, strength=0.5)(two_groups())
    # Fresh: 0, 1 either side of 1/2 over sqrt(1/2), which is +- sqrt(1/2); 1, 5, 9 over 4, which is -1, 0, 1.
    # Replayed: 1, 3 with deviation sqrt(2) less 2.5, which is -1.5 and 0.5 over sqrt(2); 4 alone less 3 is 1.
    # Weights of 5, 3, 2 and 1 tokens: (1.5 1.125 1 1.125 1.5), (1.5 1 1.5), (1.5 1.5), (1.5).
    h = math.sqrt(0.5)
    expected = [
        [-1.5 * h, -h, -1.5 * h, 0, 0],
        [1.5 * h, 0, 0, 0, 0],
        [-1.5, -1.125, -1, -1.125, -1.5],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [-2.25 * h, -2.25 * h, 0, 0, 0],
        [0.75 * h, 0.5 * h, 0.75 * h, 0, 0],
        [1.5, 0, 0, 0, 0],
    ]
    torch.testing.assert_close(advantages, torch.tensor(expected))


@given(experiences(), st.sampled_from([1e-4, 0.2]), st.sampled_from([0.1, 0.5]), st.booleans())
@quick
def test_it_is_tas_of_mixed_with_a_parabola_to_the_bit(batch, eps, std_floor, normalize):
    parts = TAS(Mixed(eps, std_floor), Parabolic(0.6, normalize))
    assert torch.equal(AVATAR(eps, std_floor, strength=0.6, normalize=normalize)(batch), parts(batch))


def test_its_defaults_are_those_of_its_parts():
    batch = two_groups()
    assert torch.equal(AVATAR()(batch), TAS(Mixed(1e-4, 0.1), Parabolic(0.3, normalize=False))(batch))
    assert AVATAR().needs_replay


@pytest.mark.parametrize("name", ["eps", "std_floor", "strength"])
@pytest.mark.parametrize("bad", [-1.0, NAN])
def test_what_its_parts_refuse_it_refuses(name, bad):
    with pytest.raises(ConfigError, match=f"{name} must be 0 or more, got {bad}"):
        AVATAR(**{name: bad})
