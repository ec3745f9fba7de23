import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from avatar.models import head
from avatar.models.head import chosen_logprobs, chosen_logprobs_and_entropy, vocabulary_logprobs

LN2, LN4 = math.log(2), math.log(4)
HALF = [torch.bfloat16, torch.float16]
FP32 = {"rtol": 1e-5, "atol": 1e-5}  # logits of up to 20 or so are known to 1e-6
SIZES = [(13, 50, 8), (1, 50, 8), (0, 50, 8), (13, 1, 8)]  # n, V, H


@pytest.fixture(params=["one piece", "ragged tiles"])
def tiling(request, monkeypatch):
    """Both ways through; 50 words make 7 tiles of 7 and one of 1."""
    if request.param == "ragged tiles":
        monkeypatch.setattr(head, "TILE_BYTES", 1)
        monkeypatch.setattr(head, "MIN_TILE", 7)
    return request.param


@pytest.fixture
def tiles(monkeypatch):
    monkeypatch.setattr(head, "TILE_BYTES", 1)
    monkeypatch.setattr(head, "MIN_TILE", 7)


def random_head(n, v, h, dtype=torch.float32, seed=0):
    gen = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(size, h, generator=gen, dtype=torch.float64).to(dtype) for size in (n, v))
    return hidden.requires_grad_(), weight.requires_grad_(), torch.randint(v, (n,), generator=gen)


def plain(hidden, weight, ids, temperature=1.0):
    """[n], [n] entropy, [n, V], as in the books, in the dtype of what is given."""
    logprobs = torch.log_softmax(hidden @ weight.T / temperature, -1)
    return logprobs[torch.arange(len(ids)), ids], -(logprobs.exp() * logprobs).sum(-1), logprobs


def in_fp64(hidden, weight):
    return hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()


def upstream(n):
    """A gradient that differs from token to token."""
    return torch.linspace(-1, 2, n)


# -- values ------------------------------------------------------------------------------------------------------------


