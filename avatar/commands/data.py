"""``avatar data synth | validate``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table
from rich.text import Text

from avatar.data.dataset import Failure, PromptDataset, PromptStyle
from avatar.data.micro import KINDS, SPLITS, Scene, draw_split, language, render_mp4
from avatar.data.schema import Record
from avatar.data.shards import write_shards
from avatar.errors import ConfigError
from avatar.models.tiny import write_tiny_model


def main(argv: Sequence[str]) -> int:
    """Run ``avatar data ...``."""
    parser = ArgumentParser(prog="avatar data", description="Make and check data.")
    commands = parser.add_subcommands(required=True)
    functions: dict[str, Callable[..., int | None]] = {"synth": synth, "validate": validate}
    for name, function in functions.items():
        sub = ArgumentParser(description=(function.__doc__ or "").split("\n")[0])
        sub.add_function_arguments(function, as_positional=name == "validate")
        commands.add_subcommand(name, sub, help=sub.description)
    config = parser.parse_args(list(argv[1:]))
    return int(functions[config.subcommand](**config[config.subcommand].as_dict()) or 0)


def synth(out: str = "data/micro", seed: int = 0, scale: float = 1.0, overwrite: bool = False) -> None:
    """Write the micro-world: shards of every split, and the tiny model that speaks its language.

    Args:
        out: Folder to write to.
        seed: The same seed gives the same clips, questions and weights.
        scale: Share of the clips of each split to write; below 1 for a quick look.
        overwrite: Replace another micro-world that lies there.
    """
    folder, wanted = Path(out), {"micro-world": 2, "seed": seed, "scale": scale}
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


def validate(folder: str) -> int:
    """Decode every clip that a question of a shard folder shows; exit 1 if a clip or a question cannot be read.

    Args:
        folder: Holds ``*.tar``.
    """
    dataset = PromptDataset([folder], PromptStyle())
    clips, reasons = set(), {}
    for item in track((dataset[i] for i in range(len(dataset))), "validating", len(dataset)):
        if isinstance(item, Failure):
            reasons[item.reason] = item.key  # once for a clip, however many questions show it
        else:
            clips |= {clip.key for clip in item.clips}
    table = Table(title=Text(folder, "table.title"), show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in (("clips", len(clips)), ("questions", len(dataset)), ("unreadable", len(reasons))):
        table.add_row(name, str(value))
    for reason in reasons:
        table.add_row("", Text(reason))  # as it is: brackets in a plain string would be markup
    Console().print(table)
    return 1 if reasons else 0
