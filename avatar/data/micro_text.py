"""The micro-world in words: the same questions, with what happens in a clip written out in place of the clip.

It is for what reads text alone, as most trainers of language models do: ``sound on off on on ; picture red square off
on on off ; how many beeps ?``. Kinds, answers, chains, guesses, hints and splits are those of :mod:`avatar.data.micro`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

from avatar.data.micro import Scene, ask, draw_scene, draw_split, language
from avatar.data.micro_pair import spell
from avatar.data.pack.writer import Shard
from avatar.data.schema import Record

EXAMS = ("dev", "test")  # splits whose scenes are in no other
# Share of all scenes that are kept for them. There are only 4 x 3 x 15 x 15 = 2,700 that differ in words, so two random
# streams, which hold clips apart by their noise, would meet.
EXAM_SHARE = 0.25
_LABELS = ("video_labels", "audio_labels")  # of media tokens, of which there are none here


def draw_text_split(split: str, num_scenes: int, seed: int) -> Iterator[tuple[str, Scene, list[Record]]]:
    """(key, scene, its five questions) of every scene of ``split``; the same seed, the same scenes.

    No scene of ``dev`` or ``test`` is in a split that is trained on. Within one split, and between those that are
    trained on, a scene may come twice.
    """
    drawn = ((scene, records) for _, scene, records in draw_split(split, sys.maxsize, seed))
    kept = ((scene, records) for scene, records in drawn if is_for_exams(scene) == (split in EXAMS))
    for i, (scene, records) in enumerate(islice(kept, num_scenes)):
        yield f"{split}-{i:06d}", scene, [in_words(record, scene) for record in records]


def is_for_exams(scene: Scene) -> bool:
    """Whether a scene is kept for ``dev`` and ``test``; it hangs on its words alone."""
    return Random(describe(scene)).random() < EXAM_SHARE


def describe(scene: Scene) -> str:
    """``sound on off on on ; picture red square off on on off``: all that its clip shows, but noise and motion."""
    return f"sound {spell(scene.beeps)} ; picture {scene.color} {scene.shape} {spell(scene.flashes)}"


def in_words(record: Record, scene: Scene) -> Record:
    """The same question without media, after the description of what it is about."""
    metadata = {name: value for name, value in record.metadata.items() if name not in _LABELS}
    question = f"{describe(scene)} ; {record.question}"
    return replace(record, question=question, media=[], use_audio_in_video=False, metadata=metadata)


def text_language() -> Iterator[str]:
    """Every sentence form that the model will read or write: what its tokenizer is trained on."""
    yield from language()
    rng = Random(0)
    for _ in range(400):
        scene = draw_scene(rng)
        yield in_words(ask(scene, "more"), scene).question


def write_texts(folder: Path, samples: Iterable[tuple[str, list[Record]]]) -> None:
    """Write (key, questions) to one shard without media, ``folder/00000.tar``; equal samples give equal bytes.

    The folder appears when it is whole: a run that dies on the way leaves ``folder.partial`` behind.

    Args:
        folder: Where to; what lies there is replaced.
        samples: Scenes with their questions, at most ten each, or members would be read back in another order.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shard = Shard(partial / "00000.tar")
    for key, records in samples:
        shard.add(key, {f"q{i}.json": record.to_json() for i, record in enumerate(records)})
    shard.close()
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
