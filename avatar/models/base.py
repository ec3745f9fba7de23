"""What the rest of the house asks of a model: encode, generate, logprobs. Pixels never go further up than this."""

from __future__ import annotations

import hashlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from avatar.cache import ByteCache
from avatar.errors import CheckpointError, ConfigError
from avatar.models.lora import LoRA, base_name, inject, is_lora, lora_layers, switched_off
from avatar.registry import Registry
from avatar.types import Clip, Completion, Prompt, Sampling


@dataclass(frozen=True)
class Prefix:
    """A prompt with its media encoded.

    Attributes:
        ids: [P] token ids, media placeholders expanded.
        position_ids: [3, P], M-RoPE: time, height, width.
        features: [tokens of a kind, H], what the towers made of the media, by the kinds of ``media_token_ids``; what
            the prompt does not show is left out.
    """

    ids: Tensor
    position_ids: Tensor
    features: dict[str, Tensor]


class ModelAdapter(ABC, nn.Module):
    """A Hugging Face model behind three verbs. One subclass for each model family, in ``MODELS`` by its model type.

    Attributes:
        model: The model of transformers, which LoRA is put into.
    """

    model: Any

    @classmethod
    @abstractmethod
    def from_pretrained(cls, path: str, dtype: str, attn_implementation: str, cache_mb: int) -> ModelAdapter:
        """Load weights and processor from a folder or a hub id; ``cache_mb`` bounds the store of encoded clips."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights and processor to ``folder``, readable by :meth:`from_pretrained` and by transformers.

        LoRA is merged into the weights that are written.
        """

    @classmethod
    @abstractmethod
    def from_skeleton(cls, folder: str, dtype: str, attn_implementation: str, cache_mb: int) -> ModelAdapter:
        """Build from configuration and processor alone; the weights come from a checkpoint and are not set yet."""

    @abstractmethod
    def save_skeleton(self, folder: str | Path) -> None:
        """Write configuration and processor, without weights."""

    @property
    @abstractmethod
    def media_token_ids(self) -> dict[str, int]:
        """``audio``, ``video`` and ``image``: the id of the token that stands for one piece of each."""

    @abstractmethod
    def vocabulary_fingerprint(self) -> str:
        """A hash of the tokenizer's tokens and their ids: token ids mean the same to models that share it."""

    @abstractmethod
    def towers(self) -> list[nn.Module]:
        """The vision and audio encoders."""

    @abstractmethod
    def tower_features(self, clips: Sequence[Clip]) -> list[dict[str, Tensor]]:
        """[tokens, H] of each clip, by the kinds of :attr:`media_token_ids` that it has."""

    def hold_clips_in(self, store: ByteCache) -> None:
        """Keep encoded clips in ``store``, which a model with the same towers may have filled; without one, nothing."""

    @property
    @abstractmethod
    def tower_calls(self) -> dict[str, int]:
        """How many clips went through a tower so far, by the kinds of :attr:`media_token_ids`.

        One taken from a store did not; a video with sound went through both towers.
        """

    @abstractmethod
    def encode(self, prompts: Sequence[Prompt]) -> list[Prefix]:
        """Run the towers once for each distinct clip and lay out the tokens and positions of each prompt."""

    @abstractmethod
    def generate(
        self,
        prefixes: Sequence[Prefix],
        nums: int | Sequence[int],
        sampling: Sampling,
        generator: torch.Generator | None = None,
    ) -> list[list[Completion]]:
        """Draw ``nums[b]`` completions for prefix b (or as many for each), with their log-probs taken on the way."""

    @abstractmethod
    def logprobs(
        self, prefixes: Sequence[Prefix], ids: Tensor, mask: Tensor, group: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Score completions: [N, T] nats in fp32, 0 on padding; row i follows ``prefixes[group[i]]``."""

    @abstractmethod
    def logprobs_and_entropy(
        self, prefixes: Sequence[Prefix], ids: Tensor, mask: Tensor, group: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """:meth:`logprobs`, and [N, T] entropy in nats of the distribution of each token, without gradient."""

    @abstractmethod
    def checkpoint_gradients(self) -> None:
        """Compute activations of the text model again in the backward pass, in place of keeping them."""

    @abstractmethod
    def tokenize_completion(self, text: str) -> Tensor:
        """[T] ids of a completion that ends as the model should end it."""

    def freeze_towers(self, frozen: bool = True) -> None:
        """Switch the gradients of the towers off or on; encoded media are kept only while they are off.

        With LoRA their own weights stay off, and what LoRA put into them stays on.

        Raises:
            ConfigError: They shall learn, but LoRA is in none of their layers.
        """
        if not self.has_lora:
            for tower in self.towers():
                tower.requires_grad_(not frozen)
        elif not frozen and self.towers_frozen:
            raise ConfigError(
                "the towers cannot learn: with policy.lora only what it adds is trained, and policy.lora.targets names "
                "no layer of theirs; name some, or set policy.freeze_towers to true"
            )

    @property
    def towers_frozen(self) -> bool:
        """Whether the towers give the same for good: no parameter of theirs takes gradients, and LoRA is in none."""
        named = (item for tower in self.towers() for item in tower.named_parameters())
        return not any(parameter.requires_grad or is_lora(name) for name, parameter in named)

    def add_lora(self, lora: LoRA) -> None:
        """Freeze all weights and put trained matrices of low rank beside some, see :func:`inject`.

        Raises:
            ConfigError: The targets match nothing, or a layer that cannot be adapted.
        """
        inject(self.model, lora)

    @property
    def has_lora(self) -> bool:
        """Whether :meth:`add_lora` was called."""
        return bool(lora_layers(self.model))

    @contextmanager
    def without_lora(self) -> Iterator[None]:
        """Inside, all verbs are those of the model without LoRA."""
        with switched_off(self.model):
            yield

    def fingerprint(self) -> str:
        """A hash of all weights but those of LoRA, see :func:`fingerprint`."""
        return fingerprint([self])

    def tower_fingerprint(self) -> str:
        """A hash of the towers' weights but those of LoRA: models that share it encode clips the same without it."""
        return fingerprint(self.towers())


@torch.no_grad()
def fingerprint(modules: Sequence[nn.Module], lora: bool = False) -> str:
    """A hash of names, shapes and up to 1,024 evenly spaced values of each parameter; LoRA is passed over, or not."""
    digest = hashlib.sha256()
    for module in modules:
        named = {base_name(name): p for name, p in module.named_parameters() if lora or not is_lora(name)}
        for name, parameter in sorted(named.items()):
            flat = parameter.detach().flatten()
            sample = flat[:: max(1, flat.numel() // 1024)][:1024].float().cpu().contiguous()
            digest.update(f"{name} {tuple(parameter.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


MODELS: Registry[type[ModelAdapter]] = Registry("model type", "models")


def load_adapter(path: str, dtype: str, attn_implementation: str, cache_mb: int) -> ModelAdapter:
    """The adapter for whatever model lies at ``path`` (a folder or a hub id), chosen by its ``model_type``.

    Args:
        path: Folder or hub id.
        dtype: Of the weights: ``float32``, ``bfloat16``, or ``auto`` for the checkpoint's own.
        attn_implementation: As transformers names it.
        cache_mb: Bound of the store of encoded clips, in MB; it is used only while the towers are frozen.

    Raises:
        CheckpointError: There is no model at ``path``, or it cannot be read.
        UnknownNameError: No adapter for its model type.
    """
    return _adapter_class(path).from_pretrained(path, dtype, attn_implementation, cache_mb)


def _adapter_class(path: str) -> type[ModelAdapter]:
    try:
        model_type = AutoConfig.from_pretrained(path).model_type
    except (OSError, ValueError) as error:
        hint = "" if Path(path).is_dir() else " No such folder here, and it is not in the hub cache either."
        raise CheckpointError(f"no model at {path!r}.{hint} ({str(error).splitlines()[0]})") from None
    return MODELS[model_type]


def pack_skeleton(adapter: ModelAdapter) -> dict[str, Tensor]:
    """Configuration and processor as files of bytes, to lie in a checkpoint: name -> [size] uint8."""
    with tempfile.TemporaryDirectory() as folder:
        adapter.save_skeleton(folder)
        return {p.name: torch.frombuffer(bytearray(p.read_bytes()), dtype=torch.uint8) for p in Path(folder).iterdir()}


def load_skeleton(files: dict[str, Tensor], dtype: str, attn_implementation: str, cache_mb: int) -> ModelAdapter:
    """The adapter that :func:`pack_skeleton` packed, with weights yet to be loaded; needs no other file.

    Raises:
        CheckpointError: A name leads out of the folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise CheckpointError(f"the checkpoint holds a file with a path in its name: {name!r}")
            (Path(folder) / name).write_bytes(content.numpy().tobytes())
        return _adapter_class(folder).from_skeleton(folder, dtype, attn_implementation, cache_mb)
