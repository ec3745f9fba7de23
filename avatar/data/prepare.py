"""What a worker does with one record: read it, decode what it shows, lay it out as a prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from avatar.data.hints import read_hint
from avatar.data.index import Entry
from avatar.data.media import decode_medium
from avatar.data.prompts import PromptStyle, to_prompt
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record, parse_record
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
        held: Keys of clips that whoever asks has already: they come back as keys alone.
        swap: Give each clip the ``audio`` or the ``video`` of the same medium of ``other``.
        other: A record of another sample; None where nothing is swapped.
        hints: Lines that may hold a hint in place of the record's own.
    """

    entry: Entry
    style: PromptStyle
    rule: ClipRule
    held: frozenset[str] = frozenset()
    swap: Swap | None = None
    other: Entry | None = None
    hints: tuple[Span, ...] = ()


def prepare(task: Task) -> Prompt:
    """The prompt of ``task``.

    Raises:
        DataError: The record or one of its media cannot be read, or gives no sound where it declares one.
    """
    entry = task.entry
    where = f"{entry.record.shard}: {entry.key}"
    record = parse_record(entry.record.read(), where)
    if record.key not in (None, entry.key):
        raise DataError(f"{where}: the record calls itself {record.key!r}; leave 'key' out, the member's name says it")
    if hint := read_hint(task.hints, entry.key):
        record = replace(record, hint=hint)
    files = _read(task, record)
    clips = tuple(_clip(task, record, medium, files) for medium in record.media)
    return to_prompt(record, entry.key, clips, task.style)


def _read(task: Task, record: Record) -> Files:
    """The files of what is not held yet; in a remote shard neighbours come by one request."""
    shown = [medium for medium in record.media if _key(task, record, medium) not in task.held]
    entries = [task.entry] if task.other is None else [task.entry, task.other]
    spans = [_member(entry, medium) for entry in entries for medium in shown]
    return dict(zip(spans, read_all(spans), strict=True))


def _key(task: Task, record: Record, medium: Medium) -> str:
    """Of the clip as it is shown, swapped or not."""
    use_audio = medium.kind == "audio" or record.use_audio_in_video
    mine = clip_key(task.entry, medium, use_audio, task.rule)
    if task.other is None:
        return mine
    theirs = clip_key(task.other, medium, use_audio, task.rule)
    picture, sound = (theirs, mine) if task.swap == "video" else (mine, theirs)
    return f"{picture} with the sound of {sound}"


def _clip(task: Task, record: Record, medium: Medium, files: Files) -> Clip:
    key = _key(task, record, medium)
    if key in task.held:
        return Clip(key)
    use_audio = medium.kind == "audio" or record.use_audio_in_video
    mine = _decode(task, task.entry, medium, use_audio, files)
    if task.other is None:
        return mine
    other = _decode(task, task.other, medium, use_audio, files)
    return _swapped(key, *((other, mine) if task.swap == "video" else (mine, other)))


def _swapped(key: str, picture: Clip, sound: Clip) -> Clip:
    if picture.frames is None or picture.image:  # sound alone, or a picture alone: there is one of the two to take
        return replace(sound if picture.frames is None else picture, key=key)
    audio = sound.audio
    if audio is not None and picture.audio is not None:  # a longer sound would tell that it is another clip's
        audio = audio[: len(picture.audio)]
    return replace(picture, audio=audio, key=key)


def clip_key(entry: Entry, medium: Medium, use_audio: bool, rule: ClipRule) -> str:
    """What a clip is known by in stores of decoded and encoded clips: the file, the crop, and how it is decoded."""
    shard = _member(entry, medium).shard
    crop = "" if medium.start is medium.end is None else f" {medium.start or 0.0}-{medium.end or 'end'}"
    sound = "" if use_audio or medium.kind == "image" else " without sound"
    return f"{shard}/{entry.sample}.{medium.name} {medium.kind}{crop}{sound} {_digest(rule)}"


def _digest(rule: ClipRule) -> str:
    return hashlib.sha256(json.dumps(asdict(rule)).encode()).hexdigest()[:8]


def _member(entry: Entry, medium: Medium) -> Span:
    members: Mapping[str, Span] = entry.members
    if medium.name not in members:
        raise DataError(
            f"{entry.record.shard}: {entry.key} names media {medium.name!r}, but there is no "
            f"{entry.sample}.{medium.name}; put it there or remove the record, then write the shard again",
            "missing media",
        )
    return members[medium.name]


def _decode(task: Task, entry: Entry, medium: Medium, use_audio: bool, files: Files) -> Clip:
    span = _member(entry, medium)
    where = f"{span.shard}: {entry.sample}.{medium.name}"
    key = clip_key(entry, medium, use_audio, task.rule)
    return decode_medium(files[span], medium, use_audio, task.rule, where, key)
