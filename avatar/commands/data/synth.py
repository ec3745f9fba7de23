"""``avatar data synth``: the micro-world, drawn on the spot."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress

from avatar.data.micro import SPLITS, draw_split, language, render_mp4
from avatar.data.micro_sparse import draw_sparse_split, sparse_language
from avatar.data.micro_stages import STAGE_SPLITS, draw_stage_split, render_stage_mp4, stage_language
from avatar.data.micro_text import draw_text_split, text_language, write_texts
from avatar.data.schema import Record
from avatar.data.shards import write_shards
from avatar.errors import ConfigError
from avatar.models.tiny import write_tiny_model

Drawn = tuple[str, Any, list[Record]]  # key, scene, its questions


@dataclass(frozen=True)
class World:
    """What can be drawn.

    Attributes:
        manifest: Its name and version; data of another one is not taken for it.
        splits: Number of clips, by split.
        draw: (key, scene, questions) of the first clips of a split, from its name, their number and a seed.
        render: A scene as an MP4 file; None where it is told in words and has no media.
        language: Sentences for the tokenizer of the tiny model.
    """

    manifest: dict[str, int]
    splits: dict[str, int]
    draw: Callable[[str, int, int], Iterator[Drawn]]
    render: Callable[[Any], bytes] | None
    language: Callable[[], Iterator[str]]


WORLDS = {
    "demo": World({"micro-world": 3}, SPLITS, draw_split, render_mp4, language),
    "sparse": World({"sparse-world": 1}, SPLITS, draw_sparse_split, render_mp4, sparse_language),
    "curriculum": World(
        {"curriculum-world": 1},
        {name: split.clips for name, split in STAGE_SPLITS.items()},
        draw_stage_split,
        render_stage_mp4,
        stage_language,
    ),
    "text": World({"text-world": 1}, SPLITS, draw_text_split, None, text_language),
}


def synth(
    out: str = "data/micro",
    seed: int = 0,
    scale: float = 1.0,
    overwrite: bool = False,
    world: Literal["demo", "sparse", "curriculum", "text"] = "demo",
) -> None:
    """Write a micro-world: shards of every split, and the tiny model that speaks its language.

    Args:
        out: Folder to write to.
        seed: The same seed gives the same clips, questions and weights.
        scale: Share of the clips of each split to write; below 1 for a quick look.
        overwrite: Replace another micro-world that lies there.
        world: ``demo`` is what ``avatar demo`` trains on, ``sparse`` the same with a cold start that hardly ever
            succeeds, ``curriculum`` what the four stages train on, ``text`` the questions of ``demo`` with the clips
            told in words.
    """
    chosen = WORLDS[world]
    folder, wanted = Path(out), {**chosen.manifest, "seed": seed, "scale": scale}
    manifest = folder / "manifest.json"
    if not overwrite and manifest.exists() and json.loads(manifest.read_text()) == wanted:
        print(f"{folder} holds this micro-world already")
        return
    if _holds_something_else(folder, manifest) and not overwrite:
        raise ConfigError(
            f"{folder} is not empty and holds something else; choose another --out, or pass --overwrite true"
        )
    manifest.unlink(missing_ok=True)
    for split in _folders():
        shutil.rmtree(folder / split, ignore_errors=True)
    sizes = {split: max(2, round(num * scale)) for split, num in chosen.splits.items()}
    num_questions = _write(chosen, folder, sizes, seed)
    write_tiny_model(folder / "model", chosen.language(), seed)
    manifest.write_text(json.dumps(wanted) + "\n")
    print(f"{folder}: {sum(sizes.values())} clips, {num_questions} questions, and the tiny model")


def _folders() -> set[str]:
    """What the splits of any world are called."""
    return {split for world in WORLDS.values() for split in world.splits}


def _holds_something_else(folder: Path, manifest: Path) -> bool:
    """Whether ``folder`` has more in it than what an interrupted run leaves: our folders, and no manifest yet."""
    ours = {*_folders(), *(f"{split}.partial" for split in _folders()), "model"}
    return folder.exists() and (manifest.exists() or any(entry.name not in ours for entry in folder.iterdir()))


def _write(world: World, folder: Path, sizes: dict[str, int], seed: int) -> int:
    """Shards of all splits; the number of questions in them."""
    num_questions = 0
    with Progress() as progress:
        task = progress.add_task("micro-world", total=sum(sizes.values()))

        def advance(records: list[Record]) -> None:
            nonlocal num_questions
            num_questions += len(records)
            progress.advance(task)

        for split, num in sizes.items():
            progress.update(task, description=f"micro-world: {split}")
            drawn = world.draw(split, num, seed)
            if world.render:
                write_shards(folder / split, _render(drawn, world.render, advance))
            else:
                write_texts(folder / split, _told(drawn, advance))
    return num_questions


def _told(drawn: Iterator[Drawn], advance: Callable[[list[Record]], None]) -> Iterator[tuple[str, list[Record]]]:
    for key, _, records in drawn:
        advance(records)
        yield key, records


def _render(
    drawn: Iterator[Drawn], render: Callable[[Any], bytes], advance: Callable[[list[Record]], None]
) -> Iterator[tuple[str, bytes, list[Record]]]:
    def with_clip(item: Drawn) -> tuple[str, bytes, list[Record]]:
        key, scene, records = item
        return key, render(scene), records

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for sample in pool.map(with_clip, drawn):
            advance(sample[2])
            yield sample
