"""Shared-prefix attention: a prompt is read once, however many completions follow it.

All prompts and completions lie in one row, ``[prompt 1 .. prompt B | completions of 1 .. completions of B]``. A prompt
sees itself; a completion sees its prompt and itself. Each of the two is a softmax of its own, and the two are put
together by their log-sum-exp, which is exact.

Shapes: S tokens of the row, H heads, K key-value heads, D head size, P prompt tokens of all prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniDecoderLayer

from avatar.models.spans import Spans, attend, attend_backward

SHARED_PREFIX = "avatar_shared_prefix"
EXACT = {"sdpa", "flash_attention_2", "flash_attention_3", SHARED_PREFIX}  # give what our kernels give
WHOLE = slice(0, None)  # all rows; comes first, if at all


@dataclass(frozen=True)
class Part:
    """A part of the softmax of some rows.

    Attributes:
        queries: Which rows ask: a slice, or indices.
        keys: Which rows are seen: a slice.
        spans: Which of them by which.
        first: Whether no part before it asks for the same rows.
    """

    queries: slice | Tensor
    keys: slice
    spans: Spans
    first: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether all rows ask."""
        return isinstance(self.queries, slice) and self.queries == WHOLE


class AttentionPlan(Protocol):
    """Who sees whom in one pass of the text model; the keyword argument ``plan`` of its layers.

    Attributes:
        kept: The rows that the last layer is asked for; None for all.
    """

    kept: Tensor | None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """[1, H, S, D], [1, K, S, D], [1, K, S, D] to [1, S, H, D]."""


class PackedPlan:
    """Prompts and completions of one row.

    Args:
        prompts: [B] lengths of the prompts.
        completions: [B] lengths of the completions of each.
        num_layers: Of the model: in its last layer the rows of a prompt but its last one are read by nobody.
        device: Of the row.

    Attributes:
        prompts: [B].
        kept: The rows that the last layer is asked for: the last of each prompt, then all of the completions.
    """

    def __init__(
        self, prompts: Sequence[int], completions: Sequence[Sequence[int]], num_layers: int, device: torch.device
    ) -> None:
        own, total = [n for lengths in completions for n in lengths if n], sum(prompts)
        self.prompts, self.num_layers = list(prompts), num_layers
        lasts = torch.tensor(list(prompts), device=device).cumsum(0) - 1
        self.kept: Tensor | None = torch.cat([lasts, torch.arange(total, total + sum(own), device=device)])
        before, after = slice(0, total), slice(total, None)
        self.parts = [Part(WHOLE, WHOLE, Spans([*prompts, *own], [*prompts, *own], True, device))]
        self.last_parts = [Part(lasts, before, Spans([1] * len(prompts), prompts, False, device))]
        if own:
            across = Part(after, before, Spans([sum(n) for n in completions], prompts, False, device), first=False)
            self.parts += [across]
            self.last_parts += [Part(after, after, Spans(own, own, True, device)), across]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """See :class:`AttentionPlan`."""
        parts = self.last_parts if layer == self.num_layers - 1 else self.parts
        rows = [x[0].transpose(0, 1) for x in (q, k, v)]
        out: Tensor = _SplitAttention.apply(*rows, parts, scale)
        return out[None]


class PrefillPlan(PackedPlan):
    """Prompts alone, whose keys and values are kept for what will be written after them.

    Attributes:
        keys: [P, K, D] of each layer.
        values: [P, K, D] of each layer.
    """

    def __init__(self, prompts: Sequence[int], num_layers: int, device: torch.device) -> None:
        super().__init__(prompts, [[] for _ in prompts], num_layers, device)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """See :class:`AttentionPlan`."""
        self.keys.append(k[0].transpose(0, 1))
        self.values.append(v[0].transpose(0, 1))
        return super().attend(layer, q, k, v, scale)


