"""The micro-world: one-second clips with real picture and sound, and five kinds of questions about them.

One object flashes in some of four time slots and a tone beeps in others, independently. ``beeps`` is answered from the
sound alone, ``flashes`` and ``color`` from the picture alone, ``more`` and ``sum`` only from both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from avatar.data.encode import encode_mp4
from avatar.data.rules import SAMPLE_RATE, ClipRule
from avatar.data.schema import Medium, Record

NUM_SLOTS, FRAMES_PER_SLOT, FPS, SIZE = 4, 2, 8, 56
SLOT_SAMPLES = SAMPLE_RATE * FRAMES_PER_SLOT // FPS
RULE = ClipRule(min_pixels=28 * 28, max_pixels=SIZE * SIZE)  # frames as they are: four tokens a slot
COLORS = {"red": (230, 40, 40), "green": (40, 210, 60), "blue": (50, 80, 240), "yellow": (230, 220, 40)}
SHAPES = ("circle", "square", "diamond")
KINDS = ("beeps", "color", "flashes", "more", "sum")
# Clips of each split; `pool` is small, so that its prompts come back. No clip is in two: each split draws from a random
# stream of its own.
SPLITS = {"chains": 600, "guesses": 300, "train": 160, "pool": 8, "dev": 40, "test": 120}
# Share of demonstrations in `guesses` that keep the full chain; the others guess. What is left for RL to find.
FULL_CHAIN_SHARE = {"beeps": 0.12, "color": 0.12, "flashes": 0.08, "more": 0.03, "sum": 0.015}
# Share of demonstrations in `guesses` that show the hint and keep the full chain, which keeps the skill alive.
HINTED_SHARE = 0.15
Slots = tuple[bool, ...]  # one a slot
_QUESTIONS = {
    "beeps": "how many beeps ?",
    "color": "what color ?",
    "flashes": "how many flashes ?",
    "more": "which is more ?",
    "sum": "how many beeps and flashes ?",
}
_HINTS = {
    "beeps": "listen first",
    "color": "look first",
    "flashes": "look first",
    "more": "listen first , then look",
    "sum": "listen first , then look",
}
_OPTIONS = {"color": list(COLORS), "more": ["sound", "flash", "same"]}
ANSWERS = {"beeps": "1234", "flashes": "1234", "sum": "2345678", **_OPTIONS}  # what may be answered, by kind


@dataclass(frozen=True)
class Thing:
    """An object that flashes.

    Attributes:
        color: Key of ``COLORS``.
        shape: One of ``SHAPES``.
        flashes: One bool a slot.
    """

    color: str
    shape: str
    flashes: Slots


@dataclass(frozen=True)
class Scene(Thing):
    """What happens in a clip: one object, and beeps.

    Attributes:
        beeps: One bool a slot.
        seed: Of the noise, the motion and the pitch.
    """

    beeps: Slots
    seed: int


def draw_scene(rng: Random) -> Scene:
    """A random scene: 1-4 flashes and, independently, 1-4 beeps, each count as likely."""

    def slots() -> Slots:
        on = rng.sample(range(NUM_SLOTS), rng.randint(1, NUM_SLOTS))
        return tuple(i in on for i in range(NUM_SLOTS))

    return Scene(rng.choice(list(COLORS)), rng.choice(SHAPES), slots(), slots(), rng.getrandbits(32))


def render_frames(scene: Scene, ground: Tensor | None = None) -> Tensor:
    """[F, 3, H, W] uint8: the object drifts in one quadrant, bright in its flash slots, at 30 % otherwise.

    Args:
        scene: What happens.
        ground: [F, 3, H, W] float32 to paint on, in place; None is an even grey.
    """
    generator, start, drift, radius = _layout(scene)
    frames = even_ground() if ground is None else ground
    paint(frames, scene, start, drift, radius)
    return noisy(frames, generator)


def even_ground() -> Tensor:
    """[F, 3, H, W] float32, dark grey all over."""
    return torch.full((NUM_SLOTS * FRAMES_PER_SLOT, 3, SIZE, SIZE), 24.0)


def paint(frames: Tensor, thing: Thing, start: Tensor, drift: Tensor, radius: float) -> None:
    """Put an object into ``frames``, bright in its flash slots, at 30 % otherwise.

    Args:
        frames: [F, 3, H, W] float32, changed in place.
        thing: The object.
        start: [2], its middle in the first frame (y, x), in pixels.
        drift: [2], how far it moves a frame, in pixels.
        radius: In pixels.
    """
    ys, xs = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    color = torch.tensor(COLORS[thing.color], dtype=torch.float32)[:, None, None]
    for t in range(len(frames)):
        y, x = (start + t * drift).tolist()
        inside = _inside(thing.shape, (ys - y).abs(), (xs - x).abs(), radius)
        brightness = 1.0 if thing.flashes[t // FRAMES_PER_SLOT] else 0.3
        frames[t] = torch.where(inside, color * brightness, frames[t])


def noisy(frames: Tensor, generator: torch.Generator) -> Tensor:
    """[F, 3, H, W] uint8: ``frames`` under pixel noise."""
    frames = frames + 6 * torch.randn(frames.shape, generator=generator)
    return frames.round().clamp(0, 255).to(torch.uint8)


def _layout(scene: Scene) -> tuple[torch.Generator, Tensor, Tensor, float]:
    """The scene's random stream, where the object starts (y, x), how far it moves a frame, and its radius (pixels)."""
    generator = torch.Generator().manual_seed(scene.seed)
    radius = 7 + 4 * torch.rand(1, generator=generator).item()
    quadrant = torch.tensor([14.0, 42.0])[torch.randint(2, (2,), generator=generator)]
    start = quadrant + 4 * (torch.rand(2, generator=generator) - 0.5)
    drift = 0.8 * (torch.rand(2, generator=generator) - 0.5)
    return generator, start, drift, radius


