"""What both sides of ``avatar bench step`` are given: the same model in a folder, and prompts of the same length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from math import isqrt
from pathlib import Path

import torch
import transformers
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration, Qwen2TokenizerFast

from avatar.commands.bench.options import StepOptions
from avatar.data.micro import language
from avatar.data.rules import SAMPLE_RATE
from avatar.models.tiny import build_config, build_processor, build_tokenizer
from avatar.types import Clip, Message, Prompt

FPS = 2  # two frames make one patch in time, so a second of picture is one grid
AUDIO_TOKENS = 25  # of a second of sound
EDGES = 4  # tokens that open and close picture and sound
PLACEHOLDER = 3  # tokens that stand for a clip before it is laid out
LEARNING_RATE = 1e-6  # of AdamW on both sides
PATCH = 28  # pixels along the side of a video token


@dataclass(frozen=True)
class Job:
    """What a worker is told, on its command line.

    Attributes:
        options: Of the bench.
        folder: Where the model lies.
        question: Text of our prompt, beside its clip.
        text: TRL's prompt.
        seconds: Duration of the clip.
        side: Of its frames, in pixels.
    """

    options: StepOptions
    folder: str
    question: str
    text: str
    seconds: int
    side: int

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The same again."""
        fields = json.loads(text)
        return cls(**fields | {"options": StepOptions(**fields["options"])})

    @property
    def media_tokens(self) -> dict[str, int]:
        """Of the clip, by medium."""
        return {"video": self.seconds * (self.side // PATCH) ** 2, "audio": self.seconds * AUDIO_TOKENS}

    def prompt(self, step: int) -> Prompt:
        """The one question, about a clip that is new at every step, so that the towers have something to do."""
        generator = torch.Generator().manual_seed(step)
        frames = torch.randint(
            256, (FPS * self.seconds, 3, self.side, self.side), dtype=torch.uint8, generator=generator
        )
        audio = 0.1 * torch.randn(SAMPLE_RATE * self.seconds, generator=generator).clamp(-1, 1)
        clip = Clip(f"bench-{step}", frames, float(FPS), audio, SAMPLE_RATE)
        return Prompt("bench", messages(self.question), (clip,), answer="")


def write_job(options: StepOptions, folder: str | Path) -> Job:
    """Write the model to ``folder``, and size clip and texts so that both prompts have exactly ``prompt_tokens``."""
    tokenizer = build_tokenizer(language())
    config = config_7b(tokenizer) if options.size == "7b" else small_config(tokenizer, options)
    write_model(config, folder, options)
    processor = build_processor(tokenizer, config.audio_config.num_mel_bins)
    processor.save_pretrained(folder)
    seconds, side = clip_size(options.prompt_tokens // 2)
    job = Job(options, str(folder), "", filler(tokenizer, options.prompt_tokens), seconds, side)
    empty = processor.apply_chat_template(messages(""), add_generation_prompt=True, tokenize=False)
    taken = len(tokenizer(empty).input_ids) - PLACEHOLDER + EDGES + sum(job.media_tokens.values())
    return Job(**vars(job) | {"question": filler(tokenizer, options.prompt_tokens - taken)})


def messages(question: str) -> list[Message]:
    """A clip and a question about it."""
    return [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}]


def clip_size(tokens: int) -> tuple[int, int]:
    """(seconds, side of its frames in pixels) of a clip with sound that has ``tokens`` tokens or a few less."""
    seconds = max(1, tokens // 100)
    return seconds, PATCH * isqrt((tokens - EDGES) // seconds - AUDIO_TOKENS)


def filler(tokenizer: Qwen2TokenizerFast, num: int) -> str:
    """Words of exactly ``num`` tokens."""
    words = [f" {word}" for word in sorted({word for line in language() for word in line.split() if word.isalpha()})]
    words = [word for word in words if len(tokenizer(word).input_ids) == 1]
    return "".join(islice(cycle(words), num))


def reward_of(ids: Sequence[int]) -> float:
    """A reward as good as random, so that advantages are not 0: in 0..1, another for nearly any other ids."""
    return sum(i * token for i, token in enumerate(ids, 1)) % 997 / 996


# -- the model ---------------------------------------------------------------------------------------------------------


def small_config(tokenizer: Qwen2TokenizerFast, options: StepOptions) -> Qwen2_5OmniThinkerConfig:
    """The tiny thinker, larger; its head has more entries than the tokenizer."""
    return build_config(tokenizer, options.hidden_size, options.num_layers, vocab_size=options.vocab_size)


def config_7b(tokenizer: Qwen2TokenizerFast) -> Qwen2_5OmniThinkerConfig:
    """The thinker of Qwen2.5-Omni-7B as released, around our tokenizer; its vision tower differs from the default."""
    config = build_config(tokenizer)
    text = config.text_config
    released = {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": False,
        "bos_token_id": text.bos_token_id,
        "eos_token_id": text.eos_token_id,
        "pad_token_id": text.pad_token_id,
    }
    names = ["image", "audio", "video", "vision_start", "vision_end", "audio_start", "audio_end"]
    return Qwen2_5OmniThinkerConfig(
        text_config=released,
        audio_config={},
        vision_config={"hidden_size": 1280},
        position_id_per_seconds=25,
        seconds_per_chunk=2,
        tie_word_embeddings=False,
        **{f"{name}_token_id": getattr(config, f"{name}_token_id") for name in names},
    )


def write_model(config: Qwen2_5OmniThinkerConfig, folder: str | Path, options: StepOptions) -> None:
    """Random weights of seed 0, made where they are fastest made."""
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, options.dtype))
    try:
        with torch.device(options.resolved_device):
            Qwen2_5OmniThinkerForConditionalGeneration(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)
        torch.cuda.empty_cache()  # the workers need the room; nothing where CUDA was not used
