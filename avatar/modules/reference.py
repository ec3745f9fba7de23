"""The reference: the policy as it was before training, frozen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avatar.modules.policy import Policy


class Reference(Policy):
    """A frozen model that the policy is held close to.

    It takes encoded prompts from the policy, so the towers of the two must be the same. No checkpoint holds its
    weights: they stay where they were loaded from, and :attr:`fingerprint` tells whether they are still those.

    Args:
        path: Folder or hub id; None is what the policy starts from.
        dtype: Of the weights; None is the policy's.
        kwargs: As for :class:`Policy`.
    """

    def __init__(self, path: str | None = None, dtype: str | None = None, attn_implementation: str = "sdpa") -> None:
        super().__init__(path or "", dtype or "", attn_implementation)

    def follow(self, policy: Policy) -> None:
        """Take path and dtype from ``policy`` where they were not given."""
        self.path, self.dtype_name = self.path or policy.path, self.dtype_name or policy.dtype_name

    def configure_model(self) -> None:
        """Load the model, once, and freeze all of it."""
        super().configure_model()
        self.adapter.requires_grad_(False).eval()
        self.fingerprint = self.adapter.fingerprint()

    @torch.no_grad()
    def forward(self, *args: Any) -> Tensor:
        """[N, T] log-probs without gradient, see :meth:`ModelAdapter.logprobs`."""
        return super().forward(*args)

    def train(self, mode: bool = True) -> Reference:
        """Stays in evaluation mode."""
        return super().train(False)