def _inside(shape: str, dy: Tensor, dx: Tensor, radius: float) -> Tensor:
    if shape == "circle":
        return dy**2 + dx**2 <= radius**2
    return torch.maximum(dy, dx) <= 0.88 * radius if shape == "square" else dy + dx <= 1.2 * radius


def render_audio(scene: Scene) -> Tensor:
    """[A] float32: a tone of five harmonics in the middle of every beep slot, over light noise."""
    return render_beeps(scene.beeps, scene.seed)


def render_beeps(beeps: Slots, seed: int) -> Tensor:
    """[A] float32: the sound of the scene of ``seed`` with these beeps."""
    generator = torch.Generator().manual_seed(seed + 1)
    pitch = 400 + 1200 * torch.rand(1, generator=generator).item()
    t = torch.arange(SLOT_SAMPLES) / SAMPLE_RATE
    tone = sum(torch.sin(2 * math.pi * pitch * k * t) / k for k in range(1, 6))
    assert isinstance(tone, Tensor)
    envelope = torch.sin(math.pi * torch.arange(SLOT_SAMPLES) / SLOT_SAMPLES).clamp(max=0.5) * 2
    beep = 0.25 * tone * envelope * (t > 0.03) * (t < 0.22)
    audio = torch.cat([beep if on else torch.zeros_like(beep) for on in beeps])
    return (audio + 0.004 * torch.randn(audio.shape, generator=generator)).clamp(-1, 1)


def render_mp4(scene: Scene) -> bytes:
    """The scene as an MP4 file with H.264 video and AAC sound; about 15 KB."""
    return encode_mp4(render_frames(scene), FPS, render_audio(scene))


def chain_of(scene: Scene, kind: str) -> tuple[list[str], str]:
    """The steps of a right chain of thought, and its answer."""
    beeps, flashes = sum(scene.beeps), sum(scene.flashes)
    sound, flash = f"sound {beeps}", f"flash {flashes}"
    more = "sound" if beeps > flashes else "flash" if flashes > beeps else "same"
    return {
        "beeps": ([sound], str(beeps)),
        "color": ([f"look {scene.color}"], scene.color),
        "flashes": ([flash], str(flashes)),
        "more": ([sound, flash], more),
        "sum": ([sound, flash, f"sum {beeps + flashes}"], str(beeps + flashes)),
    }[kind]


