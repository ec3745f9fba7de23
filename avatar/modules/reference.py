"""The reference: the policy as it was before training, frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from avatar.models.base import Prefix
from avatar.modules.policy import Policy
from avatar.types import Prompt


class Reference(Policy):
    """A frozen model that the policy is held close to.

    Where its towers are those of the policy, and stay so, it takes over the policy's encoded prompts; else it encodes
    them itself. No checkpoint holds its weights: they stay where they were loaded from, and :attr:`fingerprint` tells
    whether they are still those.

    Beside a policy with LoRA and without a path or dtype of its own it loads nothing: it is the policy with LoRA
    switched off.

    Args:
        path: Folder or hub id; None is what the policy starts from.
        dtype: Of the weights; None is the policy's.
        attn_implementation: As transformers names it.
    """

    def __init__(self, path: str | None = None, dtype: str | None = None, attn_implementation: str = "sdpa") -> None:
        super().__init__(path or "", dtype or "", attn_implementation)
        self._shares_towers: bool | None = None
        self._lender: tuple[Policy, ...] = ()  # in a tuple, or its weights would be registered here once more

    def follow(self, policy: Policy) -> None:
        """Take path and dtype from ``policy`` where they were not given, and hold as much of the clips."""
        if policy.lora and not self.path and self.dtype_name in ("", policy.dtype_name):
            self._lender = (policy,)
        self.cache_mb = policy.cache_mb
        self.path, self.dtype_name = self.path or policy.path, self.dtype_name or policy.dtype_name

    def configure_model(self) -> None:
        """Load the model, once, and freeze all of it; where it is the policy's, that must have been loaded before."""
        if self._lender:
            self.fingerprint = self._lender[0].adapter.fingerprint()
            return
        super().configure_model()
        self.adapter.requires_grad_(False).eval()
        self.fingerprint = self.adapter.fingerprint()

    @torch.no_grad()
    def prefixes(self, prompts: Sequence[Prompt], policy: Policy, encoded: list[Prefix]) -> list[Prefix]:
        """Encoded prompts for this model: ``encoded`` by ``policy`` if both have the same frozen towers."""
        if self._shares_towers is None:
            same = bool(self._lender) or self.adapter.tower_fingerprint() == policy.adapter.tower_fingerprint()
            self._shares_towers = same and policy.adapter.towers_frozen
        return encoded if self._shares_towers else self.encode(prompts)

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> list[Prefix]:
        """See :meth:`ModelAdapter.encode`."""
        if not self._lender:
            return super().encode(prompts)
        with self._lender[0].adapter.without_lora():
            return self._lender[0].encode(prompts)

    @torch.no_grad()
    def forward(self, *args: Any) -> Tensor:
        """[N, T] log-probs without gradient, see :meth:`ModelAdapter.logprobs`."""
        if not self._lender:
            return super().forward(*args)
        with self._lender[0].adapter.without_lora():
            return self._lender[0](*args)

    def train(self, mode: bool = True) -> Reference:
        """Stays in evaluation mode."""
        return super().train(False)