def test_closed_form(tiling):
    hidden = torch.tensor([[LN2, 0.0], [0.0, LN4]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    ids = torch.tensor([0, 2])
    # e^z = 2, 1, 1: the first has 1/2.  e^z = 1, 4, 1: the third has 1/6.
    logprobs, entropy = chosen_logprobs_and_entropy(hidden, weight, ids)
    torch.testing.assert_close(logprobs, torch.tensor([0.5, 1 / 6]).log())
    # 1/2 ln 2 + 2 (1/4 ln 4) = 3/2 ln 2;  2/3 ln 3/2 + 2 (1/6 ln 6)
    torch.testing.assert_close(entropy, torch.tensor([1.5 * LN2, 2 / 3 * math.log(1.5) + math.log(6) / 3]))
    # At temperature 2, e^z = sqrt 2, 1, 1 and 1, 2, 1.
    warm = chosen_logprobs(hidden, weight, ids, temperature=2.0)
    torch.testing.assert_close(warm, torch.tensor([2**0.5 / (2**0.5 + 2), 0.25]).log())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
def test_values_are_those_of_a_plain_log_softmax(tiling, size, temperature, dtype):
    hidden, weight, ids = random_head(*size, dtype)
    expected, entropy, whole = plain(*in_fp64(hidden, weight), ids, temperature)
    logprobs, own_entropy = chosen_logprobs_and_entropy(hidden, weight, ids, temperature)
    wide = torch.promote_types(dtype, torch.float32)
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else FP32
    torch.testing.assert_close(logprobs, expected.to(wide), **close)
    torch.testing.assert_close(own_entropy, entropy.to(wide), **close)
    torch.testing.assert_close(vocabulary_logprobs(hidden, weight, temperature), whole.detach().to(wide), **close)
    assert torch.equal(chosen_logprobs(hidden, weight, ids, temperature), logprobs)


@pytest.mark.parametrize("dtype", HALF)
def test_logits_are_not_rounded_to_half_precision(tiling, dtype):
    hidden, weight, ids = random_head(64, 300, 32, dtype)
    expected = plain(*in_fp64(hidden, weight), ids)[0]
    rounded = torch.log_softmax((hidden @ weight.T).float(), -1)[torch.arange(64), ids]
    error, of_rounded = ((x - expected).abs().max() for x in (chosen_logprobs(hidden, weight, ids), rounded))
    assert error < of_rounded / 200


@pytest.mark.parametrize("mixed", [False, True])
def test_autocast_does_not_round_them_either(tiling, mixed):
    hidden, weight, ids = random_head(13, 50, 8)
    hidden = hidden.bfloat16() if mixed else hidden
    expected, _, whole = plain(hidden.float(), weight, ids, 0.7)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(chosen_logprobs(hidden, weight, ids, 0.7), expected, **FP32)
        torch.testing.assert_close(vocabulary_logprobs(hidden, weight, 0.7), whole.detach(), **FP32)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_one_row_drawn_from_is_scored_the_same_among_many(tiling, dtype):
    hidden, weight, ids = random_head(40, 400, 64, dtype)
    drawn = torch.cat([vocabulary_logprobs(hidden[i : i + 1], weight, 0.9) for i in range(40)])
    scored = chosen_logprobs(hidden, weight, ids, 0.9)
    torch.testing.assert_close(scored, drawn.gather(-1, ids[:, None])[:, 0], rtol=2e-6, atol=2e-6)


def test_logits_of_any_size_stay_finite_and_no_probability_passes_one(tiling):
    hidden, weight, ids = random_head(13, 50, 8)
    best = (hidden @ weight.T).argmax(-1)
    logprobs, entropy = chosen_logprobs_and_entropy(1e4 * hidden, weight, best)
    assert (logprobs <= 0).all()
    torch.testing.assert_close(logprobs, torch.zeros(13))
    torch.testing.assert_close(entropy, torch.zeros(13))
    grads = torch.autograd.grad(chosen_logprobs(1e4 * hidden, weight, ids).sum(), (hidden, weight))
    assert all(g.isfinite().all() for g in grads)


# -- entropy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_entropy_is_largest_where_all_tokens_are_as_likely(tiling, dtype):
    hidden, weight, ids = random_head(3, 50, 8, dtype)
    logprobs, entropy = chosen_logprobs_and_entropy(torch.zeros_like(hidden), weight, ids)
    torch.testing.assert_close(entropy, torch.full((3,), math.log(50)))
    torch.testing.assert_close(logprobs.detach(), -entropy)
    assert (chosen_logprobs_and_entropy(hidden, weight, ids)[1] < math.log(50)).all()


def test_entropy_has_no_gradient_and_takes_none_from_the_logprobs(tiling):
    hidden, weight, ids = random_head(13, 50, 8)
    logprobs, entropy = chosen_logprobs_and_entropy(hidden, weight, ids)
    assert not entropy.requires_grad
    grads = torch.autograd.grad(logprobs.sum(), (hidden, weight))
    expected = torch.autograd.grad(chosen_logprobs(hidden, weight, ids).sum(), (hidden, weight))
    assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 40)] * 3), st.integers(0, 99), st.floats(0.1, 3),
    st.sampled_from([1, 2**8, 2**12]), st.sampled_from([torch.float32, torch.bfloat16]),
)  # fmt: skip
def test_probabilities_of_all_tokens_sum_to_one(size, seed, temperature, tile_bytes, dtype):
    hidden, weight, _ = random_head(*size, dtype, seed)
    n, v, _ = size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "TILE_BYTES", tile_bytes)
        patch.setattr(head, "MIN_TILE", 3)
        every = torch.arange(v).repeat(n)
        logprobs, entropy = chosen_logprobs_and_entropy(hidden.repeat_interleave(v, 0), weight, every, temperature)
    logprobs = logprobs.detach().view(n, v)
    torch.testing.assert_close(logprobs.exp().sum(-1), torch.ones(n), **FP32)
    expected = -(logprobs.exp() * logprobs).sum(-1)
    torch.testing.assert_close(entropy.view(n, v), expected[:, None].expand(n, v), rtol=1e-4, atol=1e-5)


# -- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_gradients_are_those_of_a_plain_log_softmax(tiling, size, temperature, dtype):
    hidden, weight, ids = random_head(*size, dtype)
    grads = torch.autograd.grad(chosen_logprobs(hidden, weight, ids, temperature), (hidden, weight), upstream(size[0]))
    wide = in_fp64(hidden, weight)
    expected = torch.autograd.grad(plain(*wide, ids, temperature)[0], wide, upstream(size[0]).double())
    # In half precision the gradient is as good as one rounding of it: 2^-9 or 2^-12 of the largest.
    step = torch.finfo(dtype).eps
    for grad, exact in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        largest = exact.abs().max().item() if exact.numel() else 0.0
        torch.testing.assert_close(grad.double(), exact, rtol=step, atol=1e-5 * largest + 1e-6)


