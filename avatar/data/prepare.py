"""What a worker does with one record: read it, decode what it shows, lay it out as a prompt."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from typing import Literal

from avatar.data.frame_folder import decode_images, pick_images
from avatar.data.hints import read_hint
from avatar.data.index import Entry
from avatar.data.media import IN_SHARD, decode_medium
from avatar.data.modalities import Modalities, keep_media, limit_media
from avatar.data.prompts import PromptStyle, to_prompt
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record
from avatar.data.sources import Span, read_all
from avatar.errors import DataError
from avatar.types import Clip, Prompt

Swap = Literal["audio", "video"]
Files = Mapping[Span, bytes]


@dataclass(frozen=True)
class Task:
    """A record to be made a prompt of.

    Attributes:
        entry: Where it lies.
        style: How it is asked.
        rule: How its media are decoded.
        held: Keys of clips that whoever asks has already, with their notes: they come back as these alone.
        swap: Give each clip the ``audio`` or the ``video`` of the same medium of ``other``.
        other: A record of another sample; None where nothing is swapped, or there is none to swap with.
        hints: Lines that may hold a hint in place of the record's own.
        modalities: What of the media is shown.
    """

    entry: Entry
    style: PromptStyle
    rule: ClipRule
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    swap: Swap | None = None
    other: Entry | None = None
    hints: tuple[Span, ...] = ()
    modalities: Modalities = "both"


@dataclass(frozen=True)
class _Side:
    """A medium of a record, and whether a film of it is heard."""

    entry: Entry
    medium: Medium
    use_audio: bool


def prepare(task: Task) -> Prompt:
    """The prompt of ``task``; what its clips note stands in ``metadata["notes"]``.

    Raises:
        DataError: The record or one of its media cannot be read, or gives no sound where it declares one; or there is
            nothing to swap with.
    """
    entry = task.entry
    record = entry.read_record()
    if record.key not in (None, entry.key):
        raise DataError(
            f"{entry.where}: the record calls itself {record.key!r}; leave 'key' out, the member's name says it"
        )
    if hint := read_hint(task.hints, entry.key):
        record = replace(record, hint=hint)
    record = limit_media(record, task.modalities)
    pairs = _pairs(task, record)
    files = _read(task, pairs)
    clips = [_clip(task, mine, theirs, files) for mine, theirs in pairs]
    if notes := dict.fromkeys(note for clip in clips for note in clip.notes):
        record = replace(record, metadata={**record.metadata, "notes": list(notes)})
    there = [clip.key in task.held or clip.frames is not None or clip.audio is not None for clip in clips]
    if not all(there):
        record = keep_media(
            record, [medium if kept else None for medium, kept in zip(record.media, there, strict=True)]
        )
    return to_prompt(record, entry.key, tuple(compress(clips, there)), task.style)


def _pairs(task: Task, record: Record) -> list[tuple[_Side, _Side | None]]:
    """Each medium of the record, and what its picture or its sound is swapped for."""
    mine = _sides(task.entry, record)
    if task.swap is None or not mine:
        return [(side, None) for side in mine]
    if task.other is None:
        kinds = ", ".join(medium.kind for medium in record.media)
        raise DataError(
            f"{task.entry.where}: there is nothing to swap its media with: no question about other files shows "
            f"[{kinds}] too; leave it out, or ask without a swap",
            "nothing to swap with",
        )
    other = task.other.record  # files have names of their own, and crops; members are called alike in all samples
    theirs = _sides(task.other, limit_media(other, task.modalities) if isinstance(other, Record) else record)
    return list(zip(mine, theirs, strict=True))


def _sides(entry: Entry, record: Record) -> list[_Side]:
    return [_Side(entry, medium, medium.kind == "audio" or record.use_audio_in_video) for medium in record.media]


def _read(task: Task, pairs: list[tuple[_Side, _Side | None]]) -> Files:
    """The files of what is not held yet; in a remote shard neighbours come by one request."""
    shown = [pair for pair in pairs if _key(task, *pair) not in task.held]
    sides = [side for some in zip(*shown, strict=True) for side in some if side is not None]
    spans = [span for side in sides for span in _spans(side, task.rule)]
    return dict(zip(spans, read_all(spans), strict=True))


def _key(task: Task, mine: _Side, theirs: _Side | None) -> str:
    """Of the clip as it is shown, swapped or not."""
    own = clip_key(mine.entry, mine.medium, mine.use_audio, task.rule)
    if theirs is None:
        return own
    other = clip_key(theirs.entry, theirs.medium, theirs.use_audio, task.rule)
    picture, sound = (other, own) if task.swap == "video" else (own, other)
    return f"{picture} with the sound of {sound}"


def _clip(task: Task, mine: _Side, theirs: _Side | None, files: Files) -> Clip:
    key = _key(task, mine, theirs)
    if key in task.held:
        return Clip(key, notes=task.held[key])
    own = _decode(mine, task.rule, files)
    if theirs is None:
        return own
    other = _decode(theirs, task.rule, files)
    return _swapped(key, *((other, own) if task.swap == "video" else (own, other)))


def _swapped(key: str, picture: Clip, sound: Clip) -> Clip:
    if picture.frames is None or picture.image:  # sound alone, or a picture alone: there is one of the two to take
        return replace(sound if picture.frames is None else picture, key=key)
    audio = sound.audio
    if audio is not None and picture.audio is not None:  # a longer sound would tell that it is another clip's
        audio = audio[: len(picture.audio)]
    return replace(picture, audio=audio, key=key, notes=sound.notes)


def clip_key(entry: Entry, medium: Medium, use_audio: bool, rule: ClipRule) -> str:
    """What a clip is known by in stores of decoded and encoded clips: the file, the crop, and how it is decoded."""
    file = _file(entry, medium, "/")
    crop = "" if medium.start is medium.end is None else f" {medium.start or 0.0}-{medium.end or 'end'}"
    sound = "" if use_audio or medium.kind == "image" else " without sound"
    return f"{file} {medium.kind}{crop}{sound} {_digest(rule)}"


def _digest(rule: ClipRule) -> str:
    return hashlib.sha256(json.dumps(asdict(rule)).encode()).hexdigest()[:8]


def _file(entry: Entry, medium: Medium, joint: str) -> str:
    """Names the file of a medium: its shard and its name in it, or its path."""
    places = _places(entry, medium)
    name = entry.file_name(medium.name)
    return name if isinstance(entry.record, Record) else f"{places[0].shard}{joint}{name}"


def _places(entry: Entry, medium: Medium) -> tuple[Span, ...]:
    """The file of a medium, or all images of its folder."""
    if medium.name in entry.members:
        return (entry.members[medium.name],)
    if medium.name in entry.frames and medium.kind != "image":
        return entry.frames[medium.name]
    file = entry.file_name(medium.name)
    if medium.name in entry.frames:
        raise DataError(f"{entry.where}: {file} is a folder of frames, and no image", "no picture")
    if isinstance(entry.record, Record):
        raise DataError(f"{entry.where}: there is no {file}; put it there", "missing media")
    raise DataError(
        f"{entry.where} names media {medium.name!r}, but there is no {file}; put it there or remove the record, then "
        "write the shard again",
        "missing media",
    )


def _spans(side: _Side, rule: ClipRule) -> tuple[Span, ...]:
    """What is to be read of a medium."""
    places = _places(side.entry, side.medium)
    if side.medium.name not in side.entry.frames:
        return places
    if side.medium.kind == "audio":
        return ()
    picked = pick_images(len(places), side.medium, rule, _file(side.entry, side.medium, ": "))
    return tuple(places[i] for i in picked)


def _decode(side: _Side, rule: ClipRule, files: Files) -> Clip:
    try:
        return _decoded(side, rule, files)
    except DataError as error:
        if isinstance(side.entry.record, Span):
            raise
        raise DataError(str(error).removesuffix(IN_SHARD), error.cause) from error


def _decoded(side: _Side, rule: ClipRule, files: Files) -> Clip:
    entry, medium, use_audio = side.entry, side.medium, side.use_audio
    where, key = _file(entry, medium, ": "), clip_key(entry, medium, use_audio, rule)
    spans = _spans(side, rule)
    if medium.name not in entry.frames:
        return decode_medium(files[spans[0]], medium, use_audio, rule, where, key)
    images = {os.path.join(where, os.path.basename(span.shard)): files[span] for span in spans}
    return decode_images(images, len(_places(entry, medium)), medium, use_audio, rule, where, key)
