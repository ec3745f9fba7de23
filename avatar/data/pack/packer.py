"""``avatar data pack``: every record ends in a shard that training can read, or in a list that says why not."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from avatar.data.media import require_ffmpeg
from avatar.data.pack.check import check
from avatar.data.pack.files import MediaFiles
from avatar.data.pack.formats import FORMATS, SourceFormat
from avatar.data.pack.guess import find_source
from avatar.data.pack.manifest import build_manifest, identify
from avatar.data.pack.output import CARRIED, SPOOL, Output, check_place, find_finished
from avatar.data.pack.plan import Plan, Quarantined, make_plan
from avatar.data.pack.samples import Pending, Samples
from avatar.data.pack.show import Bar, print_summary
from avatar.data.rules import ClipRule
from avatar.data.schema import PROBLEM_TYPES
from avatar.data.workers import WorkerPool
from avatar.errors import ConfigError, DataError

AHEAD = 4  # things to look at that are given out ahead, for each worker
UseAudio = Literal["record", "auto", "true", "false"]


@dataclass(frozen=True)
class Options:
    """All that the result depends on, but for the source."""

    use_audio: str
    max_shard_mb: int
    problem_types: Sequence[str] | None
    max_audio_seconds: float
    time_limit: float

    @property
    def rule(self) -> ClipRule:
        """How clips are decoded."""
        return ClipRule(max_audio_seconds=self.max_audio_seconds, time_limit=self.time_limit)

    def __post_init__(self) -> None:
        if self.max_shard_mb < 1:
            raise ConfigError(f"--max_shard_mb must be at least 1, got {self.max_shard_mb}")
        if unknown := sorted(set(self.problem_types or []) - set(PROBLEM_TYPES)):
            raise ConfigError(f"--problem_types: {unknown[0]!r} is none of {', '.join(PROBLEM_TYPES)}")
        _ = self.rule  # checks the rest


def pack(
    source: str,
    *,
    out: str,
    format: str = "auto",
    media_root: str | None = None,
    use_audio: UseAudio | None = None,
    max_shard_mb: int = 512,
    jobs: int = 0,
    problem_types: list[str] | None = None,
    max_audio_seconds: float = 300.0,
    time_limit: float = 60.0,
    max_failed_share: float = 1.0,
    overwrite: bool = False,
) -> int:
    """Write a dataset to shards; exit 1 if nothing could be packed, or too little of it.

    Every clip is decoded on the way, as training will do it. What cannot be packed is listed in OUT/quarantine.jsonl
    with the reason. A run that was interrupted goes on where it stopped, with the same command.

    Args:
        source: File or folder of the dataset; of parquet files also a pattern such as 'data/train-*.parquet'.
        out: Folder to write to. It appears when it is whole; until then it is OUT.partial.
        format: How the dataset is written down: jsonl (our own), messages (ms-swift), conversations (Video-R1, EchoInk,
            LLaVA), hf (Hugging Face datasets), or auto, by a look at it.
        media_root: Folder that the media's paths start from, and that all of them must lie in; by default the folder
            of the source.
        use_audio: Whether videos are heard: record, as each record says; auto, as it says, or if it does not, where
            every video of it has a sound track; true; false. By default record for jsonl and auto for the others.
        max_shard_mb: Bound of a shard's size; only a sample that is larger by itself has a larger one.
        jobs: Processes that look at the media; 0 is one for each core.
        problem_types: Pack records of these types only (number, choice, exact, ocr, free, location), as
            '[choice,number]'.
        max_audio_seconds: Sound longer than this is not packed; data.max_audio_seconds of the training must allow it.
        time_limit: Seconds that decoding one clip may take.
        max_failed_share: Exit 1 if more than this share of the records had to be left in quarantine.
        overwrite: Replace another pack that lies there, or an interrupted one of other options.
    """
    found, name = find_source(source, format)
    reader = FORMATS[name](found)
    sound = use_audio or ("record" if reader.says_sound else "auto")
    types = list(problem_types) if problem_types else None
    options = Options(sound, max_shard_mb, types, max_audio_seconds, time_limit)
    root, folder, console = _media_root(found, media_root), Path(out), Console()
    check_place(folder, {"the source": found, "the media": root})
    identity = identify(reader, name, root, asdict(options))
    manifest = find_finished(folder, identity, overwrite)
    if manifest is None:
        require_ffmpeg()
        with closing(Output(folder, identity, max_shard_mb, overwrite)) as output, _going_on(output.partial, console):
            manifest = _Packing(reader, root, options, output, console).run(jobs or _num_cores())
            output.publish(manifest)
    else:
        console.print(
            Text(f"{folder} holds this pack already; to make it again, pass --overwrite true"), soft_wrap=True
        )
    print_summary(console, str(folder), manifest)
    return _status(manifest, max_failed_share)


@contextmanager
def _going_on(partial: Path, console: Console) -> Iterator[None]:
    """Say what becomes of a run that ends before its time."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(Text(f"{partial} holds what is done; the same command goes on from there"), soft_wrap=True)
        raise
    except OSError as error:
        raise DataError(
            f"{partial}: writing stopped ({error}). What is done stays; when that is mended the same command goes on"
        ) from error


@dataclass(frozen=True)
class _Packing:
    """One run."""

    reader: SourceFormat
    root: Path
    options: Options
    output: Output
    console: Console

    def run(self, jobs: int) -> dict[str, Any]:
        """Write all shards that are not written yet; returns the manifest."""
        rule, output = self.options.rule, self.output
        pool = WorkerPool(check, jobs, rule.time_limit, rule.max_decoded_mb, "--time_limit")
        with Bar(self.console) as bar, closing(pool):
            plan = self._plan(bar)
            bar.start(len(plan), output.start)
            self._pack(plan, Samples(pool, self._media(), rule, self.options.use_audio, AHEAD * jobs), bar)
        output.finish(len(plan))
        return build_manifest(output.identity, output.journal.entries, output.tally, plan.num_rows, plan.num_left_out)

    def _plan(self, bar: Bar) -> Plan:
        def refuse(quarantined: Quarantined) -> None:
            self.output.refuse(quarantined)
            bar.quarantine(1)

        return make_plan(self.reader, self.output.partial / SPOOL, refuse, self.options.problem_types, bar.row)

    def _media(self) -> MediaFiles:
        return MediaFiles(self.root, self.reader, self.output.partial / CARRIED)

    def _pack(self, plan: Plan, samples: Samples, bar: Bar) -> None:
        """Have the media of the next groups looked at while those of the first are written."""
        pending: deque[Pending] = deque()
        number = self.output.start

        def take_first() -> None:
            nonlocal number
            first = pending.popleft()
            sample = samples.collect(first)
            self.output.take(sample, number)
            bar.sample(len(first.group.files))
            bar.quarantine(len(sample.quarantined))
            number += 1

        for group in plan.groups(self.output.start):
            pending.append(samples.submit(group))
            while samples.full or len(pending) > samples.ahead:
                take_first()
        while pending:
            take_first()


def _media_root(source: Path, given: str | None) -> Path:
    """The folder that was given, or that of the source."""
    root = Path(given) if given else source if source.is_dir() else source.parent
    if not root.is_dir():
        raise ConfigError(f"--media_root {root}: no such folder")
    return root


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _status(manifest: Mapping[str, Any], max_failed_share: float) -> int:
    """1 if nothing was packed, or too much was not."""
    counts = manifest["counts"]
    tried = counts["records"] + counts["quarantined"]
    return int(not counts["records"] or counts["quarantined"] > max_failed_share * tried)
