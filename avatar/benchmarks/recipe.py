"""How a benchmark is asked: pinned with it, stamped with a hash, so that two figures can be told to be of one kind."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from avatar.data.modalities import MODALITIES, Modalities
from avatar.data.rules import ClipRule
from avatar.errors import ConfigError
from avatar.registry import did_you_mean

Wording = Literal["think", "direct", "plain"]

SYSTEMS: dict[str, str | None] = {
    "think": "Think about what you see and hear between <think> and </think>, then give the answer between <answer> "
    "and </answer>.",
    "direct": "Give the answer alone: the letter of the option, the number, or a few words.",
    "plain": None,
}


@dataclass(frozen=True)
class Recipe:
    """What a model is shown, and how long it may write. It writes greedily.

    Attributes:
        max_frames: Most frames of a video, spread evenly over what is shown of it.
        fps: Frames a second to take, as far as ``max_frames`` allows; None spreads ``max_frames`` over the whole.
        min_pixels: Smaller frames are scaled up to this.
        max_pixels: Larger frames are scaled down to this, each for itself.
        max_audio_seconds: Of a longer sound the beginning is heard, so many seconds, as in the reference processor;
            the result counts such clips.
        max_new_tokens: Length limit of a reply; None is that of the module.
        modalities: What of the media is shown: ``both``; ``video``, all pictures and no sound; ``audio``, the sound of
            videos too and no pictures; ``none``, the text alone.
        wording: ``think`` asks for ``<think>`` and ``<answer>``, as in training; ``direct`` for the answer alone;
            ``plain`` says nothing beside the question.
        letter_options: Show options as ``A. text``, one a line; else as ``text / text`` on one line.

    Raises:
        ConfigError: A value is out of range.
    """

    max_frames: int = 16
    fps: float | None = None
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 64 * 28 * 28
    max_audio_seconds: float = 300.0
    max_new_tokens: int | None = 1024
    modalities: Modalities = "both"
    wording: Wording = "think"
    letter_options: bool = True

    def __post_init__(self) -> None:
        if self.modalities not in MODALITIES:
            raise ConfigError(f"modalities must be one of {', '.join(MODALITIES)}, got {self.modalities!r}")
        if self.wording not in SYSTEMS:
            raise ConfigError(f"recipe.wording must be one of {', '.join(SYSTEMS)}, got {self.wording!r}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigError(f"recipe.max_new_tokens must be at least 1, got {self.max_new_tokens}")
        try:
            self.rule()
        except ConfigError as error:
            raise ConfigError(f"recipe.{str(error).removeprefix('data.')}") from None

    @property
    def system(self) -> str | None:
        """The system message."""
        return SYSTEMS[self.wording]

    def rule(self) -> ClipRule:
        """How media are decoded."""
        return ClipRule(
            self.max_frames,
            self.fps,
            self.min_pixels,
            self.max_pixels,
            max_audio_seconds=self.max_audio_seconds,
            max_decoded_mb=16_384,  # of films of hours, which are read whole
            time_limit=300.0,
        )

    def changed(self, **changes: object) -> Recipe:
        """The same with other values; what is None stays.

        Raises:
            ConfigError: There is no such setting, or a value is out of range.
        """
        known = {f.name for f in fields(self)}
        for name in changes:
            if name not in known:
                raise ConfigError(f"unknown setting recipe.{name}.{did_you_mean(name, sorted(known))}")
        return replace(self, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]

    def stamp(self, **more: object) -> str:
        """Eight hexadecimal digits that differ where any setting, or any of ``more``, does."""
        text = json.dumps([asdict(self), self.system, more], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]
