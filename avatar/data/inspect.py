"""Records as training would get them, beside what their files say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from avatar.answers import gold_answer
from avatar.data.index import Entry, ShardIndex
from avatar.data.media import MediaInfo, probe
from avatar.data.prepare import Task, prepare
from avatar.data.prompts import PromptStyle
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record
from avatar.data.workers import WorkerPool
from avatar.errors import DataError
from avatar.types import Clip, Prompt


@dataclass(frozen=True)
class Shown:
    """A medium of a record: what is asked for, what the header of its file says, and what is decoded."""

    medium: Medium
    info: MediaInfo
    clip: Clip

    @property
    def seconds(self) -> float | None:
        """How long it is, by its crop and the header, and no shorter than what was decoded; None for an image."""
        if self.clip.image:
            return None
        start, end = self.medium.start or 0.0, self.medium.end
        known = [(self.info.seconds if end is None else end) - start]
        known += [float(self.clip.times[-1])] if self.clip.times is not None else []
        known += [self.sound_seconds] if self.sound_seconds is not None else []
        return max(known)

    @property
    def sound_seconds(self) -> float | None:
        """Of what is heard; None where nothing is."""
        return None if self.clip.audio is None else len(self.clip.audio) / self.clip.sample_rate


@dataclass(frozen=True)
class Look:
    """One record, as much of it as can be read.

    Attributes:
        key: Of the record.
        record: As it lies in the shard; None where it is broken.
        shown: Its media in order; empty where they cannot be read.
        reason: Why it cannot become a prompt; empty where it can.
    """

    key: str
    record: Record | None
    shown: tuple[Shown, ...] = ()
    reason: str = ""

    @property
    def question(self) -> str:
        """The text that is asked: the question, or the last turn of the chat."""
        if self.record is None:
            return ""
        if not self.record.messages:
            return self.record.question
        content = self.record.messages[-1]["content"]
        if isinstance(content, str):
            return content
        return "\n".join(part["text"] for part in content if part["type"] == "text")

    @property
    def gold(self) -> int | None:
        """Which option is the answer; None where there are none to choose from."""
        record = self.record
        if record is None or record.problem_type != "choice":
            return None
        return int(gold_answer(record.answer, record.problem_type, record.options))


@dataclass(frozen=True)
class Found:
    """What a worker sends: the prompt as training gets it, and what the headers of its media say."""

    prompt: Prompt
    infos: tuple[MediaInfo, ...]


def find(task: Task) -> Found:
    """What a worker does with one record.

    Raises:
        DataError: It cannot become a prompt.
    """
    prompt, members = prepare(task), task.entry.members
    media = task.entry.read_record().media
    return Found(prompt, tuple(probe(members[medium.name].read(), medium.kind) for medium in media))


def look_at(index: ShardIndex, positions: Iterable[int], rule: ClipRule) -> Iterator[Look]:
    """The records at ``positions``, one by one, each read by a process that may hang or crash on it."""
    pool = WorkerPool(find, 1, rule.time_limit, rule.max_decoded_mb)
    try:
        for position in positions:
            yield _look(pool, index[position], rule)
    finally:
        pool.close()


def _look(pool: WorkerPool[Task, Found], entry: Entry, rule: ClipRule) -> Look:
    record = None
    with suppress(DataError):
        record = entry.read_record()
    try:
        found = pool.collect(pool.submit(Task(entry, PromptStyle(), rule)))
    except DataError as error:
        return Look(entry.key, record, reason=str(error))
    assert record is not None
    shown = zip(record.media, found.infos, found.prompt.clips, strict=True)
    return Look(entry.key, record, tuple(Shown(*parts) for parts in shown))


def pick(total: int, num: int, seed: int | None = None) -> list[int]:
    """``num`` of ``total`` positions, ascending: spread evenly, or drawn by ``seed``; all where there are fewer."""
    num = min(num, total)
    return [i * total // num for i in range(num)] if seed is None else sorted(Random(seed).sample(range(total), num))
