"""What a source format is: from the way in which somebody wrote a dataset down to the fields of our schema."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from avatar.errors import DataError
from avatar.registry import Registry


@dataclass(frozen=True)
class Row:
    """One record as the source has it.

    Attributes:
        origin: Where it stands: ``train.jsonl:17`` is a line, ``train.json#17`` the 17th of an array.
        fields: What stands there; None where that cannot be read.
        error: Why not.
    """

    origin: str
    fields: dict[str, Any] | None
    error: DataError | None = None


@dataclass(frozen=True)
class Embedded:
    """A file that stands in the source itself, as bytes.

    Attributes:
        payload: The file.
        name: What it was called, or None.
    """

    payload: bytes = field(repr=False)
    name: str | None = None


@dataclass(frozen=True)
class Shown:
    """A medium of a source record.

    Attributes:
        kind: ``video``, ``image`` or ``audio``.
        file: A path below the media root, or the file itself.
        start: Seconds into the file where it begins; None is its beginning.
        end: Seconds into the file where it ends; None is its end.
    """

    kind: str
    file: str | Embedded
    start: Any = None
    end: Any = None


@dataclass(frozen=True)
class Draft:
    """A source record in the fields of our schema, not yet checked.

    Attributes:
        key: What the source calls it, or None.
        fields: Fields of :class:`avatar.data.schema.Record` but for ``key`` and ``media``.
        media: What it shows, in order.
    """

    key: str | None
    fields: dict[str, Any]
    media: list[Shown]


class SourceFormat(ABC):
    """One way in which datasets are written down.

    Args:
        source: The file or folder, or a pattern of files.

    Attributes:
        unique_keys: Whether two records of one key are a mistake; else the later ones get a number behind it.
        says_sound: Whether a record that does not say ``use_audio_in_video`` means that it is not to be heard.
    """

    unique_keys: ClassVar[bool] = False
    says_sound: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        self.source = source

    @classmethod
    @abstractmethod
    def fits(cls, row: dict[str, Any]) -> bool:
        """Whether a record looks like one of this format; what ``auto`` goes by."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that the records stand in, in order."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """All records in order, the same at each call. Only one at a time is held in memory.

        Raises:
            DataError: The source is broken in a way that leaves it open where its next record begins.
        """

    @abstractmethod
    def read(self, row: dict[str, Any]) -> Draft:
        """From a record of the source to our fields.

        Raises:
            DataError: It cannot be read without guessing; the message need not say where it stands.
        """


FORMATS: Registry[type[SourceFormat]] = Registry("source format", "formats")
