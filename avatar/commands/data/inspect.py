"""``avatar data inspect``: some records of a folder as a table, and as a picture of what is seen and heard."""

from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase
from textwrap import shorten

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from avatar.commands.data.sheet import Sheet
from avatar.data.hints import Overlay
from avatar.data.index import ShardIndex
from avatar.data.inspect import Look, Shown, look_at, pick
from avatar.data.pack.manifest import read_manifest
from avatar.data.pack.show import print_summary
from avatar.data.rules import ClipRule
from avatar.errors import ConfigError

LONGEST = 100  # characters of a question or an answer in the table


def inspect(
    folder: str, num: int = 8, out: str = "sheet.png", seed: int | None = None, max_audio_seconds: float = 300.0
) -> int:
    """Show some records of a shard folder: a table, and a contact sheet of their frames, sound and questions.

    Args:
        folder: Holds ``*.tar``, or its address.
        num: How many records to show.
        out: PNG to draw the contact sheet to.
        seed: Draw the records at random; without it they are spread evenly over the folder.
        max_audio_seconds: A longer sound is an error.
    """
    if num < 1:
        raise ConfigError(f"--num must be at least 1, got {num}")
    if Path(out).suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the contact sheet is a PNG; give a name that ends in .png")
    index, console = ShardIndex(folder), Console()
    places = pick(len(index), num, seed)
    title = f"{folder}: {len(places)} of {len(index)} records"
    table, sheet = empty_table(), Sheet(title)
    looks = look_at(index, places, ClipRule(max_audio_seconds=max_audio_seconds))
    for look in track(looks, "looking", len(places), console=Console(stderr=True), transient=True):
        add_row(table, look)
        sheet.add(look)
    if (manifest := read_manifest(Path(folder))) is not None:
        print_summary(console, folder, manifest)
    console.print(Text(title, "bold"), soft_wrap=True)  # above it: a title is wrapped to the width of its table
    console.print(table)
    for told in Overlay(index, "auto").notes:
        console.print(Text(told), soft_wrap=True)
    note = sheet.save(Path(out))
    console.print(Text(f"contact sheet: {out}{f' ({note})' if note else ''}"), soft_wrap=True)
    return 0


def empty_table() -> Table:
    """The columns that :func:`add_row` fills."""
    table = Table()
    table.add_column("key", overflow="fold")
    table.add_column("shows", no_wrap=True)
    for name in ("seconds", "frames", "sound, s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("question", overflow="fold", ratio=3)
    table.add_column("answer", overflow="fold", ratio=1)
    return table


def add_row(table: Table, look: Look) -> None:
    """A record; one that cannot be read is red and says why."""
    cells = [look.key, *_media_cells(look), *_text_cells(look)]
    table.add_row(*map(Text, cells), style="red" if look.reason else None)  # Text: brackets in a string would be markup


def _media_cells(look: Look) -> list[str]:
    """Kind, seconds, frames and sound: a line for each medium."""
    if not look.shown:
        return ["\n".join(medium.kind for medium in look.record.media) if look.record else "", "", "", ""]
    rows = [
        (shown.clip.kind, _number(shown.seconds), _frames(shown), _number(shown.sound_seconds)) for shown in look.shown
    ]
    return ["\n".join(column) for column in zip(*rows, strict=True)]


def _text_cells(look: Look) -> list[str]:
    """Problem type, question or what is wrong, and answer."""
    if look.record is None:
        return ["", look.reason, ""]
    question = look.reason or shorten(look.question, LONGEST, placeholder=" ...")
    return [look.record.problem_type, question, shorten(_answer(look), LONGEST, placeholder=" ...")]


def _answer(look: Look) -> str:
    assert look.record is not None
    if look.gold is None:
        return look.record.answer
    return f"{ascii_uppercase[look.gold]}. {look.record.options[look.gold]}"


def _frames(shown: Shown) -> str:
    if shown.clip.frames is None:
        return ""
    num, _, height, width = shown.clip.frames.shape
    return f"{num} x {width}x{height}"


def _number(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"
