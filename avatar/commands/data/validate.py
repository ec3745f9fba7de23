"""``avatar data validate``: everything decoded once, before anybody trains on it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from avatar.data.dataset import PromptDataset, start_decoders
from avatar.data.rules import FACTOR, ClipRule
from avatar.data.skipped import Failure, print_failures
from avatar.types import Prompt


@dataclass
class Totals:
    """What was decoded."""

    questions: int = 0
    clips: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds_of_sound: float = 0.0

    def add(self, prompt: Prompt) -> None:
        """Count a prompt, and each of its clips once."""
        self.questions += 1
        for clip in prompt.clips:
            if clip.key in self.clips:
                continue
            self.clips.add(clip.key)
            self.kinds[clip.kind if clip.kind != "video" or clip.audio is None else "video with sound"] += 1
            if clip.audio is not None:
                self.seconds_of_sound += len(clip.audio) / clip.sample_rate


def validate(folder: str, jobs: int = 0, time_limit: float = 60.0, max_audio_seconds: float = 300.0) -> int:
    """Decode every clip that a question of a shard folder shows; exit 1 if a clip or a question cannot be read.

    Args:
        folder: Holds ``*.tar``, or its address.
        jobs: Processes that decode; 0 is one a core.
        time_limit: Seconds that reading and decoding one record may take.
        max_audio_seconds: A longer sound is an error.
    """
    rule = ClipRule(min_pixels=FACTOR**2, time_limit=time_limit, max_audio_seconds=max_audio_seconds)
    jobs = jobs or os.cpu_count() or 1
    dataset = PromptDataset([folder], rule=rule, decoders=start_decoders(jobs, rule, "--time_limit"), hints="auto")
    totals, failures = Totals(), dict[str, Failure]()
    for item in track(dataset.stream(range(len(dataset)), 4 * jobs), "validating", len(dataset)):
        if isinstance(item, Failure):
            failures.setdefault(item.reason, item)  # once for a clip, however many questions show it
        else:
            totals.add(item)
    _print(folder, totals, len(dataset), list(failures.values()))
    for note in dataset.overlays[0].notes:
        Console().print(Text(note), soft_wrap=True)
    return 1 if failures else 0


def _print(folder: str, totals: Totals, num_questions: int, failures: list[Failure]) -> None:
    table = Table(title=Text(folder, "table.title"), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("questions", str(num_questions))
    table.add_row("clips", str(len(totals.clips)))
    for kind, count in sorted(totals.kinds.items()):
        table.add_row(f"  {kind}", str(count))
    table.add_row("unreadable", str(len(failures)))
    table.add_row("hours of sound", f"{totals.seconds_of_sound / 3600:.2f}")
    Console().print(table)
    if failures:
        print_failures(failures, f"{len(failures)} cannot be read", most=100)
