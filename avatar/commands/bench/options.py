"""Options of ``avatar bench step``, and what is wrong with some."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from avatar.errors import ConfigError

LEAST_PROMPT = 64  # half of it is a clip, and a second of sound alone is 25 tokens
LEAST_VOCABULARY = 400  # what the tokenizer has


@dataclass(frozen=True)
class StepOptions:
    """What ``avatar bench step`` is asked to measure.

    Attributes:
        prompt_tokens: Of the prompt; in ours about half of them are of a clip with sound.
        num_generations: Completions that are trained on in a step.
        completion_tokens: Of each.
        replayed: How many of the completions come from our replay buffer; TRL generates all of them.
        hidden_size: Of the small model.
        num_layers: Of its language model.
        vocab_size: Of its head.
        beta: Weight of the KL term; 0 is without a reference.
        steps: Timed steps of each.
        warmup: Steps of each before them.
        peer: ``trl``; ``auto`` is TRL where it is installed; ``none`` is ours alone.
        size: ``small``, or ``7b``: the Qwen2.5-Omni-7B thinker with random weights.
        dtype: Of the weights.
        lora_r: Rank of LoRA on the language model; 0 trains all weights but those of the towers.
        gradient_checkpointing: Compute activations again in the backward pass, in place of keeping them.
        device: ``cpu`` or ``cuda``; ``auto`` is CUDA where there is a device.
        threads: Of torch on the CPU; 0 is as many as it takes by itself.
        json: File to write the figures to.

    Raises:
        ConfigError: A value makes no sense.
    """

    prompt_tokens: int = 512
    num_generations: int = 8
    completion_tokens: int = 64
    replayed: int = 0
    hidden_size: int = 256
    num_layers: int = 4
    vocab_size: int = 2048
    beta: float = 0.04
    steps: int = 7
    warmup: int = 2
    peer: Literal["auto", "trl", "none"] = "auto"
    size: Literal["small", "7b"] = "small"
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora_r: int = 0
    gradient_checkpointing: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    json: str | None = None

    def __post_init__(self) -> None:
        self._check_least()
        if self.hidden_size % 32:
            raise ConfigError(f"--hidden_size must be a multiple of 32 (heads of 16, in pairs), got {self.hidden_size}")
        fresh = self.num_generations - self.replayed
        if fresh < 2:
            raise ConfigError(
                f"--replayed {self.replayed} of --num_generations {self.num_generations} leaves {fresh} to generate; "
                "at least 2 are needed for a group to have any spread"
            )
        if self.warmup * fresh < self.replayed:
            raise ConfigError(
                f"--warmup {self.warmup} must be at least {-(-self.replayed // fresh)}: each step stores {fresh} "
                f"completions, and --replayed asks for {self.replayed} of them from the first timed step on"
            )
        self._check_surroundings()

    def _check_least(self) -> None:
        least = {"completion_tokens": 1, "replayed": 0, "num_layers": 1, "beta": 0, "steps": 1, "warmup": 0}
        least |= {"hidden_size": 32, "num_generations": 2, "lora_r": 0, "threads": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ConfigError(f"--{name} must be at least {bound}, got {getattr(self, name)}")
        if self.prompt_tokens < LEAST_PROMPT:
            raise ConfigError(
                f"--prompt_tokens must be at least {LEAST_PROMPT}, so that half of it holds one second of picture and "
                f"sound, got {self.prompt_tokens}"
            )
        if self.vocab_size < LEAST_VOCABULARY:
            raise ConfigError(
                f"--vocab_size must be at least {LEAST_VOCABULARY}, as many as the tokenizer has, got {self.vocab_size}"
            )

    def _check_surroundings(self) -> None:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("--device cuda: torch finds no CUDA device here; take --device cpu")
        if self.peer == "trl" and not trl_is_installed():
            raise ConfigError("--peer trl: TRL is not installed; pip install 'avatar-rl[bench]'")
        if self.json and not Path(self.json).parent.is_dir():
            raise ConfigError(f"--json {self.json}: there is no folder {Path(self.json).parent}")

    @property
    def resolved_device(self) -> str:
        """``cpu`` or ``cuda``."""
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device

    @property
    def with_peer(self) -> bool:
        """Whether TRL is measured too."""
        return self.peer == "trl" or (self.peer == "auto" and trl_is_installed())


def trl_is_installed() -> bool:
    """Whether ``import trl`` would find something."""
    return find_spec("trl") is not None
