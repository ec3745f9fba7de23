"""Counts of what was packed; those of shards add up to those of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Tally:
    """Counts.

    Attributes:
        records: Questions.
        samples: Sets of files with their questions.
        problem_types: Records by problem type.
        media: Files by what they are shown as.
        streams: Files by what is in them: ``picture and sound``, ``picture``, ``sound``, ``image``.
        sound: Records that show a video, by whether it is heard: ``with``, ``without``, and of the latter ``mixed``,
            where one of several videos has no sound, so that none of them is heard.
        seconds: Length of the files, images being none.
        picture_seconds: Of this, what has a moving picture.
        sound_seconds: Of this, what has sound.
        quarantined: Records that could not be packed, by cause.
    """

    records: int = 0
    samples: int = 0
    problem_types: Counter[str] = field(default_factory=Counter)
    media: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    sound: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    picture_seconds: float = 0.0
    sound_seconds: float = 0.0
    quarantined: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add what ``other`` counted."""
        for f in fields(self):
            mine, its = getattr(self, f.name), getattr(other, f.name)
            if isinstance(mine, Counter):
                mine.update(its)
            else:
                setattr(self, f.name, mine + its)

    def to_json(self) -> dict[str, Any]:
        """Plain values, names in order."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: dict(sorted(v.items())) if isinstance(v, Counter) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tally:
        """The counterpart of :meth:`to_json`."""
        told: dict[str, Any] = {k: Counter(v) if isinstance(v, dict) else v for k, v in values.items()}
        return cls(**told)
