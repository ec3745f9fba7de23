import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.advantages import SHAPES, InverseParabolic, LinearDecay, LinearIncline, Parabolic, Uniform
from avatar.errors import ConfigError

quick = settings(max_examples=30, deadline=None)
lengths_of_completions = st.lists(st.integers(0, 9), min_size=1, max_size=5)
# f(t') at t' = 0, 1/4, 1/2, 3/4, 1, the positions of five tokens
PROFILES = {
    Uniform: [0, 0, 0, 0, 0],
    Parabolic: [1, 0.25, 0, 0.25, 1],  # (2 t' - 1)^2: 1, 1/4, 0, 1/4, 1
    InverseParabolic: [0, 0.75, 1, 0.75, 0],
    LinearDecay: [1, 0.75, 0.5, 0.25, 0],
    LinearIncline: [0, 0.25, 0.5, 0.75, 1],
}
shapes = pytest.mark.parametrize("shape", list(PROFILES))
every = pytest.mark.parametrize("name", list(SHAPES))


def ragged(*lengths, width=None):
    return torch.arange(max(lengths) if width is None else width) < torch.tensor(lengths)[:, None]


def test_every_registered_shape_has_its_numbers_here():
    assert {shape.__name__ for shape in PROFILES} == set(SHAPES)


@shapes
def test_the_weights_of_ragged_completions_by_hand(shape):
    start, quarter, middle, three_quarters, end = (1 + 0.5 * f for f in PROFILES[shape])
    weights = shape(strength=0.5).weights(ragged(5, 1, 3, 0, 2))
    expected = [
        [start, quarter, middle, three_quarters, end],
        [start, 0, 0, 0, 0],  # a completion of one token is at its start
        [start, middle, end, 0, 0],
        [0, 0, 0, 0, 0],
        [start, end, 0, 0, 0],
    ]
    torch.testing.assert_close(weights, torch.tensor(expected))


@pytest.mark.parametrize(
    ("shape", "weight"), [(Uniform, 1), (Parabolic, 1.3), (InverseParabolic, 1), (LinearDecay, 1.3), (LinearIncline, 1)]
)
def test_a_single_token_gets_what_the_docstring_says_at_the_strength_of_the_paper(shape, weight):
    assert shape().weights(ragged(1, 4))[0].tolist() == pytest.approx([weight, 0, 0, 0])


@pytest.mark.parametrize("length", [2, 3, 4, 7, 200])
def test_the_mean_weight_of_each_shape_is_its_closed_form(length):
    # Mean of (2 t' - 1)^2 over t = 0 .. L - 1: (L + 1) / (3 (L - 1)), 1 for L = 2 and 1/3 in the limit. A line has 1/2.
    parabola = (length + 1) / (3 * (length - 1))
    means = {Parabolic: parabola, InverseParabolic: 1 - parabola, LinearDecay: 0.5, LinearIncline: 0.5, Uniform: 0.0}
    for shape, mean in means.items():
        weights = shape(strength=0.3).weights(ragged(length, 1))
        assert weights[0].mean().item() == pytest.approx(1 + 0.3 * mean, rel=1e-5)


@every
@given(lengths=lengths_of_completions, strength=st.sampled_from([0.0, 0.3, 1.0, 4.0]))
@quick
def test_normalized_weights_have_a_mean_of_one_over_each_completion(name, lengths, strength):
    mask = ragged(*lengths)
    weights = SHAPES[name](strength, normalize=True).weights(mask)
    torch.testing.assert_close(weights.sum(-1), mask.sum(-1).float())
    assert (weights[~mask] == 0).all()


@every
def test_normalizing_moves_no_credit_between_tokens(name):
    mask = ragged(5, 1, 3, 0)
    plain, normal = (SHAPES[name](0.7, normalize).weights(mask) for normalize in (False, True))
    factor = mask.sum(-1, keepdim=True) / plain.sum(-1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(normal, plain * factor)


def test_a_normalized_parabola_by_hand():
    # Strength 1 over 3 tokens: 2, 1, 2 with mean 5/3, so 6/5, 3/5, 6/5; over 2 tokens 2, 2, so 1, 1; over one 2, so 1.
    weights = Parabolic(1.0, normalize=True).weights(ragged(3, 2, 1))
    torch.testing.assert_close(weights, torch.tensor([[1.2, 0.6, 1.2], [1, 1, 0], [1, 0, 0]]))


@every
@pytest.mark.parametrize("normalize", [False, True])
def test_a_strength_of_zero_is_a_weight_of_one_to_the_bit(name, normalize):
    mask = ragged(5, 1, 3, 0, 2)
    assert torch.equal(SHAPES[name](0.0, normalize).weights(mask), mask.float())


@every
@given(lengths=lengths_of_completions, other=st.integers(0, 12), normalize=st.booleans())
@quick
def test_the_weights_depend_on_the_completions_own_length_only(name, lengths, other, normalize):
    shape = SHAPES[name](0.3, normalize)
    for row, length in zip(shape.weights(ragged(*lengths, other)), lengths, strict=False):
        alone = shape.weights(ragged(length))[0]
        torch.testing.assert_close(row[:length], alone)
        assert (row[length:] == 0).all()


@every
@given(lengths=lengths_of_completions, strength=st.floats(0, 8))
@quick
def test_weights_lie_between_one_and_one_plus_strength(name, lengths, strength):
    weights = SHAPES[name](strength).weights(ragged(*lengths))[ragged(*lengths)]
    assert (weights >= 1 - 1e-6).all()
    assert (weights <= (1 + strength) * (1 + 1e-6)).all()


@every
@pytest.mark.parametrize("mask", [torch.zeros(0, 0), torch.zeros(0, 3), torch.zeros(2, 0), torch.zeros(2, 3)])
@pytest.mark.parametrize("normalize", [False, True])
def test_where_no_token_is_no_weight_is(name, mask, normalize):
    weights = SHAPES[name](normalize=normalize).weights(mask.bool())
    assert weights.shape == mask.shape
    assert (weights == 0).all()


def test_a_shape_and_its_inverse_share_out_the_same_sum():
    mask = ragged(5, 1, 3)
    for one, other in ((Parabolic, InverseParabolic), (LinearDecay, LinearIncline)):
        total = one(0.4).weights(mask) + other(0.4).weights(mask)
        torch.testing.assert_close(total, 2.4 * mask)  # 1 + 0.4 f + 1 + 0.4 (1 - f)


@every
@pytest.mark.parametrize("bad", [-0.3, math.nan])
def test_a_strength_below_zero_is_refused(name, bad):
    with pytest.raises(ConfigError, match=f"strength must be 0 or more, got {bad}"):
        SHAPES[name](strength=bad)
