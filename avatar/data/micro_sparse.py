"""The micro-world with a start that hardly ever succeeds: the cold start teaches to pass and not to guess.

Clips and questions are those of the micro-world; only the demonstrations that hide the skill differ. A guess is right
once in four or so; here the model mostly says that it does not know, so that reward is rarer than one completion in a
hundred, and nearly every group of completions has no spread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from avatar.data.micro import HINTED_SHARE, Scene, draw_split, language, render_chain
from avatar.data.schema import Record

# Share of demonstrations in `guesses` that keep the full chain although no hint is shown; all others pass.
KEPT_SHARE = {"beeps": 0.008, "color": 0.008, "flashes": 0.005, "more": 0.002, "sum": 0.001}
PASS = render_chain(["guess"], "unknown")


def draw_sparse_split(split: str, num_clips: int, seed: int) -> Iterator[tuple[str, Scene, list[Record]]]:
    """(key, scene, its five questions) of every clip of ``split``; the same seed, the same clips."""
    if split != "guesses":
        yield from draw_split(split, num_clips, seed)
        return
    rng = Random(f"{seed}/passes")
    for i, (_, scene, records) in enumerate(draw_split("train-of-passes", num_clips, seed)):
        yield f"{split}-{i:06d}", scene, [pass_on(record, rng) for record in records]


def pass_on(record: Record, rng: Random) -> Record:
    """The same question with a demonstration that mostly passes, unless the hint is shown."""
    if rng.random() < HINTED_SHARE:
        return replace(record, show_hint=True)
    return record if rng.random() < KEPT_SHARE[record.metadata["kind"]] else replace(record, chain=PASS)


def sparse_language() -> Iterator[str]:
    """Every sentence form that the model will read or write."""
    yield from language()
    yield PASS
