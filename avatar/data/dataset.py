"""Records by position: read, checked, decoded and laid out as prompts. What cannot be read says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from avatar.cache import ByteCache
from avatar.data.index import Entry, ShardIndex
from avatar.data.media import decode_clip
from avatar.data.schema import Record, parse_record, to_prompt
from avatar.errors import DataError
from avatar.types import Clip, Prompt

Swap = Literal["audio", "video"]


@dataclass(frozen=True)
class Failure:
    """A record that could not become a prompt.

    Attributes:
        key: Of the record.
        reason: What was wrong, with the shard's name.
    """

    key: str
    reason: str


@dataclass(frozen=True)
class PromptStyle:
    """How records are shown to the model.

    Attributes:
        system: System message, or None for none.
        letter_options: Show options as ``A. text``; else as ``text / text``.
        max_frames: Most frames of a clip.
    """

    system: str | None = None
    letter_options: bool = True
    max_frames: int = 16


class PromptDataset:
    """Prompts of one or more shard folders by position, or by key.

    Args:
        folders: Shard folders; positions run through them in order.
        style: How records are shown.
        cache_mb: Bound of the store of decoded clips, in MB.
        swap: Give each clip the ``audio`` or the ``video`` of the next clip in its folder: what a blind or deaf model
            would not notice.

    Raises:
        DataError: A folder or a shard is missing, empty or broken, or two folders hold records of one key.
    """

    def __init__(
        self, folders: Sequence[str | Path], style: PromptStyle, cache_mb: int = 256, swap: Swap | None = None
    ) -> None:
        self.indexes = [ShardIndex(folder) for folder in folders]
        _check_keys(self.indexes)
        self.style, self.swap = style, swap
        self._where = [(index, i) for index in self.indexes for i in range(len(index))]
        self._clips = ByteCache(cache_mb * 2**20)

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, position: int) -> Prompt | Failure:
        index, i = self._where[position]
        entry = index[i]
        try:
            return self._prompt(index, entry)
        except DataError as error:
            return Failure(entry.key, str(error))

    def by_key(self, key: str) -> Prompt:
        """The prompt called ``key``.

        Raises:
            DataError: There is none, or it cannot be read.
        """
        for index in self.indexes:
            if key in index:
                return self._prompt(index, index.by_key(key))
        raise DataError(f"no record {key!r} in {', '.join(str(i.folder) for i in self.indexes)}")

    def _prompt(self, index: ShardIndex, entry: Entry) -> Prompt:
        record = parse_record(entry.record.read(), f"{entry.record.shard}: {entry.key}")
        clips = tuple(self._clip(index, entry, name, record) for name in record.media.values())
        return to_prompt(record, entry.key, clips, self.style.system, self.style.letter_options)

    def _clip(self, index: ShardIndex, entry: Entry, name: str, record: Record) -> Clip:
        clip = self._decoded(index, entry, name, record.use_audio_in_video)
        if self.swap is None:
            return clip
        other = self._decoded(index, index.next_sample(entry), name, record.use_audio_in_video)
        picture, sound = (other, clip) if self.swap == "video" else (clip, other)
        audio = sound.audio
        if audio is not None and picture.audio is not None:  # a longer sound would tell that it is another clip's
            audio = audio[: len(picture.audio)]
        return replace(picture, audio=audio, key=f"{picture.key} with the sound of {sound.key}")

    def _decoded(self, index: ShardIndex, entry: Entry, name: str, use_audio: bool) -> Clip:
        key = f"{index.folder}/{entry.sample}.{name}{'' if use_audio else ' without sound'}"
        clip: Clip | None = self._clips.get(key)
        if clip is None:
            if name not in entry.members:
                raise DataError(
                    f"{entry.record.shard}: {entry.key} names media {name!r}, but there is no {entry.sample}.{name}; "
                    "put it there or remove the record, then write the shard again"
                )
            where = f"{entry.record.shard}: {entry.sample}.{name}"
            clip = decode_clip(entry.members[name].read(), where, self.style.max_frames, use_audio)
            clip = replace(clip, key=key)
            frames = clip.frames.numel() if clip.frames is not None else 0
            self._clips.put(key, clip, frames + 4 * (clip.audio.numel() if clip.audio is not None else 0))
        return clip


def _check_keys(indexes: Sequence[ShardIndex]) -> None:
    homes: dict[str, Path] = {}
    for index in indexes:
        folder = index.folder.resolve()  # one folder may come in several phases
        for entry in index.entries:
            if (home := homes.setdefault(entry.key, folder)) != folder:
                raise DataError(f"key {entry.key!r} is both in {home} and in {folder}; rename it in one of them")
