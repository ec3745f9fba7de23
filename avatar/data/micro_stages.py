"""The micro-world of the curriculum: clips with one object or two, and a split for each of its stages.

What is asked of a clip with one object falls into what is seen (``color``, ``flashes``) and what needs both streams
(``beeps``, ``more``, ``sum``); of a clip with two objects it is asked which of them makes the sound (``locate``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from avatar.data.encode import encode_mp4
from avatar.data.micro import (
    ANSWERS,
    COLORS,
    FPS,
    KINDS,
    Scene,
    ask,
    beep_labels,
    draw_scene,
    guess,
    language,
    render_beeps,
    render_chain,
    render_frames,
    video_labels,
)
from avatar.data.micro_pair import (
    HALVES,
    PairScene,
    ask_pair,
    draw_pair,
    locate_answer,
    pair_video_labels,
    render_pair_frames,
    two_grounds,
)
from avatar.data.schema import Record

VISION, AUDIO_VISUAL = ("color", "flashes"), ("beeps", "more", "sum")


@dataclass(frozen=True)
class Split:
    """What a split is made of.

    Attributes:
        clips: How many.
        pair_share: Share of them that show two objects.
        kinds: What is asked of a clip with one object. A clip with two has one question.
    """

    clips: int
    pair_share: float = 0.0
    kinds: tuple[str, ...] = KINDS

    @property
    def num_questions(self) -> int:
        """Of all its clips."""
        pairs = int(self.clips * self.pair_share)
        return pairs + (self.clips - pairs) * len(self.kinds)


# No clip is in two: each split draws from a random stream of its own.
STAGE_SPLITS = {
    "chains": Split(1500, pair_share=0.75),
    "guesses": Split(500, pair_share=0.6),
    "dev": Split(80, pair_share=0.5),
    "vision": Split(160, kinds=VISION),
    "audio_visual": Split(120, kinds=AUDIO_VISUAL),
    "localise": Split(320, pair_share=1.0),
    "dev_vision": Split(60, kinds=VISION),
    "dev_audio_visual": Split(40, kinds=AUDIO_VISUAL),
    "dev_localise": Split(120, pair_share=1.0),
    "test_vision": Split(160, kinds=VISION),
    "test_audio_visual": Split(110, kinds=AUDIO_VISUAL),
    "test_localise": Split(320, pair_share=1.0),
}
# Share of demonstrations in `guesses` that keep the full chain; what each stage is left to find.
STAGE_CHAIN_SHARE = {"beeps": 0.12, "color": 0.12, "flashes": 0.08, "more": 0.05, "sum": 0.05, "locate": 0.08}
# What a guess says in place of the chain: a word for each stage. With one for all, the first would unlearn it for all.
GUESS_WORDS = {**dict.fromkeys(VISION, "guess"), **dict.fromkeys(AUDIO_VISUAL, "maybe"), "locate": "somewhere"}
_ANSWERS = {**ANSWERS, "locate": [locate_answer(half, color) for half in HALVES for color in COLORS]}


def draw_stage_split(split: str, num_clips: int, seed: int) -> Iterator[tuple[str, Scene | PairScene, list[Record]]]:
    """(key, scene, its questions) of the first clips of ``split``; the same seed, the same clips."""
    rng, made = Random(f"curriculum/{seed}/{split}"), STAGE_SPLITS[split]
    for i in range(num_clips):
        is_pair = int((i + 1) * made.pair_share) > int(i * made.pair_share)
        scene = draw_pair(rng) if is_pair else draw_scene(rng)
        records = ask_stage(scene, made.kinds)
        if split == "guesses":
            records = [_guess(r, rng) for r in records]
        if split == "chains":
            records = [replace(r, metadata=r.metadata | _labels(scene)) for r in records]
        yield f"{split}-{i:06d}", scene, records


def _guess(record: Record, rng: Random) -> Record:
    return guess(record, rng, STAGE_CHAIN_SHARE, _ANSWERS, GUESS_WORDS[record.metadata["kind"]])


def ask_stage(scene: Scene | PairScene, kinds: tuple[str, ...] = KINDS) -> list[Record]:
    """The questions about ``scene``: of these kinds for one object, ``locate`` for two."""
    return [ask_pair(scene)] if isinstance(scene, PairScene) else [ask(scene, kind) for kind in kinds]


def _labels(scene: Scene | PairScene) -> dict[str, list[int]]:
    """What lies under each media token, for teaching the towers."""
    audio = beep_labels(scene.beeps)
    if isinstance(scene, PairScene):
        return {"video_labels": pair_video_labels(scene), "audio_labels": audio}
    # Tokens run through the quadrants row by row: every other one lies in the right half.
    sided = [c + 2 * len(COLORS) * (i % 2) if c else 0 for i, c in enumerate(video_labels(scene))]
    return {"video_labels": sided, "audio_labels": audio}


def render_stage_mp4(scene: Scene | PairScene) -> bytes:
    """The scene as an MP4 file with H.264 video and AAC sound; about 15 KB."""
    frames = render_pair_frames(scene) if isinstance(scene, PairScene) else render_frames(scene, two_grounds())
    return encode_mp4(frames, FPS, render_beeps(scene.beeps, scene.seed))


def stage_language() -> Iterator[str]:
    """Every sentence form that the model will read or write: what its tokenizer is trained on."""
    yield from language()
    rng = Random(0)
    for _ in range(400):
        record = ask_pair(draw_pair(rng))
        yield from (record.question, record.chain or "", record.hint or "")
        yield from (render_chain([word], record.answer) for word in sorted({*GUESS_WORDS.values()}))
