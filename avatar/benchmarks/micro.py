"""The held-out splits of the micro-worlds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avatar.benchmarks.base import BENCHMARKS, Benchmark
from avatar.benchmarks.question import Question
from avatar.benchmarks.recipe import Recipe
from avatar.data.dataset import PromptDataset
from avatar.data.micro import KINDS, RULE, SPLITS
from avatar.data.micro_stages import STAGE_SPLITS
from avatar.data.prepare import Swap
from avatar.data.prompts import PromptStyle
from avatar.data.schema import Medium
from avatar.types import Prompt


@BENCHMARKS.register("micro")
class Micro(Benchmark):
    """Five kinds of questions about one-second clips, see :mod:`avatar.data.micro`."""

    title = "micro-world"
    media_kinds = ("video",)
    groups = ("kind",)
    scorings = ("avatar",)
    source = "avatar data synth"
    num_records = SPLITS["test"] * len(KINDS)
    default_root = "data/micro/test"
    recipe = Recipe(  # as in training: without a system message, and with options on one line
        min_pixels=RULE.min_pixels,
        max_pixels=RULE.max_pixels,
        max_new_tokens=None,
        wording="plain",
        letter_options=False,
    )

    def prompts(self, root: Path | None, recipe: Recipe, swap: Swap | None = None) -> PromptDataset:
        """Shards of ``root``."""
        style = PromptStyle(recipe.system, recipe.letter_options)
        folder = root or Path(self.default_root)
        return PromptDataset([folder], style, recipe.rule(), swap=swap, modalities=recipe.modalities)

    def problem_type(self, qtype: str, options: Sequence[str]) -> str:
        """One of the options, or a text where there are none."""
        return "choice" if options else "exact"

    def question(self, prompt: Prompt) -> Question:
        """As the record has it."""
        kind = str(prompt.metadata.get("kind", prompt.problem_type))
        media = tuple(Medium(clip.kind, clip.key) for clip in prompt.clips)
        return Question(prompt.key, "", prompt.answer, prompt.problem_type, prompt.options, media, kind, {"kind": kind})


@BENCHMARKS.register("micro_vision")
class MicroVision(Micro):
    """What is seen: color and flashes, see :mod:`avatar.data.micro_stages`."""

    title = "micro, vision"
    source = "avatar data synth --world curriculum"
    num_records = STAGE_SPLITS["test_vision"].num_questions
    default_root = "data/curriculum/test_vision"


@BENCHMARKS.register("micro_audio_visual")
class MicroAudioVisual(Micro):
    """What is heard, and what needs picture and sound: beeps, more and sum."""

    title = "micro, audio-visual"
    source = "avatar data synth --world curriculum"
    num_records = STAGE_SPLITS["test_audio_visual"].num_questions
    default_root = "data/curriculum/test_audio_visual"


@BENCHMARKS.register("micro_localise")
class MicroLocalise(Micro):
    """Which of two objects makes the sound, and where it is, see :mod:`avatar.data.micro_pair`."""

    title = "micro, localise"
    source = "avatar data synth --world curriculum"
    num_records = STAGE_SPLITS["test_localise"].num_questions
    default_root = "data/curriculum/test_localise"
