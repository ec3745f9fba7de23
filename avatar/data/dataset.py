"""Records by position or by key, as prompts. What cannot be read says why, and holds up nobody."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, combinations, islice
from pathlib import Path
from typing import cast

from avatar.cache import ByteCache
from avatar.data.files import FileIndex, Index
from avatar.data.hints import Overlay
from avatar.data.index import Entry, ShardIndex
from avatar.data.modalities import Modalities
from avatar.data.prepare import Swap, Task, prepare
from avatar.data.prompts import PromptStyle
from avatar.data.rules import ClipRule
from avatar.data.skipped import Failure
from avatar.data.sources import is_remote
from avatar.data.workers import WorkerPool
from avatar.errors import DataError
from avatar.types import Clip, Prompt

Decoders = WorkerPool[Task, Prompt]
PROMPTS_BYTES = 32 * 2**20


def start_decoders(
    num_workers: int = 1,
    rule: ClipRule = ClipRule(),  # noqa: B008
    time_limit_name: str = "data.time_limit",
) -> Decoders:
    """Processes that decode within the limits of ``rule``; ``time_limit_name`` is what the user sets it by."""
    return WorkerPool(prepare, num_workers, rule.time_limit, rule.max_decoded_mb, time_limit_name)


@dataclass(eq=False)
class Pending:
    """A prompt on its way.

    Attributes:
        index: Whose record it is.
        entry: The record.
        ticket: Of the workers; None while another question about the same clips is on its way, which then are held.
        held: Clips of its sample that need no decoding.
        prompt: What it was when it was read before, if that is still held whole.
    """

    index: Index
    entry: Entry
    ticket: int | None = None
    held: dict[str, Clip] = field(default_factory=dict)
    prompt: Prompt | None = None

    @property
    def sent(self) -> bool:
        """Whether nothing more has to be asked of anybody."""
        return self.ticket is not None or self.prompt is not None

    @property
    def sample(self) -> tuple[str, str]:
        """Names the sample among all folders."""
        return self.index.folder, self.entry.sample


class PromptDataset:
    """Prompts of one or more folders by position, or by key, decoded by processes that can be killed.

    Args:
        folders: Shard folders, their addresses, or indexes of plain files; positions run through them in order.
        style: How records are asked.
        rule: How their media are decoded.
        cache_mb: Bound of the store of decoded clips, in MB.
        swap: Give each clip the ``audio`` or the ``video`` of the next clip in its folder: what a blind or deaf model
            would not notice.
        decoders: Processes to share with other datasets; None starts one of its own when it is needed.
        hints: A file of hints that take the place of the records' own; ``auto`` for the ``hints.jsonl`` beside the
            shards, if there is one; None for none.
        modalities: What of the media is shown, see :func:`avatar.data.modalities.limit_media`.

    Attributes:
        overlays: The hints of each folder.

    Raises:
        DataError: A folder or a shard is missing, empty or broken, two folders hold records of one key, or hints cannot
            be read.
    """

    def __init__(
        self,
        folders: Sequence[str | Path | FileIndex],
        style: PromptStyle = PromptStyle(),  # noqa: B008
        rule: ClipRule = ClipRule(),  # noqa: B008
        cache_mb: int = 256,
        swap: Swap | None = None,
        decoders: Decoders | None = None,
        hints: str | None = None,
        modalities: Modalities = "both",
    ) -> None:
        self.indexes = [folder if isinstance(folder, FileIndex) else ShardIndex(folder) for folder in folders]
        _check_keys(self.indexes)
        self.overlays = [Overlay(index, hints) for index in self.indexes]
        self.style, self.rule, self.swap, self.modalities = style, rule, swap, modalities
        self.decoders = decoders or start_decoders(1, rule)
        self._ends = list(accumulate(len(index) for index in self.indexes))
        self._clips = ByteCache(cache_mb * 2**20)
        self._prompts = ByteCache(PROMPTS_BYTES if cache_mb else 0)  # by sample and record, without their clips
        self._ahead: dict[tuple[str, str], list[Pending]] = {}  # by sample: the one being decoded, and who waits for it

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, position: int) -> Prompt | Failure:
        return self.collect(self.submit(position))

    def by_key(self, key: str) -> Prompt:
        """The prompt called ``key``.

        Raises:
            DataError: There is none, or it cannot be read.
        """
        for index in self.indexes:
            if key in index:
                found = self.collect(self._submit(index, index.by_key(key)))
                if isinstance(found, Failure):
                    raise DataError(found.reason, found.cause)
                return found
        raise DataError(f"no record {key!r} in {', '.join(i.folder for i in self.indexes)}")

    def stream(self, positions: Iterable[int], ahead: int = 4) -> Generator[Prompt | Failure, None, None]:
        """What becomes of each position, in order, ``ahead`` of them on their way before they are asked for."""
        coming = iter(positions)
        waiting = deque(map(self.submit, islice(coming, max(1, ahead))))
        try:
            while waiting:
                found = self.collect(waiting.popleft())
                waiting.extend(map(self.submit, islice(coming, 1)))
                yield found
        finally:
            for pending in waiting:
                self.forget(pending)

    def submit(self, position: int) -> Pending:
        """Have the record at ``position`` read and decoded; :meth:`collect` waits for it."""
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)}")
        position %= len(self)
        folder = bisect_right(self._ends, position)
        index = self.indexes[folder]
        return self._submit(index, index[position - self._ends[folder] + len(index)])

    def collect(self, pending: Pending) -> Prompt | Failure:
        """What became of it. Each is to be collected once, or forgotten."""
        if not pending.sent:  # wanted before the one that it waits for is collected
            self._send(pending)
        try:
            prompt = pending.prompt or self.decoders.collect(cast(int, pending.ticket))
        except DataError as error:
            return self._failure(pending, error)
        else:
            clips = tuple(pending.held.get(clip.key, clip) for clip in prompt.clips)
            self._hold(pending, clips)
            self._prompts.put((pending.sample, pending.entry.key), _bare(prompt), _text_bytes(prompt))
            return replace(prompt, clips=clips)
        finally:
            self._release(pending)

    def forget(self, pending: Pending) -> None:
        """It is not wanted any more."""
        if pending.ticket is not None:
            self.decoders.forget(pending.ticket)
        self._release(pending)

    def _submit(self, index: Index, entry: Entry) -> Pending:
        pending = Pending(index, entry)
        ahead = self._ahead.setdefault(pending.sample, [])
        ahead.append(pending)
        if len(ahead) == 1:
            self._send(pending)
        return pending

    def _send(self, pending: Pending) -> None:
        index, entry = pending.index, pending.entry
        pending.held = self._clips.get(pending.sample) or {}
        pending.prompt = self._whole(pending)
        if pending.prompt:
            return
        other = index.next_sample(entry) if self.swap else None
        hints = self.overlays[self.indexes.index(index)].lines_of(entry.key)
        held = {key: clip.notes for key, clip in pending.held.items()}
        task = Task(entry, self.style, self.rule, held, self.swap, other, hints, self.modalities)
        pending.ticket = self.decoders.submit(task)

    def _whole(self, pending: Pending) -> Prompt | None:
        """The prompt as it was read before, if it and all of its clips are held."""
        found: tuple[Prompt, tuple[str, ...]] | None = self._prompts.get((pending.sample, pending.entry.key))
        if found is None or any(key not in pending.held for key in found[1]):
            return None
        return replace(found[0], clips=tuple(pending.held[key] for key in found[1]))

    def _release(self, pending: Pending) -> None:
        """Send what waits for the same sample: all of it where the clips are held by now, else the next."""
        ahead = self._ahead[pending.sample]
        ahead.remove(pending)
        if not ahead:
            del self._ahead[pending.sample]
            return
        for waiting in ahead if self._clips.get(pending.sample) else ahead[:1]:
            if not waiting.sent:
                self._send(waiting)

    def _hold(self, pending: Pending, clips: Sequence[Clip]) -> None:
        held = {**pending.held, **{clip.key: clip for clip in clips}}
        if held:
            self._clips.put(pending.sample, held, sum(map(_num_bytes, held.values())))

    def _failure(self, pending: Pending, error: DataError) -> Failure:
        entry, reason = pending.entry, str(error)
        if not reason.startswith(entry.home):  # the workers do not know what they died of
            reason = f"{entry.where}: {reason}"
        return Failure(entry.key, reason, error.cause)


def _bare(prompt: Prompt) -> tuple[Prompt, tuple[str, ...]]:
    """A prompt without its clips, and their keys."""
    return replace(prompt, clips=()), tuple(clip.key for clip in prompt.clips)


def _text_bytes(prompt: Prompt) -> int:
    """About what a prompt without its clips takes."""
    return 1000 + 2 * len(str(prompt.messages)) + 2 * len(str(prompt.metadata))


def _num_bytes(clip: Clip) -> int:
    parts = [part for part in (clip.frames, clip.audio, clip.times) if part is not None]
    return sum(part.numel() * part.element_size() for part in parts)


def _check_keys(indexes: Sequence[Index]) -> None:
    """No key in two folders; one folder may come in several phases."""
    for one, other in combinations({_home(index): index for index in indexes}.values(), 2):
        fewer, more = sorted((one, other), key=len)
        if key := next((key for key in fewer.keys() if key in more), None):  # noqa: SIM118
            raise DataError(
                f"key {key!r} is both in {one.folder} and in {other.folder}; rename it in one of them", "duplicate key"
            )


def _home(index: Index) -> str | FileIndex:
    if isinstance(index, FileIndex):  # of one folder there may be several, with other questions
        return index
    return index.folder if is_remote(index.folder) else str(Path(index.folder).resolve())
