"""A Qwen2.5-Omni thinker small enough for two CPU cores, with random weights and a tokenizer of its own.

Everything else about it is real: the classes are those of the 7B, the folder is written by ``save_pretrained`` and read
by the same adapter that reads ``Qwen/Qwen2.5-Omni-7B``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    WhisperFeatureExtractor,
)

SPECIAL_TOKENS = {
    "pad_token": "<|endoftext|>",
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif part.type == 'image' %}<|vision_bos|><|IMAGE|><|vision_eos|>"
    "{% elif part.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(corpus: Iterable[str], vocab_size: int = 400) -> Qwen2TokenizerFast:
    """Train a byte-level BPE with Qwen's special tokens on ``corpus``; any text can be encoded with it.

    Args:
        corpus: Sentences of the language that the model will speak.
        vocab_size: Size of the vocabulary, special tokens included; at least 256 bytes plus the special tokens.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    return Qwen2TokenizerFast(
        tokenizer_object=bpe,
        unk_token=None,
        extra_special_tokens={
            k: v for k, v in SPECIAL_TOKENS.items() if k not in ("pad_token", "bos_token", "eos_token")
        },
        **{k: SPECIAL_TOKENS[k] for k in ("pad_token", "bos_token", "eos_token")},
    )


def build_processor(tokenizer: Qwen2TokenizerFast, num_mel_bins: int = 32) -> Qwen2_5OmniProcessor:
    """The Qwen2.5-Omni processor around ``tokenizer``, for frames of any size and 16 kHz audio."""
    size = {"shortest_edge": 28 * 28, "longest_edge": 768 * 28 * 28}
    vision = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(**vision),
        video_processor=Qwen2VLVideoProcessor(**vision),
        feature_extractor=WhisperFeatureExtractor(feature_size=num_mel_bins, chunk_length=300),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def build_config(
    tokenizer: Qwen2TokenizerFast,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_mel_bins: int = 32,
    seconds_per_chunk: int = 1,
    vocab_size: int | None = None,
) -> Qwen2_5OmniThinkerConfig:
    """Sub-configs of the thinker at ``hidden_size``; heads of 16, grouped-query attention, one layer per tower.

    Embeddings and head have ``vocab_size`` entries, by default as many as the tokenizer.
    """
    token = tokenizer.convert_tokens_to_ids
    return Qwen2_5OmniThinkerConfig(
        text_config=_text_config(tokenizer, hidden_size, num_layers, vocab_size or len(tokenizer)),
        audio_config=_audio_config(hidden_size, num_mel_bins),
        vision_config=_vision_config(hidden_size),
        image_token_id=token("<|IMAGE|>"),
        audio_token_id=token("<|AUDIO|>"),
        video_token_id=token("<|VIDEO|>"),
        vision_start_token_id=token("<|vision_bos|>"),
        vision_end_token_id=token("<|vision_eos|>"),
        audio_start_token_id=token("<|audio_bos|>"),
        audio_end_token_id=token("<|audio_eos|>"),
        position_id_per_seconds=25,
        seconds_per_chunk=seconds_per_chunk,
        tie_word_embeddings=False,
    )


def _text_config(tokenizer: Qwen2TokenizerFast, hidden_size: int, num_layers: int, vocab_size: int) -> dict[str, Any]:
    heads = hidden_size // 16
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "initializer_range": 0.08,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _audio_config(hidden_size: int, num_mel_bins: int) -> dict[str, Any]:
    return {
        "d_model": hidden_size,
        "encoder_layers": 1,
        "encoder_attention_heads": hidden_size // 16,
        "encoder_ffn_dim": 4 * hidden_size,
        "num_mel_bins": num_mel_bins,
        "max_source_positions": 1500,
        "n_window": 50,
        "output_dim": hidden_size,
    }


def _vision_config(hidden_size: int) -> dict[str, Any]:
    return {
        "depth": 1,
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
        "num_heads": hidden_size // 16,
        "out_hidden_size": hidden_size,
        "fullatt_block_indexes": [0],
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
    }


def write_tiny_model(folder: str | Path, corpus: Iterable[str], seed: int = 0, **config: int) -> Path:
    """Write a random-init thinker, its tokenizer and its processor to ``folder``; the same seed, the same bytes.

    Args:
        folder: Where ``config.json``, ``model.safetensors`` and the processor's files go.
        corpus: Sentences that the tokenizer is trained on.
        seed: Of the weights. The global random state is left as it was.
        config: Passed to :func:`build_config`.
    """
    tokenizer = build_tokenizer(corpus)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5OmniThinkerForConditionalGeneration(build_config(tokenizer, **config))
    model.save_pretrained(folder)
    build_processor(tokenizer, model.config.audio_config.num_mel_bins).save_pretrained(folder)
    return Path(folder)
