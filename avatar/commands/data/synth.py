"""``avatar data synth``: the micro-world, drawn on the spot."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.progress import Progress

from avatar.data.micro import KINDS, SPLITS, Scene, draw_split, language, render_mp4
from avatar.data.schema import Record
from avatar.data.shards import write_shards
from avatar.errors import ConfigError
from avatar.models.tiny import write_tiny_model


def synth(out: str = "data/micro", seed: int = 0, scale: float = 1.0, overwrite: bool = False) -> None:
    """Write the micro-world: shards of every split, and the tiny model that speaks its language.

    Args:
        out: Folder to write to.
        seed: The same seed gives the same clips, questions and weights.
        scale: Share of the clips of each split to write; below 1 for a quick look.
        overwrite: Replace another micro-world that lies there.
    """
    folder, wanted = Path(out), {"micro-world": 3, "seed": seed, "scale": scale}
    manifest = folder / "manifest.json"
    if not overwrite and manifest.exists() and json.loads(manifest.read_text()) == wanted:
        print(f"{folder} holds this micro-world already")
        return
    if _holds_something_else(folder, manifest) and not overwrite:
        raise ConfigError(
            f"{folder} is not empty and holds something else; choose another --out, or pass --overwrite true"
        )
    manifest.unlink(missing_ok=True)
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
    sizes = {split: max(2, round(num * scale)) for split, num in SPLITS.items()}
    with Progress() as progress:
        task = progress.add_task("micro-world", total=sum(sizes.values()))
        for split, num in sizes.items():
            progress.update(task, description=f"micro-world: {split}")
            write_shards(folder / split, _render(split, num, seed, lambda: progress.advance(task)))
    write_tiny_model(folder / "model", language(), seed)
    manifest.write_text(json.dumps(wanted) + "\n")
    print(f"{folder}: {sum(sizes.values())} clips, {sum(sizes.values()) * len(KINDS)} questions, and the tiny model")


def _holds_something_else(folder: Path, manifest: Path) -> bool:
    """Whether ``folder`` has more in it than what an interrupted run leaves: our folders, and no manifest yet."""
    ours = {*SPLITS, *(f"{split}.partial" for split in SPLITS), "model"}
    return folder.exists() and (manifest.exists() or any(entry.name not in ours for entry in folder.iterdir()))


def _render(split: str, num: int, seed: int, advance: Any) -> Iterator[tuple[str, bytes, list[Record]]]:
    def render(item: tuple[str, Scene, list[Record]]) -> tuple[str, bytes, list[Record]]:
        key, scene, records = item
        mp4 = render_mp4(scene)
        advance()
        return key, mp4, records

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(render, draw_split(split, num, seed))
