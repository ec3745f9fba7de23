"""Attention over packed spans, against softmax attention written out over one big mask in float64.

S tokens of the row, H heads, K key-value heads, D head size.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from avatar.models import spans as module
from avatar.models.prefix import PackedPlan
from avatar.models.spans import (
    SHORT,
    Rows,
    Spans,
    attend,
    attend_backward,
    attend_batch,
    has_flash,
    math_backward,
    math_forward,
    size_class,
)

CPU, SCALE, HEAD = torch.device("cpu"), 0.3, 8
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def ampere(monkeypatch):
    """The devices of the fake tensors have no driver to ask how new they are."""
    monkeypatch.setattr("avatar.models.spans._is_ampere", lambda device: True)


def plain(q, k, v, allowed, scale=SCALE):
    """Masked softmax in float64: [S, H, D] and [S, H]; rows that see nothing get 0 and -inf."""
    q, k, v = (x.double() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    asking = allowed.any(1)
    scores = torch.einsum("shd,mhd->hsm", q[asking], k) * scale
    scores = scores.masked_fill(~allowed[asking], -torch.inf)
    out, lse = torch.zeros_like(q), torch.full(q.shape[:2], -torch.inf, dtype=torch.float64)
    out = out.index_put((asking,), torch.einsum("hsm,mhd->shd", scores.softmax(-1), v))
    return out, lse.index_put((asking,), scores.logsumexp(-1).T)


def allowed_by(queries, keys, causal):
    """[S, M] bool: which key each query sees."""
    of_q, of_k = (torch.arange(len(n)).repeat_interleave(torch.tensor(n)) for n in (queries, keys))
    at_q, at_k = (torch.cat([torch.arange(n) for n in lengths]) for lengths in (queries, keys))
    same = of_q[:, None] == of_k
    return same & (at_k <= at_q[:, None]) if causal else same


def tensors(num_q, num_k, heads, factor, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(num_q, heads * factor, HEAD), (num_k, heads, HEAD), (num_k, heads, HEAD)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def gradients(function, inputs, grad):
    """Of the three inputs, by autograd in float64."""
    leaves = [x.double().requires_grad_() for x in inputs]
    return torch.autograd.grad(function(*leaves)[0], leaves, grad.double())


def assert_near(ours, wanted, tolerance):
    torch.testing.assert_close(ours.double(), wanted, atol=tolerance, rtol=tolerance)


# Lengths on both sides of SHORT, so that one row holds several batches.
LENGTHS = st.integers(0, 6) | st.sampled_from([SHORT, SHORT + 1, 47])
CAUSAL = st.lists(LENGTHS, min_size=1, max_size=6).map(lambda n: (n, n, True))
PAIRS = st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=6)
ACROSS = PAIRS.map(lambda pairs: ([q for q, _ in pairs], [k for _, k in pairs], False))
CASES = st.tuples(
    (CAUSAL | ACROSS).filter(lambda case: sum(case[0]) and sum(case[1])),
    st.sampled_from([1, 3]),  # K
    st.sampled_from([1, 2, 4]),  # H / K
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 100),
)


@given(CASES)
@settings(max_examples=60, deadline=None)
def test_attention_within_spans_equals_softmax_attention_over_the_whole_mask(case):
    (queries, keys, causal), heads, factor, dtype, seed = case
    q, k, v = tensors(sum(queries), sum(keys), heads, factor, dtype, seed)
    out, lse = attend(q, k, v, Spans(queries, keys, causal, CPU), SCALE)
    wanted, wanted_lse = plain(q, k, v, allowed_by(queries, keys, causal))
    assert out.dtype == dtype
    assert lse.shape == (sum(queries), heads * factor)
    assert_near(out, wanted, TOLERANCE[dtype])
    assert_near(lse, wanted_lse, TOLERANCE[dtype])


@given(CASES)
@settings(max_examples=60, deadline=None)
def test_the_backward_pass_equals_autograd_of_the_whole_mask(case):
    (queries, keys, causal), heads, factor, dtype, seed = case
    spans, inputs = Spans(queries, keys, causal, CPU), tensors(sum(queries), sum(keys), heads, factor, dtype, seed)
    out, lse = attend(*inputs, spans, SCALE)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    allowed = allowed_by(queries, keys, causal)
    wanted = gradients(lambda *x: plain(*x, allowed), inputs, grad)
    for ours, theirs, x in zip(attend_backward(grad, *inputs, out, lse, spans, SCALE), wanted, inputs, strict=True):
        assert ours.dtype == dtype
        assert ours.shape == x.shape
        assert_near(ours, theirs, 10 * TOLERANCE[dtype])


def test_a_query_without_a_key_gets_nothing_and_gives_none():
    """Spans (2 queries, 0 keys), (0 queries, 3 keys), (1 query, 2 keys): queries 0 and 1 see nothing."""
    spans, inputs = Spans([2, 0, 1], [0, 3, 2], False, CPU), tensors(3, 5, 2, 2)
    out, lse = attend(*inputs, spans, SCALE)
    assert (out[:2] == 0).all()
    assert (lse[:2] == -torch.inf).all()
    dq, dk, dv = attend_backward(torch.ones_like(out), *inputs, out, lse, spans, SCALE)
    assert (dq[:2] == 0).all()  # and not nan
    assert (dk[:3] == 0).all()
    assert (dv[:3] == 0).all()
    assert (dv[3:] != 0).all()


@given(CASES, st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_the_backward_passes_of_parts_with_the_output_of_the_whole_sum_to_its_gradient(case, seed):
    """Each span of keys is cut in two; each part alone is asked about, given the output and log-sum-exp of both."""
    (queries, keys, _), heads, factor, dtype, _ = case
    first = [n // 3 for n in keys]
    second = [n - m for n, m in zip(keys, first, strict=True)]
    inputs, allowed = tensors(sum(queries), sum(keys), heads, factor, dtype, seed), allowed_by(queries, keys, False)
    out, lse = (x.to(dtype) for x in plain(*inputs, allowed))
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    halves = torch.cat([torch.tensor([0] * m + [1] * n) for m, n in zip(first, second, strict=True)])
    total = [torch.zeros_like(x) for x in inputs]
    for half, lengths in enumerate((first, second)):
        q, k, v = inputs[0], *(x[halves == half] for x in inputs[1:])
        part = attend_backward(grad, q, k, v, out, lse, Spans(queries, lengths, False, CPU), SCALE)
        total[0] += part[0]
        total[1][halves == half] += part[1]
        total[2][halves == half] += part[2]
    for ours, theirs in zip(total, gradients(lambda *x: plain(*x, allowed), inputs, grad), strict=True):
        assert_near(ours, theirs, 10 * TOLERANCE[dtype])


# -- kernels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("causal", [True, False])
def test_the_kernels_of_the_cpu_equal_those_that_are_written_out(causal, factor, dtype):
    generator = torch.Generator().manual_seed(factor)
    num_k = 37 if causal else 70
    shapes = [(3, 2 * factor, 37, HEAD), (3, 2, num_k, HEAD), (3, 2, num_k, HEAD)]
    q, k, v = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    out, lse = attend_batch(q, k, v, SCALE, causal)
    wanted, wanted_lse = math_forward(q, k, v, causal, SCALE)
    torch.testing.assert_close(out, wanted, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(lse, wanted_lse, atol=TOLERANCE[dtype], rtol=0)
    grad = torch.randn(out.shape, generator=generator).to(dtype)
    arguments = (grad, q, out, lse, k, v, causal, SCALE)
    for ours, theirs in zip(module._cpu_backward(*arguments), math_backward(*arguments), strict=True):
        torch.testing.assert_close(ours, theirs, atol=10 * TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_keys_behind_a_mask_play_no_part(factor):
    """Row 0 has 5 keys of 9, row 1 all 9: each as if its keys were all there is."""
    q, k, v = torch.randn(2, 2 * factor, 3, HEAD), torch.randn(2, 2, 9, HEAD), torch.randn(2, 2, 9, HEAD)
    mask = torch.zeros(2, 1, 1, 9)
    mask[0, ..., 5:] = -torch.inf
    for attention in (attend_batch(q, k, v, SCALE, mask=mask), math_forward(q, k, v, False, SCALE, mask)):
        for row, num in enumerate((5, 9)):
            wanted = math_forward(q[row : row + 1], k[row : row + 1, :, :num], v[row : row + 1, :, :num], False, SCALE)
            for ours, theirs in zip(attention, wanted, strict=True):
                torch.testing.assert_close(ours[row : row + 1], theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
def test_in_bfloat16_the_log_sum_exp_is_float32_and_errors_are_those_of_rounding_the_result(causal):
    queries, keys = [3, 0, 40], [3, 0, 40] if causal else [5, 2, 50]
    spans = Spans(queries, keys, causal, CPU)
    q, k, v = tensors(sum(queries), sum(keys), 2, 2, torch.bfloat16)
    out, lse = attend(q, k, v, spans, SCALE)
    wanted, wanted_lse = plain(q, k, v, allowed_by(queries, keys, causal))
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    assert_near(lse, wanted_lse, 1e-4)
    assert_near(out, wanted, 2**-6)  # 8 bits of mantissa, of probabilities and of the result
    grads = attend_backward(out, q, k, v, out, lse, spans, SCALE)
    assert {g.dtype for g in grads} == {torch.bfloat16}


# -- rows --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=6), st.randoms())
@settings(max_examples=60, deadline=None)
def test_what_is_taken_can_be_put_back_and_nothing_else_is_touched(gaps_and_lengths, random):
    starts, end = [], 0
    for gap, length in gaps_and_lengths:
        starts.append(end + gap)
        end += gap + length
    order = random.sample(range(len(starts)), len(starts))  # spans need not come in their order
    starts, lengths = [starts[i] for i in order], [gaps_and_lengths[i][1] for i in order]
    rows, row = Rows(starts, lengths, CPU), torch.randn(end + 2, 3, 4)
    batch = rows.take(row)
    assert batch.shape == (len(starts), 3, max(lengths), 4)
    for taken, start, length in zip(batch, starts, lengths, strict=True):
        assert torch.equal(taken[:, :length], row[start : start + length].transpose(0, 1))
        assert (taken[:, length:] == 0).all()
    marked = torch.full_like(row, 7.0)
    rows.put(marked, batch)
    inside = torch.cat([torch.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
    outside = torch.ones(len(row), dtype=torch.bool).index_fill(0, inside, False)
    assert torch.equal(marked[inside], row[inside])
    assert (marked[outside] == 7).all()


def test_equal_spans_side_by_side_are_a_view_and_others_a_copy():
    row = torch.randn(12, 2, 4)
    assert Rows([3, 6, 9], [3, 3, 3], CPU).take(row).data_ptr() == row[3].data_ptr()
    for starts, lengths in (([0, 3, 6], [3, 3, 2]), ([0, 4, 8], [3, 3, 3]), ([3, 0, 6], [3, 3, 3])):
        rows = Rows(starts, lengths, CPU)
        assert rows.slice is None
        rows.take(row).zero_()
    assert (row != 0).all()


def test_a_log_sum_exp_goes_through_rows_too():
    """[S, H] has one dimension less than [S, H, D]."""
    for lengths in ([3, 3], [4, 2]):
        rows, lse, back = Rows([0, lengths[0]], lengths, CPU), torch.randn(6, 2), torch.zeros(6, 2)
        batch = rows.take(lse)
        assert batch.shape == (2, 2, max(lengths))
        rows.put(back, batch)
        assert torch.equal(back, lse)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_padding_is_never_the_greater_part_of_a_long_span(lengths):
    """Lengths of one size are less than a factor of sqrt(2) apart, and all up to SHORT are of one size."""
    sizes = {}
    for length in lengths:
        sizes.setdefault(size_class(length), []).append(length)
    for members in sizes.values():
        assert max(members) <= SHORT or max(members) < 1.5 * min(members)
    assert len({size_class(n) for n in range(1, SHORT + 1)}) == 1


# -- the branch for a GPU, without one ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [True, False])
def test_the_packed_kernels_take_what_they_are_given_on_a_gpu(causal, dtype):
    """Shapes and dtypes alone: fake tensors go through the real signatures."""
    queries, keys = [3, 0, 7], [3, 0, 7] if causal else [5, 4, 6]
    with FakeTensorMode():
        device = torch.device("cuda")
        q, k, v = (
            torch.empty(n, h, 16, device=device, dtype=dtype) for n, h in ((10, 4), (sum(keys), 2), (sum(keys), 2))
        )
        spans = Spans(queries, keys, causal, device)
        assert has_flash(q)
        assert not has_flash(q.float())
        out, lse = attend(q, k, v, spans, SCALE)
        assert (out.shape, out.dtype) == (q.shape, dtype)
        assert (lse.shape, lse.dtype) == ((10, 4), torch.float32)
        grads = attend_backward(out, q, k, v, out, lse, spans, SCALE)
        assert [(g.shape, g.dtype) for g in grads] == [(x.shape, dtype) for x in (q, k, v)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_batch_on_a_gpu_has_the_shapes_of_one_on_the_cpu(dtype):
    """The packed kernels take no mask and no float32: then it is written out."""
    with FakeTensorMode():
        q = torch.empty(3, 4, 1, 16, device="cuda", dtype=dtype)
        k = torch.empty(3, 2, 9, 16, device="cuda", dtype=dtype)
        for mask in (None, torch.zeros(3, 1, 1, 9, device="cuda", dtype=dtype)):
            out, lse = attend_batch(q, k, k, SCALE, mask=mask)
            assert (out.shape, out.dtype) == (q.shape, dtype)
            assert (lse.shape, lse.dtype) == ((3, 4, 1), torch.float32)


class Kernels:
    """The packed kernels of a GPU, written out: they must be given what the real ones ask for."""

    def __init__(self):
        self.calls = []

    def forward(self, q, k, v, ends_q, ends_k, longest_q, longest_k, dropout, causal, debug, *, scale):
        assert (dropout, debug) == (0.0, False)
        self.calls.append("forward")
        if ends_q is None:  # a batch: [n, L, H, D]
            assert (ends_k, longest_q, longest_k) == (None, q.shape[1], k.shape[1])
            out, lse = math_forward(*(x.transpose(1, 2) for x in (q, k, v)), causal, scale)
            return out.transpose(1, 2), lse, None, None, None
        queries, keys = self._lengths(q, k, ends_q, ends_k, longest_q, longest_k)
        out, lse = plain(q, k, v, allowed_by(queries, keys, causal), scale)
        lse = lse.where(lse > -torch.inf, torch.inf)  # so the real ones mark a query without a key
        return out.to(q.dtype), lse.float().t().contiguous(), None, None, None

    def backward(
        self, grad, q, k, v, out, lse, ends_q, ends_k, longest_q, longest_k, dropout, causal, state, unused, *, scale
    ):
        self.calls.append("backward")
        assert grad.is_contiguous()
        assert lse.is_contiguous()
        assert lse.shape == (q.shape[1], len(q))
        queries, keys = self._lengths(q, k, ends_q, ends_k, longest_q, longest_k)
        wide = [x.transpose(0, 1)[None].double() for x in (grad, q, out, k, v)]
        allowed = allowed_by(queries, keys, causal)
        grads = [torch.zeros_like(x).double() for x in (q, k, v)]
        for i in range(len(q)):  # one query at a time: keys that it sees, and the share of the whole softmax they have
            g, one, o = (x[:, :, i : i + 1] for x in wide[:3])
            seen = [x[:, :, allowed[i]] for x in wide[3:]]
            if allowed[i].any():
                new = math_backward(g, one, o, lse[None, :, i : i + 1].double(), *seen, False, scale)
                grads[0][i] += new[0][0, :, 0]
                grads[1][allowed[i]] += new[1][0].transpose(0, 1)
                grads[2][allowed[i]] += new[2][0].transpose(0, 1)
        return tuple(x.to(q.dtype) for x in grads)

    def _lengths(self, q, k, ends_q, ends_k, longest_q, longest_k):
        lengths = []
        for x, ends, longest in ((q, ends_q, longest_q), (k, ends_k, longest_k)):
            assert ends.dtype == torch.int32
            assert x.stride(-1) == 1
            lengths.append(ends.diff().tolist())
            assert (int(ends[0]), int(ends[-1])) == (0, len(x))
            assert longest == max(lengths[-1]) or (longest == 2 and set(lengths[-1]) == {0, 1})
        if longest_q == 1 and q.shape[1] > k.shape[1]:  # then the kernel lays its queries out as one a span
            assert len(q) == len(ends_q) - 1
        return lengths


@pytest.fixture
def kernels(monkeypatch):
    """A GPU, as far as these functions can tell."""
    stand_in = Kernels()
    monkeypatch.setattr(module, "has_flash", lambda q: True)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", stand_in.forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", stand_in.backward)
    return stand_in


@pytest.mark.parametrize("causal", [True, False])
def test_what_a_gpu_is_asked_for_is_what_the_cpu_computes(kernels, causal):
    queries, keys = [3, 0, 7], [3, 0, 7] if causal else [5, 4, 6]
    spans, inputs = Spans(queries, keys, causal, CPU), tensors(10, sum(keys), 2, 2)
    out, lse = attend(*inputs, spans, SCALE)
    wanted, wanted_lse = plain(*inputs, allowed_by(queries, keys, causal))
    assert_near(out, wanted, 2e-6)
    assert_near(lse, wanted_lse, 2e-6)
    grad = torch.randn(4, 10, HEAD).transpose(0, 1)  # as a layer hands it over: not contiguous
    theirs = gradients(lambda *x: plain(*x, allowed_by(queries, keys, causal)), inputs, grad)
    for mine, other in zip(attend_backward(grad, *inputs, out, lse, spans, SCALE), theirs, strict=True):
        assert_near(mine, other, 2e-5)
    assert kernels.calls == ["forward", "backward"]


@pytest.mark.parametrize("layer", [0, 1])
def test_a_packed_row_is_put_together_alike_with_the_kernels_of_a_gpu(monkeypatch, layer):
    """Forward and backward; prompts of 5 and 3 with completions of 2 and 1, and of 4."""
    plan = PackedPlan([5, 3], [[2, 1], [4]], 2, CPU)
    inputs = [x.transpose(0, 1)[None].requires_grad_() for x in tensors(15, 15, 2, 2)]
    grad = torch.zeros(1, 15, 4, HEAD)
    grad[:, plan.kept] = torch.randn(1, 9, 4, HEAD)

    def run():
        out = plan.attend(layer, *inputs, SCALE)
        return [out, *torch.autograd.grad(out, inputs, grad)]

    wanted, stand_in = run(), Kernels()
    monkeypatch.setattr(module, "has_flash", lambda q: True)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", stand_in.forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", stand_in.backward)
    for ours, theirs in zip(run(), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    parts = 3 if layer else 2
    assert stand_in.calls == ["forward"] * parts + ["backward"] * parts