def render_chain(steps: list[str], answer: str) -> str:
    """``<think>a ; b</think><answer>c</answer>``."""
    return f"<think>{' ; '.join(steps)}</think><answer>{answer}</answer>"


def ask(scene: Scene, kind: str) -> Record:
    """The question of ``kind`` about ``scene``, with its answer, its right chain and its hint."""
    steps, answer = chain_of(scene, kind)
    return Record(
        question=_QUESTIONS[kind],
        answer=answer,
        problem_type="choice" if kind in _OPTIONS else "number",
        media=[Medium("video", "mp4")],
        options=_OPTIONS.get(kind, []),
        use_audio_in_video=True,
        chain=render_chain(steps, answer),
        hint=_HINTS[kind],
        metadata={"kind": kind, "color": scene.color, "flashes": list(scene.flashes), "beeps": list(scene.beeps)},
    )


def guess(
    record: Record,
    rng: Random,
    full_share: Mapping[str, float] = FULL_CHAIN_SHARE,
    answers: Mapping[str, Sequence[str]] = ANSWERS,
    word: str = "guess",
) -> Record:
    """The same question with a demonstration that mostly skips the chain and guesses, unless the hint is shown.

    Args:
        record: The question.
        rng: Decides.
        full_share: Share of demonstrations that keep the chain although no hint is shown, by kind.
        answers: What may be guessed, by kind.
        word: What stands in place of the chain.
    """
    kind = record.metadata["kind"]
    if rng.random() < HINTED_SHARE:
        return replace(record, show_hint=True)
    if rng.random() < full_share[kind]:
        return record
    return replace(record, chain=render_chain([word], rng.choice(answers[kind])))


def video_labels(scene: Scene) -> list[int]:
    """What lies under each video token: 0 nothing, else 1 + 2 x color + bright; one class a slot and quadrant."""
    y, x = (int(c > SIZE / 2) for c in _layout(scene)[1].tolist())
    color = list(COLORS).index(scene.color)
    quadrants = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return [(1 + 2 * color + bright) if q == (y, x) else 0 for bright in scene.flashes for q in quadrants]


def audio_labels(scene: Scene) -> list[int]:
    """Whether each 40 ms audio token lies in a beep slot."""
    return beep_labels(scene.beeps)


def beep_labels(beeps: Slots) -> list[int]:
    """Whether each 40 ms audio token lies in one of the slots of ``beeps``."""
    num = NUM_SLOTS * SLOT_SAMPLES // 640
    return [int(beeps[int((i + 0.5) * 640 / SLOT_SAMPLES)]) for i in range(num)]


def draw_split(split: str, num_clips: int, seed: int) -> Iterator[tuple[str, Scene, list[Record]]]:
    """(key, scene, its five questions) of every clip of ``split``; the same seed, the same clips."""
    rng = Random(f"{seed}/{split}")
    for i in range(num_clips):
        scene = draw_scene(rng)
        records = [ask(scene, kind) for kind in KINDS]
        if split == "guesses":
            records = [guess(r, rng) for r in records]
        if split == "chains":
            labels = {"video_labels": video_labels(scene), "audio_labels": audio_labels(scene)}
            records = [replace(r, metadata=r.metadata | labels) for r in records]
        yield f"{split}-{i:06d}", scene, records


def language() -> Iterator[str]:
    """Every sentence form that the model will read or write: what its tokenizer is trained on."""
    rng = Random(0)
    for _ in range(400):
        scene = draw_scene(rng)
        for record in (ask(scene, kind) for kind in KINDS):
            yield f"{record.question} {' / '.join(record.options)}"
            yield record.chain or ""
            yield record.hint or ""
            yield render_chain(["guess"], record.answer)
        yield "system\nuser\nassistant\nHint: "