def test_gradcheck(tiling):
    hidden, weight, ids = random_head(5, 16, 3, torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: chosen_logprobs(h, w, ids, 0.7), (hidden, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_frozen_gets_no_gradient_and_the_other_the_same_as_ever(tiling, dtype):
    for frozen in (0, 1):
        operands = random_head(13, 50, 8, dtype)
        both = torch.autograd.grad(chosen_logprobs(*operands).sum(), operands[:2])
        operands[frozen].requires_grad_(False)
        chosen_logprobs(*operands).sum().backward()
        assert operands[frozen].grad is None
        assert torch.equal(operands[1 - frozen].grad, both[1 - frozen])


def test_nothing_is_recorded_where_no_gradient_is_asked_for(tiling):
    hidden, weight, ids = random_head(13, 50, 8)
    assert not chosen_logprobs(hidden.detach(), weight.detach(), ids).requires_grad
    assert not vocabulary_logprobs(hidden, weight).requires_grad
    with torch.no_grad():
        assert not chosen_logprobs(hidden, weight, ids).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_retained_graph_gives_the_same_gradient_again(tiling, dtype):
    hidden, weight, ids = random_head(13, 50, 8, dtype)
    loss = (chosen_logprobs(hidden, weight, ids, 0.7) * upstream(13)).sum()
    first = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    second = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    loss.backward()
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(first[0], hidden.grad)
    assert torch.equal(first[1], weight.grad)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_under_checkpoint_the_gradient_is_the_same(tiling, use_reentrant):
    hidden, weight, ids = random_head(13, 50, 8)
    plainly = torch.autograd.grad(chosen_logprobs(hidden, weight, ids).sum(), (hidden, weight))
    checkpoint(chosen_logprobs, hidden, weight, ids, use_reentrant=use_reentrant).sum().backward()
    assert torch.equal(hidden.grad, plainly[0])
    assert torch.equal(weight.grad, plainly[1])


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-100, -1, 50])
def test_an_id_outside_of_the_vocabulary_raises_in_one_piece(bad):
    hidden, weight, _ = random_head(2, 50, 8)
    with pytest.raises(IndexError, match="out of bounds"):
        chosen_logprobs(hidden, weight, torch.tensor([3, bad]))


@pytest.mark.parametrize("bad", [-100, -1, 50])
def test_an_id_outside_of_the_vocabulary_is_nan_in_tiles(tiles, bad):
    hidden, weight, _ = random_head(2, 50, 8)
    assert chosen_logprobs(hidden, weight, torch.tensor([3, bad])).isnan().tolist() == [False, True]


def test_what_does_not_agree_is_refused_by_name():
    hidden, weight, ids = random_head(3, 50, 8)
    with pytest.raises(ValueError, match=r"hidden \[n, H\] and weight \[V, H\] do not agree: \(3, 7\), \(50, 8\)"):
        chosen_logprobs(hidden[:, :7], weight, ids)
    with pytest.raises(ValueError, match=r"hidden \[n, H\] and weight"):
        vocabulary_logprobs(hidden[0], weight)
    with pytest.raises(ValueError, match=r"ids must be \[3\], one for each row of hidden, got \(2,\)"):
        chosen_logprobs(hidden, weight, ids[:2])
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            chosen_logprobs_and_entropy(hidden, weight, ids, temperature)


# -- memory ------------------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation gave back, in elements; views do not count."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not out._is_view():
            self.size = max(self.size, out.numel())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("score", [chosen_logprobs, chosen_logprobs_and_entropy])
def test_neither_all_logits_nor_a_widened_weight_are_ever_made(monkeypatch, dtype, score):
    n, v, h = 64, 1000, 16
    monkeypatch.setattr(head, "TILE_BYTES", 4 * n * 20)  # 20 tokens of the vocabulary at a time
    monkeypatch.setattr(head, "MIN_TILE", 8)
    hidden, weight, ids = random_head(n, v, h, dtype)
    weight.requires_grad_(False)  # its gradient would be as large as itself
    with Largest() as largest:
        out = score(hidden, weight, ids)
        (out if score is chosen_logprobs else out[0]).sum().backward()
    assert largest.size == n * 20 < v * h < n * v


PEAK = """
import resource, sys, psutil, torch
from avatar.models.head import chosen_logprobs
h, trained, dtype = int(sys.argv[1]), sys.argv[2] == "trained", getattr(torch, sys.argv[3])
weight = torch.empty(151936, h, dtype=dtype).normal_(0, h**-0.5).requires_grad_(trained)
hidden = torch.empty(8 * 512, h, dtype=dtype).normal_().requires_grad_()
ids = torch.randint(len(weight), (len(hidden),))
def highest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = highest()
assert before - psutil.Process().memory_info().rss < 1e7  # so the highest is what is allocated now
chosen_logprobs(hidden, weight, ids).sum().backward()
print(highest() - before - (weight.nbytes if trained else 0))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KB on Linux only")
@pytest.mark.parametrize(
    ("size", "weight", "dtype"), [(3584, "frozen", "bfloat16"), (896, "frozen", "float32"), (896, "trained", "float32")]
)
def test_peak_memory_is_at_most_a_tenth_of_the_naive_logits(size, weight, dtype):
    """Scoring 8 x 512 tokens against the vocabulary of Qwen2.5, forward and backward, in a process of its own.

    What counts is what comes on top of the operands; where the weight is trained its gradient is left out, which is as
    large as itself whatever the head does. The gradient of the hidden states counts.
    """
    command = [sys.executable, "-c", PEAK, str(size), weight, dtype]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak <= 4 * 8 * 512 * 151936 / 10, f"{peak / 1e6:.0f} MB"  # 249 MB
