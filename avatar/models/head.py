"""Log-probs of chosen tokens from hidden states, without the logits of all tokens in memory at once.

Shapes: n tokens, H hidden size, V vocabulary, v one tile of it. Whatever the dtype of the model, logits are accumulated
and kept in fp32 (fp64 stays fp64): rounded to bf16 they would be off by percents of a ratio. Operands of half precision
go through the tensor cores as they are on CUDA, and elsewhere are widened tile by tile.

The tiles are over the vocabulary and not over the tokens, so that the weight is widened, and its gradient made whole,
once for all tokens. What fits into one tile is left to autograd, which then need not compute the logits twice. torch's
own ``linear_cross_entropy`` gives no entropy, rounds its result to bf16 with its operands, and was no faster where it
was tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TILE_BYTES = 2**24  # of logits [n, v], and of weights [v, H]: the fastest on a CPU; two or three are held at a time
HALF = (torch.bfloat16, torch.float16)
NO_ID = torch.iinfo(torch.int64).min
MIN_TILE = 128  # tokens of the vocabulary: narrower products are slow, and [n, 128] is little next to the hidden states


def chosen_logprobs(hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Log-probability of one token at each position.

    .. math:: \log\pi_i = z_{i,id_i} - \log\sum_v e^{z_{iv}}, \quad z = h W^\top / temperature

    Differentiable, once, in ``hidden`` and ``weight``; the gradient of the weight is only computed where it is trained.
    The backward pass may run several times over a retained graph.

    Args:
        hidden: [n, H], what goes into the head; n may be 0.
        weight: [V, H], the head's.
        ids: [n] within the vocabulary.
        temperature: Divides the logits; above 0.

    Returns:
        [n] nats, fp32.

    Raises:
        ValueError: The shapes do not agree, or the temperature is not above 0.
    """
    return _chosen(hidden, weight, ids, temperature, want_entropy=False)[0]


