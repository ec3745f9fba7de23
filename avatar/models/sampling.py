"""Drawing tokens: one uniform number a token, turned into a token by the cumulative distribution.

What a row draws thus follows from its own numbers, whoever else is being written and whoever has finished.

Shapes: n rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from avatar.models.text import Decoder
from avatar.types import Sampling

DROP_SHARE = 8  # finished rows are dropped when they are one in so many


def draw(logprobs: Tensor, sampling: Sampling, uniform: Tensor, banned: Tensor) -> tuple[Tensor, Tensor]:
    """One token a row.

    Args:
        logprobs: [n, V] nats of the full vocabulary, at the sampling temperature.
        sampling: Temperature 0 takes the likeliest token that is not banned; top-k comes before top-p.
        uniform: [n] float64 in [0, 1); plays no part when greedy.
        banned: Tokens that are never drawn.

    Returns:
        [n] ids, and [n] their log-probs among the tokens that could be drawn (0 when greedy).
    """
    allowed = logprobs.index_fill(-1, banned, -torch.inf)
    if sampling.temperature == 0:
        return allowed.argmax(-1), allowed.new_zeros(len(allowed))
    if sampling.top_k:
        allowed = _likeliest(allowed, sampling.top_k)
    if sampling.top_p < 1:
        allowed = _nucleus(allowed, sampling.top_p)
    peak = allowed.amax(-1, keepdim=True)  # what may be drawn can be so unlikely that its probability rounds to 0
    cumulative = (allowed - peak).double().exp().cumsum(-1)
    total = cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    return ids[:, 0], (allowed.gather(-1, ids) - peak - total.log().to(allowed.dtype))[:, 0]


def _likeliest(logprobs: Tensor, k: int) -> Tensor:
    top = logprobs.topk(min(k, logprobs.shape[-1]), -1)
    return torch.full_like(logprobs, -torch.inf).scatter(-1, top.indices, top.values)


def _nucleus(logprobs: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest tokens that together have the share ``p`` of what is left; never less than one."""
    ordered, indices = logprobs.sort(stable=True, dim=-1, descending=True)
    chances = ordered.double().softmax(-1)
    beyond = chances.cumsum(-1) - chances >= p
    return torch.full_like(logprobs, -torch.inf).scatter(-1, indices, ordered.masked_fill(beyond, -torch.inf))


def write(
    hidden: Tensor, decoder: Decoder, logprobs_of: Callable[[Tensor], Tensor], sampling: Sampling,
    generator: torch.Generator | None, stop_ids: Tensor, banned: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Write rows to their end; those that have reached it are dropped as soon as they are an eighth of all.

    Args:
        hidden: [n, H], tells the first token of each row.
        decoder: Reads what was drawn.
        logprobs_of: [n, H] to [n, V] nats at the sampling temperature.
        sampling: How tokens are drawn.
        generator: Where chance comes from.
        stop_ids: Tokens that end a row.
        banned: Tokens that are never drawn.

    Returns:
        [n, T] ids, their log-probs in the full vocabulary, and among the tokens that could be drawn, on the CPU; what
        lies after the end of a row means nothing.
    """
    num, limit, device = len(hidden), sampling.max_new_tokens, hidden.device
    uniform = torch.rand(num, limit, dtype=torch.float64, device=device, generator=generator)
    ids = torch.zeros(num, limit, dtype=torch.long, device=device)
    logprobs, truncated = (torch.zeros(num, limit, dtype=torch.float32, device=device) for _ in range(2))
    active, going = torch.arange(num, device=device), torch.ones(num, dtype=torch.bool, device=device)
    for t in range(limit):
        vocabulary = logprobs_of(hidden)  # [active, V]
        new, new_truncated = draw(vocabulary, sampling, uniform[active, t], banned)
        ids[active, t], truncated[active, t] = new, new_truncated
        logprobs[active, t] = vocabulary.gather(-1, new[:, None])[:, 0]
        going &= ~torch.isin(new, stop_ids)
        left = going.nonzero()[:, 0]
        if t + 1 == limit or not len(left):
            break
        if DROP_SHARE * (len(active) - len(left)) >= len(active):  # each time costs a copy of what is held of the rest
            decoder.keep(left)
            active, new, going = active[left], new[left], going[left]
        hidden = decoder.step(new)
    return ids[:, : t + 1].cpu(), logprobs[:, : t + 1].cpu(), truncated[:, : t + 1].cpu()
