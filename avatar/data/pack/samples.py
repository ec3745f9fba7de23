"""From a group of records to a sample: its media looked at, its members named, what cannot be shown taken out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avatar.data.pack.check import Check, Checked
from avatar.data.pack.files import MediaFiles, read_extension
from avatar.data.pack.plan import KEPT_KEY, Group, Planned, Quarantined
from avatar.data.pack.tally import Tally
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record, record_from_fields
from avatar.data.sources import Span
from avatar.data.workers import WorkerPool
from avatar.errors import DataError

Look = tuple[Medium, bool | None]  # what is shown, and whether a video is heard; None is where it has sound


@dataclass(frozen=True)
class Found:
    """A file of a group: where it lies, what it is called in its sample, and how large it was when it was looked at."""

    path: Path
    extension: str
    size: int


@dataclass
class Pending:
    """A group whose media are being looked at.

    Attributes:
        group: The group.
        files: Its files, or why they cannot be had.
        seen: What was found; None for what is still being looked at.
    """

    group: Group
    files: list[Found | DataError]
    seen: dict[Look, Checked | DataError | None] = field(default_factory=dict)

    def outcome(self, look: Look) -> Checked | DataError:
        """What was found of one thing, once it has been looked at."""
        file = self.files[int(look[0].name)]
        if isinstance(file, DataError):
            return file
        seen = self.seen[look]
        assert seen is not None
        return seen


@dataclass
class Sample:
    """What became of a group.

    Attributes:
        name: Of the sample.
        members: Its files and records by extension; empty where no record is left.
        tally: Counts of it, quarantined records among them.
        quarantined: Records that are not in it.
    """

    name: str
    members: dict[str, bytes]
    tally: Tally
    quarantined: list[Quarantined]

    def refuse(self, record: Planned, group: Group, problem: DataError) -> None:
        """Leave a record out of it."""
        names = [_label(group, (medium, None)) for medium in record.media]
        key = record.source_key if record.source_key is not None else record.key
        self.quarantined.append(Quarantined(key, record.origin, names, problem.cause, str(problem)))
        self.tally.quarantined[problem.cause] += 1


class Samples:
    """Makes samples of groups. Groups are submitted some way ahead, so that the workers are never idle.

    Args:
        pool: Looks at the media.
        media: Finds them.
        rule: How they are decoded.
        use_audio: ``record``, ``auto``, ``true`` or ``false``.
        ahead: Most looks that are given out at a time.
    """

    def __init__(
        self, pool: WorkerPool[Check, Checked], media: MediaFiles, rule: ClipRule, use_audio: str, ahead: int
    ) -> None:
        self.pool, self.media, self.rule, self.use_audio, self.ahead = pool, media, rule, use_audio, ahead
        self._out: deque[tuple[Pending, Look, int]] = deque()  # with their tickets, in order

    @property
    def full(self) -> bool:
        """Whether as much is given out as may be."""
        return len(self._out) >= self.ahead

    def submit(self, group: Group) -> Pending:
        """Have the media of a group looked at."""
        pending = Pending(group, [self._find(group, i) for i in range(len(group.files))])
        for record in group.records:
            for look in self._looks(record):
                found = pending.files[int(look[0].name)]
                if look in pending.seen or isinstance(found, DataError):
                    continue
                while self.full:  # of one clip too, which may have thousands of crops
                    self._settle()
                task = Check(Span(str(found.path), 0, found.size), *look, self.rule, _label(group, look))
                pending.seen[look] = None
                self._out.append((pending, look, self.pool.submit(task)))
        return pending

    def collect(self, pending: Pending) -> Sample:
        """The sample of a group, its media waited for."""
        while any(seen is None for seen in pending.seen.values()):
            self._settle()
        sample = self._sample(pending)
        for found in pending.files:
            if isinstance(found, Found):
                self.media.done(found.path)
        return sample

    def _sample(self, pending: Pending) -> Sample:
        group = pending.group
        sample, good = Sample(group.sample, {}, Tally(), []), []
        for record in group.records:
            outcomes = [pending.outcome(look) for look in self._looks(record)]
            checked = [outcome for outcome in outcomes if isinstance(outcome, Checked)]
            if problem := next((outcome for outcome in outcomes if isinstance(outcome, DataError)), None):
                sample.refuse(record, group, problem)
            else:
                good.append((record, checked))
        if not good:
            return sample
        files = _read(pending)
        if isinstance(files, DataError):
            for record, _ in good:
                sample.refuse(record, group, files)
            return sample
        for record, checked in good:
            final = _finished(record, list(files), checked, sample.tally)
            sample.members[f"{record.name}.json" if record.name else "json"] = final.to_json()
        sample.members |= files
        _count_files(pending, sample.tally)
        return sample

    def _find(self, group: Group, number: int) -> Found | DataError:
        try:
            path = self.media.find(group.files[number], group.row)
            return Found(path, read_extension(path, group.files[number].name), path.stat().st_size)
        except DataError as error:
            return error

    def _looks(self, record: Planned) -> list[Look]:
        said = record.fields.get("use_audio_in_video")
        wanted = {"true": True, "false": False, "record": bool(said), "auto": said}[self.use_audio]
        return [(medium, wanted if medium.kind == "video" else False) for medium in record.media]

    def _settle(self) -> None:
        """Wait for the look that was given out first."""
        pending, look, ticket = self._out.popleft()
        label = _label(pending.group, look)
        try:
            pending.seen[look] = self.pool.collect(ticket)
        except DataError as error:
            reason = str(error).removeprefix(f"{label}: ").removeprefix("the file: ")
            pending.seen[look] = DataError(f"{label}: {reason}", error.cause)
        except RuntimeError as error:  # the decoder failed in a way that it does not know itself
            reason = str(error).strip().rpartition("\n")[2]
            pending.seen[look] = DataError(f"{label}: {reason}", "cannot be decoded")


def member_names(kinds: list[str], extensions: list[str]) -> list[str]:
    """What the files of a sample are called in it: ``mp4``; where two are of a kind ``v0.mp4``, ``v1.mp4``, ``a0.wav``.

    Args:
        kinds: What each is shown as.
        extensions: Of each.
    """
    if len(set(kinds)) == len(kinds) and len(set(extensions)) == len(extensions):
        return list(extensions)
    numbers = [kinds[:i].count(kind) for i, kind in enumerate(kinds)]
    return [
        f"{kind[0]}{number}.{extension}" for kind, number, extension in zip(kinds, numbers, extensions, strict=True)
    ]


def _kinds(group: Group) -> list[str]:
    """What each file is shown as, by the first record that shows it."""
    kinds: dict[int, str] = {}
    for record in group.records:
        for medium in record.media:
            kinds.setdefault(int(medium.name), medium.kind)
    return [kinds[i] for i in range(len(group.files))]


def _label(group: Group, look: Look) -> str:
    """What a file is called in messages."""
    return group.files[int(look[0].name)].name or f"the {look[0].kind} in {group.records[0].origin}"


def _read(pending: Pending) -> dict[str, bytes] | DataError:
    """The files themselves by their names in the sample; or what has become of one since it was looked at."""
    found = [file for file in pending.files if isinstance(file, Found)]
    names = member_names(_kinds(pending.group), [file.extension for file in found])
    files: dict[str, bytes] = {}
    for name, file, ref in zip(names, found, pending.group.files, strict=True):
        try:
            files[name] = file.path.read_bytes()
        except OSError as error:
            return DataError(f"{ref.name}: it cannot be read ({error.strerror})", "missing media")
        if len(files[name]) != file.size:
            return DataError(f"{ref.name}: it changed while it was packed; pack again", "missing media")
    return files


def _finished(record: Planned, names: list[str], shown: list[Checked], tally: Tally) -> Record:
    """The record as it goes into the shard, counted."""
    fields: dict[str, Any] = {k: v for k, v in record.fields.items() if k != "use_audio_in_video"}
    if record.source_key is not None and record.source_key != record.key:
        fields["metadata"] = {**fields.get("metadata", {}), KEPT_KEY: record.source_key}
    heard = [checked.heard for medium, checked in zip(record.media, shown, strict=True) if medium.kind == "video"]
    if heard:
        fields["use_audio_in_video"] = all(heard)
        tally.sound["with" if all(heard) else "mixed" if any(heard) else "without"] += 1
    media = [replace(medium, name=names[int(medium.name)]).to_fields() for medium in record.media]
    tally.records += 1
    tally.problem_types[fields.get("problem_type", "exact")] += 1
    return record_from_fields({**fields, "media": media}, record.key)


def _count_files(pending: Pending, tally: Tally) -> None:
    tally.samples += 1
    facts = {int(medium.name): found for (medium, _), found in pending.seen.items() if isinstance(found, Checked)}
    for kind, number in zip(_kinds(pending.group), sorted(facts), strict=True):
        checked = facts[number]
        tally.media[kind] += 1
        parts = [name for name, there in (("picture", checked.picture), ("sound", checked.sound)) if there]
        tally.streams["image" if kind == "image" else " and ".join(parts)] += 1
        tally.seconds += checked.seconds
        tally.picture_seconds += checked.seconds if checked.picture else 0.0
        tally.sound_seconds += checked.seconds if checked.sound else 0.0
