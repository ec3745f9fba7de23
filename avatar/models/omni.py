"""The Qwen2.5-Omni thinker, of any size, behind the three verbs of :class:`ModelAdapter`.

Shapes: B prompts, N completions, P prompt tokens (padded left), T completion tokens (padded right), H hidden,
V vocabulary.
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
from transformers import AutoConfig, AutoProcessor, DynamicCache, Qwen2_5OmniThinkerForConditionalGeneration
from transformers.initialization import no_init_weights

from avatar.cache import ByteCache
from avatar.errors import CheckpointError, DataError
from avatar.models.base import MODELS, MediaLimits, ModelAdapter, Prefix
from avatar.models.clips import ClipEncoder, EncodedClip
from avatar.models.lora import merged_weights
from avatar.types import Clip, Completion, Prompt, Sampling


@MODELS.register("qwen2_5_omni")
@MODELS.register("qwen2_5_omni_thinker")
class OmniAdapter(ModelAdapter):
    """Adapter for ``Qwen2_5OmniThinkerForConditionalGeneration``.

    Args:
        model: The thinker.
        processor: Its processor, tokenizer included.
        limits: Pixels of a frame, and how much of the encoded clips to hold.
    """

    def __init__(
        self, model: Qwen2_5OmniThinkerForConditionalGeneration, processor: Any, limits: MediaLimits | None = None
    ) -> None:
        super().__init__()
        self.model, self.processor, self.limits = model, processor, limits or MediaLimits()
        self.clips = ClipEncoder(model, processor, self.limits)
        self.layouts = ByteCache(64 * 2**20)  # token ids and positions by text and clips: weights play no part in them
        tokenizer, config = processor.tokenizer, model.config
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = tokenizer.pad_token_id
        self.stop_ids = torch.tensor(sorted({self.eos_id, self.pad_id}))
        media = ["image_token_id", "audio_token_id", "video_token_id", "vision_start_token_id", "audio_start_token_id"]
        self.media_ids = torch.tensor([getattr(config, name) for name in media])

    @classmethod
    def from_pretrained(cls, path: str, dtype: str, attn_implementation: str, limits: MediaLimits) -> OmniAdapter:
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
        return cls(model, processor, limits)

    @classmethod
    def from_skeleton(cls, folder: str, dtype: str, attn_implementation: str, limits: MediaLimits) -> OmniAdapter:
        """A thinker whose weights a checkpoint will set."""
        config = AutoConfig.from_pretrained(folder)
        config._attn_implementation = attn_implementation
        chosen = config.dtype if dtype == "auto" else getattr(torch, dtype)
        with no_init_weights():
            model = Qwen2_5OmniThinkerForConditionalGeneration(config).to(chosen)
        return cls(model, AutoProcessor.from_pretrained(folder), limits)

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
        """Placeholders of sound and picture."""
        return {"audio": self.model.config.audio_token_id, "video": self.model.config.video_token_id}

    def vocabulary_fingerprint(self) -> str:
        """Of the tokenizer, added tokens included."""
        tokens = sorted(self.processor.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]

    def towers(self) -> list[nn.Module]:
        """Vision and audio encoder."""
        return [self.model.model.visual, self.model.model.audio_tower]

    # -- encode ------------------------------------------------------------------------------------------------------

    def tower_features(self, clips: Sequence[Clip]) -> list[tuple[Tensor, Tensor]]:
        """(video [tokens, H], audio [tokens, H]) of each clip, all clips in one pass through each tower."""
        return [(encoded.video, encoded.audio) for encoded in self.clips(clips, self.towers_frozen)]

    def encode(self, prompts: Sequence[Prompt]) -> list[Prefix]:
        """Tokens, positions and media features of each prompt.

        Raises:
            DataError: A prompt's placeholders and clips do not match.
        """
        encoded = iter(self.clips([clip for prompt in prompts for clip in prompt.clips], self.towers_frozen))
        return [self._prefix(prompt, [next(encoded) for _ in prompt.clips]) for prompt in prompts]

    def _prefix(self, prompt: Prompt, clips: list[EncodedClip]) -> Prefix:
        text = self.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
        key = (text, *(clip.key for clip in prompt.clips))
        layout = self.layouts.get(key)
        if layout is None:
            layout = self._layout(prompt.key, text, clips)
            self.layouts.put(key, layout, 32 * len(layout[0]))
        hidden = torch.zeros(0, self.model.config.text_config.hidden_size, dtype=self.model.dtype, device=self.device)
        return Prefix(
            ids=layout[0].to(self.device),
            position_ids=layout[1].to(self.device),
            video_features=torch.cat([hidden, *(c.video for c in clips)]),
            audio_features=torch.cat([hidden, *(c.audio for c in clips)]),
        )

    def _layout(self, key: str, text: str, clips: list[EncodedClip]) -> tuple[Tensor, Tensor]:
        """[P] ids and [3, P] positions of a prompt."""
        ids = _splice(self._tokenize(text), [c.ids for c in clips], self.model.config.video_token_id, key)
        sounding = [c.mel_frames for c in clips if c.mel_frames]
        if sounding and len(sounding) != len(clips):
            raise DataError(f"{key}: clips with and without sound in one prompt are not supported yet")
        if not clips:
            return ids, torch.arange(len(ids)).expand(3, -1)
        positions = self.model.get_rope_index(
            ids[None],
            video_grid_thw=torch.stack([c.grid for c in clips]),
            use_audio_in_video=bool(sounding),
            audio_seqlens=torch.tensor(sounding) if sounding else None,
            second_per_grids=torch.tensor([c.seconds_per_grid for c in clips]),
        )[0]
        return ids, positions[:, 0]

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
        """Draw completions for each prefix: one prefill a prompt, then all rows decoded together.

        Log-probs are those of the full vocabulary at the sampling temperature (at 1 when greedy), as :meth:`logprobs`
        gives them, whatever ``top_k`` is; it takes no part when greedy. Media tokens are never drawn.

        Args:
            prefixes: B encoded prompts.
            nums: [B] completions for each, 0 for none; or one number for all.
            sampling: How they are drawn.
            generator: Where chance comes from.

        Returns:
            [B][nums[b]] completions.
        """
        counts = [nums] * len(prefixes) if isinstance(nums, int) else list(nums)
        asked = [prefix for prefix, count in zip(prefixes, counts, strict=True) if count]
        if not asked:
            return [[] for _ in prefixes]
        embeds, positions, mask = self._stack_prefixes(asked)
        out = self._text(embeds, positions, mask, past_key_values=DynamicCache())
        repeats = torch.tensor([count for count in counts if count], device=mask.device)
        out.past_key_values.batch_repeat_interleave(repeats)
        mask = mask.repeat_interleave(repeats, 0)
        next_position = (positions.amax((0, 2)) + 1).repeat_interleave(repeats)  # [N]
        hidden = out.last_hidden_state[:, -1].repeat_interleave(repeats, 0)  # [N, H]
        columns = self._decode(hidden, next_position, mask, out.past_key_values, sampling, generator)
        truncates = bool(sampling.top_k and sampling.temperature)
        rows = iter([self._completion(i, p, d if truncates else None) for i, p, d in zip(*columns, strict=True)])
        return [list(islice(rows, count)) for count in counts]

    def _decode(
        self, hidden: Tensor, next_position: Tensor, mask: Tensor, cache: DynamicCache, sampling: Sampling,
        generator: torch.Generator | None,
    ) -> list[Tensor]:  # fmt: skip
        """[N, T] ids, full and drawn log-probs, on the CPU; a row's tokens after its stop token mean nothing."""
        drawn = []
        done = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
        for t in range(sampling.max_new_tokens):
            logprobs = self._vocabulary_logprobs(hidden, sampling.temperature or 1.0)  # [N, V]
            ids, drawn_logprobs = self._draw(logprobs, sampling, generator)
            drawn.append((ids, logprobs.gather(-1, ids[:, None])[:, 0], drawn_logprobs))
            done |= torch.isin(ids, self.stop_ids.to(ids.device))
            if done.all() or t + 1 == sampling.max_new_tokens:
                break
            mask = nn.functional.pad(mask, (0, 1), value=1)
            positions = (next_position + t).expand(3, -1)[..., None]  # [3, N, 1]
            embeds = self.model.get_input_embeddings()(ids[:, None])
            hidden = self._text(embeds, positions, mask, past_key_values=cache).last_hidden_state[:, -1]
        return [torch.stack(column, 1).cpu() for column in zip(*drawn, strict=True)]

    def _draw(self, logprobs: Tensor, sampling: Sampling, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """([N] ids, [N] their log-probs among the tokens that could be drawn)."""
        allowed = logprobs.index_fill(-1, self.media_ids.to(logprobs.device), -torch.inf)
        if sampling.temperature == 0:
            return allowed.argmax(-1), allowed.new_zeros(len(allowed))
        if sampling.top_k:
            top = allowed.topk(min(sampling.top_k, allowed.shape[-1]), -1)
            allowed = torch.full_like(allowed, -torch.inf).scatter(-1, top.indices, top.values)
        chances = allowed.softmax(-1)
        ids = torch.multinomial(chances, 1, generator=generator)
        return ids[:, 0], chances.gather(-1, ids)[:, 0].log()

    def _completion(self, ids: Tensor, logprobs: Tensor, truncated: Tensor | None) -> Completion:
        stops = torch.isin(ids, self.stop_ids).nonzero()
        end = int(stops[0]) + 1 if len(stops) else len(ids)
        return Completion(
            ids=ids[:end].clone(),
            behaviour_logprobs=logprobs[:end].clone(),
            text=self.processor.tokenizer.decode(ids[:end], skip_special_tokens=True),
            finished=bool(len(stops)),
            truncated_logprobs=None if truncated is None else truncated[:end].clone(),
        )

    # -- logprobs ----------------------------------------------------------------------------------------------------

    def logprobs(
        self, prefixes: Sequence[Prefix], ids: Tensor, mask: Tensor, group: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Log-probability of each completion token given its prompt and the tokens before it.

        Args:
            prefixes: B encoded prompts.
            ids: [N, T] completion tokens, padded at the end.
            mask: [N, T] bool.
            group: [N], which prefix each completion follows.
            temperature: Divides the logits, as it did when the completions were drawn.

        Returns:
            [N, T] nats in fp32, 0 on padding.
        """
        embeds, positions, prefix_mask = self._stack_prefixes([prefixes[g] for g in group.tolist()])
        start, length = embeds.shape[1], ids.shape[1]
        after = positions.amax((0, 2))[:, None] + 1 + torch.arange(length, device=ids.device)  # [N, T]
        hidden = self._text(
            torch.cat([embeds, self.model.get_input_embeddings()(ids)], 1)[:, :-1],
            torch.cat([positions, after.expand(3, -1, -1)], -1)[..., :-1],
            torch.cat([prefix_mask, mask.long()], 1)[:, :-1],
            use_cache=False,
        ).last_hidden_state[:, start - 1 :]  # [N, T, H]
        logprobs = self._vocabulary_logprobs(hidden[mask], temperature)  # [real tokens, V]
        chosen = logprobs.gather(-1, ids[mask][:, None])[:, 0]
        return torch.zeros(ids.shape, device=ids.device).masked_scatter(mask, chosen)

    # -- shared ------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def _text(self, embeds: Tensor, positions: Tensor, mask: Tensor, **kwargs: Any) -> Any:
        return self.model.model.language_model(
            inputs_embeds=embeds, position_ids=positions, attention_mask=mask, **kwargs
        )

    def _vocabulary_logprobs(self, hidden: Tensor, temperature: float) -> Tensor:
        return torch.log_softmax(self.model.lm_head(hidden).float() / temperature, -1)

    def _stack_prefixes(self, prefixes: Sequence[Prefix]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings [B, P, H], positions [3, B, P] and mask [B, P], padded on the left."""
        longest = max(len(p.ids) for p in prefixes)
        pads = [longest - len(p.ids) for p in prefixes]
        pad = nn.functional.pad
        ids = torch.stack([pad(p.ids, (n, 0), value=self.pad_id) for p, n in zip(prefixes, pads, strict=True)])
        positions = torch.stack([pad(p.position_ids, (n, 0)) for p, n in zip(prefixes, pads, strict=True)], 1)
        mask = torch.stack([pad(torch.ones_like(p.ids), (n, 0)) for p, n in zip(prefixes, pads, strict=True)])
        embeds = self.model.get_input_embeddings()(ids)
        for name, features in (
            ("video", [p.video_features for p in prefixes]),
            ("audio", [p.audio_features for p in prefixes]),
        ):
            here = ids == getattr(self.model.config, f"{name}_token_id")
            embeds = embeds.masked_scatter(here[..., None], torch.cat(features).to(embeds.dtype))
        return embeds, positions, mask


def _splice(ids: Tensor, snippets: list[Tensor], placeholder: int, key: str) -> Tensor:
    """Put each clip's tokens in the place of its ``<bos> placeholder <eos>``."""
    at = (ids == placeholder).nonzero()[:, 0].tolist()
    if len(at) != len(snippets):
        raise DataError(f"{key}: the messages have {len(at)} video placeholders for {len(snippets)} clips")
    parts, end = [], 0
    for position, snippet in zip(at, snippets, strict=True):
        parts += [ids[end : position - 1], snippet]
        end = position + 2
    return torch.cat([*parts, ids[end:]])
