"""Clips of the micro-world with two objects, one in each half of the picture, of which one makes the sound.

Each object flashes in a pattern of its own; the tone beeps in exactly the slots in which one of the two flashes.
Neither the picture nor the sound tells which: both patterns must be seen and held against what is heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from random import Random

import torch
from torch import Tensor

from avatar.data.micro import COLORS, NUM_SLOTS, SHAPES, SIZE, Slots, Thing, even_ground, noisy, paint, render_chain
from avatar.data.schema import Medium, Record

HALVES = ("left", "right")
SILENT = "silent"  # what is said of the half whose object makes no sound
# Neither dark nor bright throughout: every object flashes 1 to 3 times.
PATTERNS: tuple[Slots, ...] = tuple(p for p in product((False, True), repeat=NUM_SLOTS) if 0 < sum(p) < NUM_SLOTS)
SAME_COUNT_SHARE = 0.5  # of the scenes in which both objects flash equally often, so that counting does not tell
RIGHT_GROUND = 64.0  # brightness of the ground's right half, where the left has 24: what tells the halves apart
NUM_VIDEO_CLASSES = 1 + 2 * len(COLORS) * len(HALVES)


@dataclass(frozen=True)
class PairScene:
    """What happens in a clip with two objects.

    Attributes:
        left: The object in the left half.
        right: The object in the right half, of another colour and another pattern.
        sounding: The half of the object that makes the sound.
        seed: Of the noise, the motion, the heights and the pitch.
    """

    left: Thing
    right: Thing
    sounding: str
    seed: int

    @property
    def things(self) -> dict[str, Thing]:
        """Both objects, by half."""
        return {"left": self.left, "right": self.right}

    @property
    def beeps(self) -> Slots:
        """One bool a slot: the flashes of the object that makes the sound."""
        return self.things[self.sounding].flashes


def draw_pair(rng: Random) -> PairScene:
    """A random scene: two colours, two patterns, and either half as likely to sound."""
    colors = rng.sample(list(COLORS), len(HALVES))
    first = rng.choice(PATTERNS)
    same_count = rng.random() < SAME_COUNT_SHARE
    second = rng.choice([p for p in PATTERNS if p != first and (sum(p) == sum(first)) == same_count])
    left, right = (Thing(c, rng.choice(SHAPES), p) for c, p in zip(colors, (first, second), strict=True))
    return PairScene(left, right, rng.choice(HALVES), rng.getrandbits(32))


def two_grounds() -> Tensor:
    """[F, 3, H, W] float32: a ground whose right half is lighter.

    Positions alone do not tell left from right: the text model's rotary frequencies of the width are its lowest, and
    the vision tower's are relative.
    """
    ground = even_ground()
    ground[..., SIZE // 2 :] = RIGHT_GROUND
    return ground


def render_pair_frames(scene: PairScene) -> Tensor:
    """[F, 3, H, W] uint8: each object drifts in a quadrant of its half, bright in its flash slots, else at 30 %."""
    generator, starts = _layout(scene)
    frames = two_grounds()
    for thing, start in zip(scene.things.values(), starts, strict=True):
        radius = 7 + 4 * torch.rand(1, generator=generator).item()
        drift = 0.8 * (torch.rand(2, generator=generator) - 0.5)
        paint(frames, thing, start, drift, radius)
    return noisy(frames, generator)


def _layout(scene: PairScene) -> tuple[torch.Generator, Tensor]:
    """The scene's random stream, and where the left and the right object start: [2, 2], (y, x) in pixels."""
    generator = torch.Generator().manual_seed(scene.seed)
    quarters = torch.tensor([SIZE / 4, 3 * SIZE / 4])
    heights = quarters[torch.randint(2, (2,), generator=generator)]
    return generator, torch.stack([heights, quarters], dim=1) + 4 * (torch.rand(2, 2, generator=generator) - 0.5)


def ask_pair(scene: PairScene) -> Record:
    """Where the sound comes from, with its answer, its right chain and its hint."""
    answer = locate_answer(scene.sounding, scene.things[scene.sounding].color)
    return Record(
        question="where is the sound ?",
        answer=answer,
        problem_type="location",
        media=[Medium("video", "mp4")],
        use_audio_in_video=True,
        chain=render_chain(pair_steps(scene), answer),
        hint="listen first , then look left and right",
        metadata={
            "kind": "locate",
            "color": [thing.color for thing in scene.things.values()],
            "flashes": [list(thing.flashes) for thing in scene.things.values()],
            "beeps": list(scene.beeps),
        },
    )


def locate_answer(half: str, color: str) -> str:
    """``Left: red | Right: silent``: the colour of what sounds stands at its place."""
    left, right = (color if half == h else SILENT for h in HALVES)
    return f"Left: {left} | Right: {right}"


def pair_steps(scene: PairScene) -> list[str]:
    """The steps of a right chain of thought: what is heard, what is seen on either side, and whether they agree."""
    steps = [f"hear {spell(scene.beeps)}"]
    for half, thing in scene.things.items():
        verdict = "same" if thing.flashes == scene.beeps else "other"
        steps.append(f"{half} {thing.color} {spell(thing.flashes)} {verdict}")
    return steps


def spell(slots: Slots) -> str:
    """``on off on on``: words, because a digit in a text is two tokens, its blank and itself."""
    return " ".join("on" if on else "off" for on in slots)


def pair_video_labels(scene: PairScene) -> list[int]:
    """What lies under each video token, one class a slot and quadrant: 0 nothing, else see :func:`class_of`."""
    tops = (_layout(scene)[1][:, 0] > SIZE / 2).int().tolist()
    labels = [[[0, 0], [0, 0]] for _ in range(NUM_SLOTS)]
    for x, (thing, y) in enumerate(zip(scene.things.values(), tops, strict=True)):
        for slot, bright in enumerate(thing.flashes):
            labels[slot][y][x] = class_of(thing.color, bright, x)
    return [label for slot in labels for row in slot for label in row]


def class_of(color: str, bright: bool, half: int) -> int:
    """1 + 2 x color + bright, and as many classes again for the right half."""
    return 1 + 2 * (half * len(COLORS) + list(COLORS).index(color)) + bright