class _SplitAttention(torch.autograd.Function):
    """Attention of several parts put together; the rows that no part asks for get zeros."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, parts: list[Part], scale: float) -> Tensor:
        out, lse = q.new_empty(0), q.new_empty(0)
        for part in parts:
            of_q, of_k = part.queries, part.keys
            new, new_lse = attend(q[of_q], k[of_k], v[of_k], part.spans, scale)
            if part.is_whole:
                out, lse = new, new_lse
                continue
            if not len(out):
                out, lse = q.new_zeros(q.shape), new_lse.new_full((q.shape[1], len(q)), -torch.inf).t()
            if not part.first:
                new, new_lse = put_together(out[of_q], lse[of_q], new, new_lse)
            out[of_q], lse[of_q] = new, new_lse
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.parts, ctx.scale = parts, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, out, lse = ctx.saved_tensors
        dq, dk, dv = q.new_empty(0), k.new_empty(0), v.new_empty(0)
        for part in ctx.parts:
            of_q, of_k = part.queries, part.keys
            sides = (grad[of_q], q[of_q], k[of_k], v[of_k], out[of_q], lse[of_q])
            new = attend_backward(*sides, part.spans, ctx.scale)
            if part.is_whole:
                dq, dk, dv = new
                continue
            if not len(dq):
                dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
            dq[of_q] += new[0]
            dk[of_k] += new[1]
            dv[of_k] += new[2]
        return dq, dk, dv, None, None


def put_together(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
    r"""One softmax over the keys of two.

    .. math:: l = \log(e^{l_1} + e^{l_2}), \quad o = e^{l_1 - l} o_1 + e^{l_2 - l} o_2

    Args:
        out: [..., D].
        lse: [...]; -inf where no key was seen, but not in both.
        other: [..., D].
        other_lse: [...].
    """
    total = torch.logaddexp(lse, other_lse)
    weight, other_weight = (lse - total).exp()[..., None], (other_lse - total).exp()[..., None]
    return (out * weight + other * other_weight).to(out.dtype), total


# -- the model's side --------------------------------------------------------------------------------------------------


def shared_prefix_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float,
    plan: AttentionPlan | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """The attention of transformers' layers: by ``plan`` where one is given, else plain sdpa."""
    if plan is None:
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return out, None
    if torch.is_autocast_enabled(query.device.type):  # rotated queries and keys are fp32, values are not
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    return plan.attend(module.layer_idx, query, key, value, scaling), None


AttentionInterface.register(SHARED_PREFIX, shared_prefix_attention)
AttentionMaskInterface.register(SHARED_PREFIX, sdpa_mask)


class KeptRowsLayer(Qwen2_5OmniDecoderLayer):
    """The last layer, which after its attention goes on with those rows alone whose output is read."""

    def forward(self, hidden_states: Tensor, plan: AttentionPlan | None = None, **kwargs: Any) -> Tensor:
        """[1, S, hidden] to [1, kept, hidden]."""
        if plan is None or plan.kept is None:
            return super().forward(hidden_states, plan=plan, **kwargs)
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), plan=plan, **kwargs)
        hidden = (hidden_states + attended)[:, plan.kept]
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


def why_not_shared(text_model: Any) -> str | None:
    """What stands against shared prefixes in a text model; None if nothing does."""
    config = text_model.config
    if config._attn_implementation not in EXACT:
        return f"its attn_implementation is {config._attn_implementation!r}; set 'sdpa'"
    if set(config.layer_types) != {"full_attention"}:
        return "some of its layers attend to a window only"
    if config.attention_dropout:
        return f"it has an attention dropout of {config.attention_dropout}"
    if any(not isinstance(layer, Qwen2_5OmniDecoderLayer) for layer in text_model.layers):
        return f"its layers are {type(text_model.layers[0]).__name__}"
    return None


def share_prefixes(text_model: Any) -> None:
    """Make a text model understand the keyword argument ``plan``; without it, it computes what it did."""
    text_model.set_attn_implementation(SHARED_PREFIX)
    text_model.layers[-1].__class__ = KeptRowsLayer
