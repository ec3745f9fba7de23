"""The Qwen2.5-Omni thinker, of any size, behind the three verbs of :class:`ModelAdapter`.

Shapes: B prompts, N completions, P prompt tokens, T completion tokens (padded at the end), H hidden, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration
from transformers.initialization import no_init_weights

from avatar.cache import ByteCache
from avatar.errors import CheckpointError
from avatar.models.base import MODELS, ModelAdapter, Prefix
from avatar.models.clips import ClipEncoder, EncodedClip, content_key
from avatar.models.head import chosen_logprobs, chosen_logprobs_and_entropy, vocabulary_logprobs
from avatar.models.layout import Segment, lay_out
from avatar.models.lora import merged_weights
from avatar.models.plain import text_pass
from avatar.models.sampling import write
from avatar.models.text import Embedded
from avatar.models.threads import one_thread_if_small
from avatar.types import Clip, Completion, Prompt, Sampling


@MODELS.register("qwen2_5_omni")
@MODELS.register("qwen2_5_omni_thinker")
class OmniAdapter(ModelAdapter):
    """Adapter for ``Qwen2_5OmniThinkerForConditionalGeneration``.

    Args:
        model: The thinker.
        processor: Its processor, tokenizer included.
        cache_mb: Bound of the store of encoded clips, in MB.
    """

    def __init__(self, model: Qwen2_5OmniThinkerForConditionalGeneration, processor: Any, cache_mb: int = 512) -> None:
        super().__init__()
        self.model, self.processor = model, processor
        self.clips = ClipEncoder(model, processor, cache_mb)
        self.layouts = ByteCache(64 * 2**20)  # token ids and positions by text and clips: weights play no part in them
        tokenizer, config = processor.tokenizer, model.config
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = tokenizer.pad_token_id
        self.stop_ids = torch.tensor(sorted({self.eos_id, self.pad_id}))
        media = ["image_token_id", "audio_token_id", "video_token_id", "vision_start_token_id", "audio_start_token_id"]
        self.media_ids = torch.tensor([getattr(config, name) for name in media])
        self.text = text_pass(model.model.language_model)

    @classmethod
    def from_pretrained(cls, path: str, dtype: str, attn_implementation: str, cache_mb: int) -> OmniAdapter:
        """Load a thinker, or the thinker of a full Qwen2.5-Omni, from a folder or a hub id.

        Raises:
            CheckpointError: Weights are missing, do not fit, or the processor cannot be read.
        """
        try:
            model, info = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
                path,
                dtype=dtype,
                attn_implementation=attn_implementation,
                use_safetensors=True,
                output_loading_info=True,
            )
            processor = AutoProcessor.from_pretrained(path)
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: the model cannot be loaded ({str(error).splitlines()[0]})") from None
        if missing := sorted(info["missing_keys"]):
            raise CheckpointError(f"{path}: {len(missing)} weights are missing, the first is {missing[0]!r}")
        return cls(model, processor, cache_mb)

    @classmethod
    def from_skeleton(cls, folder: str, dtype: str, attn_implementation: str, cache_mb: int) -> OmniAdapter:
        """A thinker whose weights a checkpoint will set."""
        config = AutoConfig.from_pretrained(folder)
        config._attn_implementation = attn_implementation
        chosen = config.dtype if dtype == "auto" else getattr(torch, dtype)
        with no_init_weights():
            model = Qwen2_5OmniThinkerForConditionalGeneration(config).to(chosen)
        return cls(model, AutoProcessor.from_pretrained(folder), cache_mb)

    def save_skeleton(self, folder: str | Path) -> None:
        """Write config, tokenizer and processor."""
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write safetensors, config, tokenizer and processor; LoRA is merged into what is written."""
        self.model.save_pretrained(folder, state_dict=merged_weights(self.model) if self.has_lora else None)
        self.processor.save_pretrained(folder)

    @property
    def media_token_ids(self) -> dict[str, int]:
        """Placeholders of sound, of video and of still pictures."""
        return dict(self.clips.tokens.pieces)

    def vocabulary_fingerprint(self) -> str:
        """Of the tokenizer, added tokens included."""
        tokens = sorted(self.processor.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]

    def towers(self) -> list[nn.Module]:
        """Vision and audio encoder."""
        return [self.model.model.visual, self.model.model.audio_tower]

    # -- encode ------------------------------------------------------------------------------------------------------

    @property
    def tower_calls(self) -> dict[str, int]:
        """Counted by :class:`ClipEncoder`."""
        return dict(self.clips.counts)

    def hold_clips_in(self, store: ByteCache) -> None:
        """See :class:`ModelAdapter`."""
        self.clips.cache = store

    def tower_features(self, clips: Sequence[Clip]) -> list[dict[str, Tensor]]:
        """[tokens, H] of each clip by kind; while the towers learn, all in one pass through each."""
        return [encoded.features for encoded in self.clips(clips, self.towers_frozen)]

    def encode(self, prompts: Sequence[Prompt]) -> list[Prefix]:
        """Tokens, positions and media features of each prompt.

        Raises:
            DataError: A prompt's placeholders and clips do not match, or a clip has nothing to encode.
        """
        encoded = iter(self.clips([clip for prompt in prompts for clip in prompt.clips], self.towers_frozen))
        return [self._prefix(prompt, [next(encoded) for _ in prompt.clips]) for prompt in prompts]

    def _prefix(self, prompt: Prompt, clips: Sequence[EncodedClip]) -> Prefix:
        layout = self._layout(prompt, [clip.segment for clip in clips])
        by_kind = {kind: [c.features[kind] for c in clips if kind in c.features] for kind in self.media_token_ids}
        return Prefix(
            ids=layout.ids.to(self.device),
            position_ids=layout.position_ids.to(self.device),
            features={kind: torch.cat(features) for kind, features in by_kind.items() if features},
        )

    def _layout(self, prompt: Prompt, clips: Sequence[Segment]) -> Segment:
        """[P] ids and [3, P] positions of a prompt."""
        text = self.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
        key = (text, *(content_key(clip) for clip in prompt.clips))
        layout: Segment | None = self.layouts.get(key)
        if layout is None:
            layout = lay_out(self._tokenize(text), clips, self.media_token_ids, prompt.key)
            self.layouts.put(key, layout, 32 * len(layout.ids))
        return layout

    def _tokenize(self, text: str) -> Tensor:
        return self.processor.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids[0]

    def tokenize_completion(self, text: str) -> Tensor:
        """[T] ids of ``text`` and the end-of-sequence token."""
        return torch.cat([self._tokenize(text), torch.tensor([self.eos_id])])

    # -- generate ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        prefixes: Sequence[Prefix],
        nums: int | Sequence[int],
        sampling: Sampling,
        generator: torch.Generator | None = None,
    ) -> list[list[Completion]]:
        """Draw completions for each prefix: each prompt is read once, then all rows are decoded together.

        Log-probs are those of the full vocabulary at the sampling temperature (at 1 when greedy), as :meth:`logprobs`
        gives them, whatever ``top_k`` and ``top_p`` are; these take no part when greedy. Media tokens are never drawn.

        Args:
            prefixes: B encoded prompts.
            nums: [B] completions for each, 0 for none; or one number for all.
            sampling: How they are drawn.
            generator: Where chance comes from.

        Returns:
            [B][nums[b]] completions.
        """
        counts = [nums] * len(prefixes) if isinstance(nums, int) else list(nums)
        asked = [self._embed(prefix) for prefix, count in zip(prefixes, counts, strict=True) if count]
        if not asked:
            return [[] for _ in prefixes]
        weight, temperature = self._head_weight(), sampling.temperature or 1.0
        stop_ids, banned = self.stop_ids.to(self.device), self.media_ids.to(self.device)
        with self.text.writing():
            hidden, decoder = self.text.prefill(asked, [count for count in counts if count])
            product = hidden.numel() * self.model.config.text_config.intermediate_size
            with one_thread_if_small(product, self.device):
                columns = write(
                    hidden, decoder, lambda h: vocabulary_logprobs(h, weight, temperature), sampling, generator,
                    stop_ids=stop_ids, banned=banned,
                )  # fmt: skip
        rows = iter([self._completion(*row, sampling) for row in zip(*columns, strict=True)])
        return [list(islice(rows, count)) for count in counts]

    def _completion(self, ids: Tensor, logprobs: Tensor, truncated: Tensor, sampling: Sampling) -> Completion:
        stops = torch.isin(ids, self.stop_ids).nonzero()
        end = int(stops[0]) + 1 if len(stops) else len(ids)
        return Completion(
            ids=ids[:end].clone(),
            behaviour_logprobs=logprobs[:end].clone(),
            text=self.processor.tokenizer.decode(ids[:end], skip_special_tokens=True),
            finished=bool(len(stops)),
            truncated_logprobs=truncated[:end].clone() if sampling.truncates else None,
            sampling=sampling,
        )

    # -- logprobs ----------------------------------------------------------------------------------------------------

    def logprobs(
        self, prefixes: Sequence[Prefix], ids: Tensor, mask: Tensor, group: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Log-probability of each completion token given its prompt and the tokens before it.

        Logits are formed for completion tokens alone, some of the vocabulary at a time.

        Args:
            prefixes: B encoded prompts.
            ids: [N, T] completion tokens, padded at the end.
            mask: [N, T] bool.
            group: [N], which prefix each completion follows.
            temperature: Divides the logits, as it did when the completions were drawn.

        Returns:
            [N, T] nats in fp32, 0 on padding.
        """
        hidden = self._completion_hidden(prefixes, ids, mask, group)
        chosen = chosen_logprobs(hidden, self._head_weight(), ids[mask], temperature)
        return _unpack(chosen, mask)

    def logprobs_and_entropy(
        self, prefixes: Sequence[Prefix], ids: Tensor, mask: Tensor, group: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """:meth:`logprobs`, and [N, T] entropy in nats at that temperature, without gradient, from the same logits."""
        hidden = self._completion_hidden(prefixes, ids, mask, group)
        chosen, entropy = chosen_logprobs_and_entropy(hidden, self._head_weight(), ids[mask], temperature)
        return _unpack(chosen, mask), _unpack(entropy, mask)

    def _completion_hidden(self, prefixes: Sequence[Prefix], ids: Tensor, mask: Tensor, group: Tensor) -> Tensor:
        """[tokens, H], what tells each of ``ids[mask]``."""
        whose = group.tolist()
        prompts = {g: self._embed(prefixes[g]) for g in sorted(set(whose))}
        place = {g: i for i, g in enumerate(prompts)}
        return self.text.hidden(list(prompts.values()), ids, mask.sum(-1).tolist(), [place[g] for g in whose])

    def checkpoint_gradients(self) -> None:
        """Compute activations of the text model again in the backward pass, in place of keeping them."""
        text_model = self.model.model.language_model
        text_model.activation_checkpointing_enable({"use_reentrant": False})
        for layer in text_model.layers:
            layer.training = True  # transformers recomputes in training mode alone, in which a loaded model is not

    # -- shared ------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def _head_weight(self) -> Tensor:
        """[V, H], with what LoRA adds to it."""
        head = self.model.lm_head
        if not hasattr(head, "get_delta_weight") or head.disable_adapters:
            return head.weight
        return head.weight + head.get_delta_weight("default")

    def _embed(self, prefix: Prefix) -> Embedded:
        embeds = self.model.get_input_embeddings()(prefix.ids)
        for kind, features in prefix.features.items():
            here = prefix.ids == self.media_token_ids[kind]
            embeds = embeds.masked_scatter(here[:, None], features.to(embeds.dtype))
        return Embedded(embeds, prefix.position_ids)


def _unpack(values: Tensor, mask: Tensor) -> Tensor:
    """[N, T] of the values of real tokens, 0 on padding."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=mask.device).masked_scatter(mask, values)
