"""From a group of records to a sample: its media looked at, its members named, what cannot be shown taken out."""

from __future__ import annotations

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
    """A group whose media are being looked at."""

    group: Group
    files: list[Found | DataError]
    tickets: dict[Look, int] = field(default_factory=dict)


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


class Samples:
    """Makes samples of groups. Groups are submitted some way ahead, so that the workers are never idle.

    Args:
        pool: Looks at the media.
        media: Finds them.
        rule: How they are decoded.
        use_audio: ``record``, ``auto``, ``true`` or ``false``.
    """

    def __init__(self, pool: WorkerPool[Check, Checked], media: MediaFiles, rule: ClipRule, use_audio: str) -> None:
        self.pool, self.media, self.rule, self.use_audio = pool, media, rule, use_audio
        self.waiting = 0  # looks that have not been collected

    def submit(self, group: Group) -> Pending:
        """Have the media of a group looked at."""
        pending = Pending(group, [self._find(group, i) for i in range(len(group.files))])
        for record in group.records:
            for look in self._looks(record):
                found = pending.files[int(look[0].name)]
                if look in pending.tickets or isinstance(found, DataError):
                    continue
                span = Span(str(found.path), 0, found.size)
                task = Check(span, *look, self.rule, _label(group, int(look[0].name)))
                pending.tickets[look] = self.pool.submit(task)
                self.waiting += 1
        return pending

    def collect(self, pending: Pending) -> Sample:
        """The sample of a group, its media waited for."""
        seen = {look: self._seen(ticket) for look, ticket in pending.tickets.items()}
        group, files = pending.group, _read(pending)
        names = member_names(_kinds(group), [f.extension if isinstance(f, Found) else "" for f in pending.files])
        sample = Sample(group.sample, {}, Tally(), [])
        for record in group.records:
            looks = self._looks(record)
            problems = [files[int(medium.name)] for medium, _ in looks] + [seen.get(look) for look in looks]
            if problem := next((p for p in problems if isinstance(p, DataError)), None):
                sample.quarantined.append(_quarantined(record, group, problem))
                sample.tally.quarantined[problem.cause] += 1
                continue
            shown = [seen[look] for look in looks]
            final = _finished(record, names, looks, [s for s in shown if isinstance(s, Checked)], sample.tally)
            sample.members[f"{record.name}.json" if record.name else "json"] = final.to_json()
        if sample.members:
            sample.members |= {n: f for n, f in zip(names, files, strict=True) if isinstance(f, bytes)}
            _count_files(group, seen, sample.tally)
        for found in pending.files:
            if isinstance(found, Found):
                self.media.done(found.path)
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

    def _seen(self, ticket: int) -> Checked | DataError:
        self.waiting -= 1
        try:
            return self.pool.collect(ticket)
        except DataError as error:
            return error
        except RuntimeError as error:  # the decoder failed in a way that it does not know itself
            return DataError(str(error).strip().rpartition("\n")[2], "cannot be decoded")


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


def _label(group: Group, number: int) -> str:
    ref = group.files[number]
    return ref.name or f"the {_kinds(group)[number]} in {group.records[0].origin}"


def _read(pending: Pending) -> list[bytes | DataError]:
    """The files themselves."""
    result: list[bytes | DataError] = []
    for number, found in enumerate(pending.files):
        if isinstance(found, DataError):
            result.append(found)
            continue
        payload = found.path.read_bytes()
        changed = DataError(f"{_label(pending.group, number)} changed while it was packed; pack again", "missing media")
        result.append(payload if len(payload) == found.size else changed)
    return result


def _finished(record: Planned, names: list[str], looks: list[Look], shown: list[Checked], tally: Tally) -> Record:
    """The record as it goes into the shard, counted."""
    fields: dict[str, Any] = {k: v for k, v in record.fields.items() if k != "use_audio_in_video"}
    if record.source_key is not None and record.source_key != record.key:
        fields["metadata"] = {**fields.get("metadata", {}), KEPT_KEY: record.source_key}
    heard = [checked.heard for (medium, _), checked in zip(looks, shown, strict=True) if medium.kind == "video"]
    if heard:
        fields["use_audio_in_video"] = all(heard)
        tally.sound["with" if all(heard) else "mixed" if any(heard) else "without"] += 1
    media = [replace(medium, name=names[int(medium.name)]).to_fields() for medium, _ in looks]
    tally.records += 1
    tally.problem_types[fields.get("problem_type", "exact")] += 1
    return record_from_fields({**fields, "media": media}, record.key)


def _count_files(group: Group, seen: dict[Look, Checked | DataError], tally: Tally) -> None:
    tally.samples += 1
    kinds = _kinds(group)
    facts = {int(look[0].name): checked for look, checked in seen.items() if isinstance(checked, Checked)}
    for number, checked in facts.items():
        tally.media[kinds[number]] += 1
        parts = [name for name, there in (("picture", checked.picture), ("sound", checked.sound)) if there]
        tally.streams["image" if kinds[number] == "image" else " and ".join(parts)] += 1
        tally.seconds += checked.seconds
        tally.picture_seconds += checked.seconds if checked.picture else 0.0
        tally.sound_seconds += checked.seconds if checked.sound else 0.0


def _quarantined(record: Planned, group: Group, error: DataError) -> Quarantined:
    names = [_label(group, int(medium.name)) for medium in record.media]
    return Quarantined(record.source_key or record.key, record.origin, names, error.cause, str(error))
