"""The policy: the model that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from lightning.pytorch import LightningModule
from torch import Tensor

from avatar.cache import ByteCache, is_sharing, shared
from avatar.models.base import ModelAdapter, Prefix, load_adapter, load_skeleton
from avatar.models.lora import LoRA, is_lora
from avatar.types import Prompt


class Policy(LightningModule):
    """A model from a folder or a hub id, behind its adapter; loaded when training or testing starts, not before.

    Args:
        path: Folder written by ``save_pretrained``, or a hub id such as ``Qwen/Qwen2.5-Omni-7B``.
        dtype: Of the weights: ``float32``, ``bfloat16``, or ``auto`` for the checkpoint's own.
        attn_implementation: As transformers names it.
        freeze_towers: Keep the vision and audio towers as they are; encoded clips are then computed once and held. With
            ``lora`` it is ``lora.targets`` that decides.
        cache_mb: Bound of the store of encoded clips, in MB.
        gradient_checkpointing: Compute activations of the text model again in the backward pass, in place of keeping
            them: about a third more time for a fraction of the memory.
        lora: Train matrices of low rank beside the weights, which stay as they are; None trains the weights.

    Attributes:
        base_fingerprint: With LoRA, that of the weights beside which it was put; None without.
    """

    adapter: ModelAdapter

    def __init__(
        self,
        path: str = "Qwen/Qwen2.5-Omni-7B",
        dtype: str = "auto",
        attn_implementation: str = "sdpa",
        freeze_towers: bool = True,
        cache_mb: int = 512,
        gradient_checkpointing: bool = False,
        lora: LoRA | None = None,
    ) -> None:
        super().__init__()
        self.path, self.dtype_name, self.attn_implementation = path, dtype, attn_implementation
        self.freeze_towers = freeze_towers
        self.cache_mb = cache_mb
        self.gradient_checkpointing, self.lora = gradient_checkpointing, lora
        self.base_fingerprint: str | None = None
        self.skeleton: dict[str, Tensor] | None = None

    def configure_model(self) -> None:
        """Load the model, once; from ``skeleton`` if a checkpoint brought one, whose weights follow.

        Raises:
            CheckpointError: There is no model at ``path``.
            ConfigError: ``lora`` does not fit the model or ``freeze_towers``.
        """
        if hasattr(self, "adapter"):
            return
        how = (self.dtype_name, self.attn_implementation, self.cache_mb)
        self.adapter = load_skeleton(self.skeleton, *how) if self.skeleton else load_adapter(self.path, *how)
        if self.lora:
            self.adapter.add_lora(self.lora)
            self.base_fingerprint = self.adapter.fingerprint()
        self.adapter.freeze_towers(self.freeze_towers)
        if self.gradient_checkpointing:
            self.adapter.checkpoint_gradients()
        if is_sharing() and self.skeleton is None and self.adapter.towers_frozen:
            towers = (self.adapter.tower_fingerprint(), self.dtype_name, self.attn_implementation, self.cache_mb)
            self.adapter.hold_clips_in(shared(("encoded", *towers), lambda: ByteCache(self.cache_mb * 2**20)))

    def is_saved(self, name: str) -> bool:
        """Whether a checkpoint holds what ``state_dict`` calls ``name``: with LoRA, only what is trained."""
        return not self.lora or is_lora(name) or attrgetter(name)(self).requires_grad

    def encode(self, prompts: Sequence[Prompt]) -> list[Prefix]:
        """See :meth:`ModelAdapter.encode`."""
        return self.adapter.encode(prompts)

    def forward(
        self, prefixes: Sequence[Prefix], ids: Tensor, mask: Tensor, group: Tensor, temperature: float
    ) -> Tensor:
        """[N, T] log-probs, see :meth:`ModelAdapter.logprobs`."""
        return self.adapter.logprobs(prefixes, ids, mask, group, temperature)

    def logprobs_and_entropy(
        self, prefixes: Sequence[Prefix], ids: Tensor, mask: Tensor, group: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """[N, T] log-probs and [N, T] entropy, see :meth:`ModelAdapter.logprobs_and_entropy`."""
        return self.adapter.logprobs_and_entropy(prefixes, ids, mask, group, temperature)
