"""Attention over packed spans, with the log-sum-exp that lets parts of one softmax be put together again.

A row of tokens holds many sequences one after the other, so nothing is padded. All functions take the heads apart and
batch away: queries [S, H, D], keys and values [S, K, D], where H is a multiple of K (grouped-query attention). The
log-sum-exp is [S, H] in float32 (float64 where all is).

Backward passes take the output and the log-sum-exp of the whole softmax, of which the span may be but one part: the
gradient of each part follows from these alone.

Reference:
    Ring Attention, arXiv 2310.01889, appendix; FlashAttention-2, arXiv 2307.08691, algorithm 2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import accumulate

import torch
from torch import Tensor

SHORT = 32  # causal spans up to this length share one batch, whatever their lengths


class Rows:
    """Spans of a row as a batch: several of one length, or of like lengths with what is missing filled with zeros.

    Args:
        starts: Where each of the n spans begins.
        lengths: Of each.
        device: Of the row.
    """

    def __init__(self, starts: Sequence[int], lengths: Sequence[int], device: torch.device) -> None:
        self.num, self.longest = len(starts), max(lengths)
        first, end = starts[0], starts[0] + self.num * self.longest
        self.slice: slice | None = None
        if list(starts) == list(range(first, end, self.longest)) and min(lengths) == self.longest:
            self.slice = slice(first, end)
            return
        steps = torch.arange(self.longest, device=device)
        real = steps < torch.tensor(lengths, device=device)[:, None]  # [n, longest]
        self.index = torch.where(real, torch.tensor(starts, device=device)[:, None] + steps, starts[0])
        self.padding = None if bool(real.all()) else ~real
        self.real = real.flatten().nonzero()[:, 0]
        self.into = self.index.flatten()[self.real]

    def take(self, row: Tensor) -> Tensor:
        """[S, H, D] to [n, H, longest, D]."""
        if self.slice is not None:
            return row[self.slice].unflatten(0, (self.num, self.longest)).transpose(1, 2)
        batch = row[self.index]
        if self.padding is not None:
            batch[self.padding] = 0
        return batch.transpose(1, 2)

    def put(self, row: Tensor, batch: Tensor) -> None:
        """Write [n, H, longest, D] to where :meth:`take` would take it from."""
        flat = batch.transpose(1, 2).flatten(0, 1)
        if self.slice is not None:
            row[self.slice] = flat
        else:
            row[self.into] = flat[self.real]


class Spans:
    """Which queries see which keys: span i of the queries sees span i of the keys, and no other.

    Args:
        queries: Lengths of the spans, one after the other; 0 is allowed.
        keys: Likewise.
        causal: Whether token t of a span sees tokens 0 to t only; the lengths are then equal.
        device: Of the row.
    """

    def __init__(self, queries: Sequence[int], keys: Sequence[int], causal: bool, device: torch.device) -> None:
        self.queries, self.keys, self.causal, self.device = list(queries), list(keys), causal, device

    @cached_property
    def batches(self) -> list[tuple[Rows, Rows]]:
        """Queries and keys of the spans that go through one kernel call, call by call."""
        starts = [[0, *accumulate(lengths)] for lengths in (self.queries, self.keys)]
        members: dict[object, list[int]] = defaultdict(list)
        for i, pair in enumerate(zip(self.queries, self.keys, strict=True)):
            if min(pair):
                members[size_class(pair[0]) if self.causal else pair].append(i)

        def rows(side: int, spans: list[int]) -> Rows:
            lengths = (self.queries, self.keys)[side]
            return Rows([starts[side][i] for i in spans], [lengths[i] for i in spans], self.device)

        return [(rows(0, spans), rows(1, spans)) for spans in members.values()]

    @cached_property
    def cumulative(self) -> tuple[Tensor, Tensor, int, int]:
        """Ends of the spans of queries and keys, [spans + 1] int32, and a bound of the length of each.

        Told that no span has more than one query, the kernels take it that each has one: with an empty one among them,
        the bound is 2.
        """
        ends = [
            torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=self.device)
            for lengths in (self.queries, self.keys)
        ]
        longest = max(self.queries)
        return ends[0], ends[1], 2 if longest == 1 and 0 in self.queries else longest, max(self.keys)


def size_class(length: int) -> int:
    """Lengths of one size differ by less than half; short ones are all of one size."""
    return 0 if length <= SHORT else math.ceil(2 * math.log2(length))


def attend(q: Tensor, k: Tensor, v: Tensor, spans: Spans, scale: float) -> tuple[Tensor, Tensor]:
    """Attention within the spans: output [S, H, D] and log-sum-exp [S, H]; no query may be without a key."""
    if has_flash(q):
        ends_q, ends_k, longest_q, longest_k = spans.cumulative
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            q, k, v, ends_q, ends_k, longest_q, longest_k, 0.0, spans.causal, False, scale=scale
        )
        return out, lse.t()
    out, lse = q.new_zeros(q.shape), q.new_full((q.shape[1], len(q)), -torch.inf, dtype=_wide(q).dtype).t()
    for queries, keys in spans.batches:
        part, part_lse = attend_batch(queries.take(q), keys.take(k), keys.take(v), scale, spans.causal)
        queries.put(out, part)
        queries.put(lse, part_lse)
    return out, lse


def attend_batch(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = False, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention of a batch: [n, H, L, D] queries, [n, K, M, D] keys and values; without gradient.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        scale: Of the scores.
        causal: Whether query t sees keys 0 to t only; L is then M.
        mask: [n, 1, 1, M], added to the scores; None sees all.

    Returns:
        Output [n, H, L, D] and log-sum-exp [n, H, L].
    """
    if q.device.type == "cpu":
        op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        full = None if mask is None else mask.expand(-1, -1, q.shape[2], -1)
        out, lse = op(q, k, v, 0.0, causal, attn_mask=full, scale=scale)
        return out, lse
    if has_flash(q) and mask is None:
        rows = [x.transpose(1, 2) for x in (q, k, v)]
        sizes = (None, None, q.shape[2], k.shape[2])
        out, lse, *_ = torch.ops.aten._flash_attention_forward(*rows, *sizes, 0.0, causal, False, scale=scale)
        return out.transpose(1, 2), lse
    return math_forward(q, k, v, causal, scale, mask)


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, spans: Spans, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values from that of the output.

    Args:
        grad: [S, H, D].
        q: [S, H, D].
        k: [S, K, D].
        v: [S, K, D].
        out: [S, H, D], of the whole softmax.
        lse: [S, H], of the whole softmax.
        spans: The part of it that is asked about.
        scale: Of the scores.
    """
    if has_flash(q):
        ends_q, ends_k, longest_q, longest_k = spans.cumulative
        unused = torch.zeros(2, dtype=torch.uint64, device=q.device)  # the random state of a dropout that is 0
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(
            grad.contiguous(), q, k, v, out, lse.t().contiguous(), ends_q, ends_k, longest_q, longest_k,
            0.0, spans.causal, unused, unused, scale=scale,
        )  # fmt: skip
        return gradients
    kernel = _cpu_backward if q.device.type == "cpu" else math_backward
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for queries, keys in spans.batches:
        q_side = (queries.take(grad), queries.take(q), queries.take(out), queries.take(lse))
        grads = kernel(*q_side, keys.take(k), keys.take(v), spans.causal, scale)
        for rows, row, batch in zip((queries, keys, keys), (dq, dk, dv), grads, strict=True):
            rows.put(row, batch)
    return dq, dk, dv


def has_flash(q: Tensor) -> bool:
    """Whether the kernels for packed rows on a GPU take ``q``."""
    if q.device.type != "cuda" or q.dtype not in (torch.bfloat16, torch.float16):
        return False
    fits = q.shape[-1] % 8 == 0 and q.shape[-1] <= 256
    return fits and torch.backends.cuda.is_flash_attention_available() and _is_ampere(q.device)


@cache
def _is_ampere(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


# -- kernels: [n, H, L, D] queries, [n, K, M, D] keys and values -------------------------------------------------------


def _cpu_backward(
    grad: Tensor, q: Tensor, out: Tensor, lse: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, q, k, v, out, lse, 0.0, causal, scale=scale
    )
    return gradients


def math_forward(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Written out, in float32: for devices without a kernel, and to compare kernels with."""
    with torch.autocast(q.device.type, enabled=False):
        scores = _scores(q, k, causal, scale)  # [n, H, L, M]
        scores = scores if mask is None else scores + mask
        lse = scores.logsumexp(-1)
        return ((scores - lse[..., None]).exp() @ _wide(_repeat(v, q))).to(q.dtype), lse


def math_backward(
    grad: Tensor, q: Tensor, out: Tensor, lse: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, written out."""
    with torch.autocast(q.device.type, enabled=False):
        chances = (_scores(q, k, causal, scale) - lse[..., None]).exp()  # [n, H, L, M]
        g, grouped = _wide(grad), (len(k), k.shape[1], -1, *k.shape[2:])
        slope = g @ _wide(_repeat(v, q)).mT - (g * _wide(out)).sum(-1, keepdim=True)
        d_scores = chances * slope * scale
        dk = (d_scores.mT @ _wide(q)).reshape(grouped).sum(2)
        dv = (chances.mT @ g).reshape(grouped).sum(2)
        return (d_scores @ _wide(_repeat(k, q))).to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


def _scores(q: Tensor, k: Tensor, causal: bool, scale: float) -> Tensor:
    scores = (_wide(q) @ _wide(_repeat(k, q)).mT) * scale
    if not causal:
        return scores
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(later, -torch.inf)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _repeat(k: Tensor, q: Tensor) -> Tensor:
    return k.repeat_interleave(q.shape[1] // k.shape[1], 1)