def chosen_logprobs_and_entropy(
    hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""As :func:`chosen_logprobs`, with the entropy of each softmax from the same logits.

    .. math:: H_i = -\sum_v \pi_{iv} \log\pi_{iv}

    Returns:
        [n] nats, and [n] entropies in nats at that temperature, detached: a metric, not a term of a loss.
    """
    logprobs, entropy = _chosen(hidden, weight, ids, temperature, want_entropy=True)
    assert entropy is not None
    return logprobs, entropy


@torch.no_grad()
def vocabulary_logprobs(hidden: Tensor, weight: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of the whole vocabulary, to draw the next token of a few rows from; detached.

    Args:
        hidden: [n, H].
        weight: [V, H], the head's.
        temperature: Divides the logits; above 0.

    Returns:
        [n, V] nats, fp32.
    """
    _check(hidden, weight, temperature)
    if _operand(weight, hidden) is weight:  # nothing to widen
        return torch.log_softmax(_logits(hidden, weight, temperature), -1)
    tiles = [_logits(hidden, tile, temperature) for _, tile in _tiles(hidden, weight)]
    return torch.log_softmax(torch.cat(tiles, -1), -1)


# -- the one way to logits ---------------------------------------------------------------------------------------------


def _logits(hidden: Tensor, weight: Tensor, temperature: float, buffer: Tensor | None = None) -> Tensor:
    """[n, v], never in half precision, under autocast neither; into the front of a ``buffer`` if there is one."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return _logits(hidden, weight, temperature, buffer)
    size = hidden.shape[0], weight.shape[0]
    out = None if buffer is None else buffer[: size[0] * size[1]].view(size)
    logits = _mm(_operand(hidden, weight), _operand(weight, hidden).T, out)
    return logits if temperature == 1 else logits.div_(temperature)


def _operand(x: Tensor, other: Tensor) -> Tensor:
    """As it is where a product with ``other`` can be accumulated in fp32, else widened."""
    return x if x.dtype == other.dtype and (x.dtype not in HALF or x.is_cuda) else x.to(_wide(x, other))


def _mm(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """The product in fp32 or fp64; operands of half precision on CUDA only."""
    return torch.mm(a, b, out_dtype=torch.float32, out=out) if a.dtype in HALF else torch.mm(a, b, out=out)


def _wide(a: Tensor, b: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)


def _are_wide(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.dtype not in HALF


def _width(hidden: Tensor, weight: Tensor) -> int:
    """How many tokens of the vocabulary make a tile."""
    row = max(hidden.shape) * _wide(hidden, weight).itemsize
    return min(max(MIN_TILE, TILE_BYTES // row), len(weight))


def _tiles(hidden: Tensor, weight: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first token, [v, H]), tile after tile of the vocabulary."""
    width = _width(hidden, weight)
    for start in range(0, len(weight), width):
        yield start, weight[start : start + width]


def _buffer(hidden: Tensor, weight: Tensor) -> Tensor:
    """Memory for the logits of any tile: made anew for each, they would leave the heap in fragments."""
    return hidden.new_empty(len(hidden) * _width(hidden, weight), dtype=_wide(hidden, weight))


# -- chosen tokens -----------------------------------------------------------------------------------------------------


def _chosen(
    hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float, want_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    _check(hidden, weight, temperature)
    if ids.shape != hidden.shape[:1]:
        raise ValueError(f"ids must be [{len(hidden)}], one for each row of hidden, got {tuple(ids.shape)}")
    fits = hidden.shape[0] * weight.shape[0] * hidden.itemsize <= TILE_BYTES
    if not (fits and _are_wide(hidden, weight)):
        return _Tiled.apply(hidden, weight, ids, temperature, want_entropy)
    logprobs = torch.log_softmax(_logits(hidden, weight, temperature), -1)  # [n, V]
    entropy = _entropy(logprobs.detach()) if want_entropy else None
    # As a gather, but with a faster backward pass, the same each time on CUDA too; an id outside raises, -100 as well.
    return -nn.functional.nll_loss(logprobs, ids, reduction="none", ignore_index=NO_ID), entropy


def _entropy(logprobs: Tensor) -> Tensor:
    return -(logprobs.exp() * logprobs).sum(-1)


class _Tiled(torch.autograd.Function):
    """The chosen log-probs over tiles of the vocabulary; the backward pass computes the logits of each tile again."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float, want_entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        h, wide = _operand(hidden, weight), _wide(hidden, weight)
        chosen = torch.full_like(ids, torch.nan, dtype=wide)  # an id outside of the vocabulary stays nan
        # Over the tiles so far: the largest z, the sum of e^(z - peak), and that of e^(z - peak) (z - peak).
        peak = torch.full_like(chosen, torch.finfo(wide).min)
        total, moment = chosen.new_zeros(2, len(ids))
        buffer, spare = _buffer(hidden, weight), _buffer(hidden, weight) if want_entropy else None
        for start, tile in _tiles(hidden, weight):
            logits = _logits(h, _operand(tile, hidden), temperature, buffer)
            column, inside = _column(ids, start, tile)
            chosen = torch.where(inside, logits.gather(-1, column[:, None])[:, 0], chosen)
            top = torch.maximum(peak, logits.amax(-1))
            logits -= top[:, None]
            exps = torch.exp(logits, out=logits if spare is None else spare[: logits.numel()].view_as(logits))
            fall, old = peak - top, total
            total = fall.exp() * old + exps.sum(-1)
            if want_entropy:
                moment = fall.exp() * (moment + fall * old) + exps.mul_(logits).sum(-1)
            peak = top
        log_sum = peak + total.log()
        ctx.save_for_backward(hidden, weight, ids, log_sum)
        ctx.temperature = temperature
        if not want_entropy:
            return chosen - log_sum, None
        entropy = total.log() - moment / total
        ctx.mark_non_differentiable(entropy)
        return chosen - log_sum, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, ids, log_sum = ctx.saved_tensors
        grad = -grad[:, None] / ctx.temperature  # [n, 1]
        h = _operand(hidden, weight)
        grad_hidden = torch.zeros_like(hidden, dtype=log_sum.dtype) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        scaled = (grad * h).to(h.dtype) if ctx.needs_input_grad[1] else h
        buffer = _buffer(hidden, weight)
        for start, tile in _tiles(hidden, weight):
            w = _operand(tile, hidden)
            softmax = _logits(h, w, ctx.temperature, buffer).sub_(log_sum[:, None]).exp_()
            column, inside = _column(ids, start, tile)
            error = softmax.scatter_add_(-1, column[:, None], -inside[:, None].to(softmax.dtype)).to(w.dtype)
            if grad_hidden is not None:
                _add_product(grad_hidden, error, w)
            if grad_weight is not None:
                grad_weight[start : start + len(tile)] = _mm(error.T, scaled)
        if grad_hidden is not None:
            grad_hidden = grad_hidden.mul_(grad).to(hidden.dtype)
        return grad_hidden, grad_weight, None, None, None


def _column(ids: Tensor, start: int, tile: Tensor) -> tuple[Tensor, Tensor]:
    """[n] where each id is within the tile, and [n] bool whether it is."""
    column = ids - start
    return column.clamp(0, len(tile) - 1), (column >= 0) & (column < len(tile))


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += _mm(a, b)


def _check(hidden: Tensor, weight: Tensor, temperature: float) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden [n, H] and weight [V, H] do not agree: {tuple(hidden.shape)}, {tuple(weight.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
