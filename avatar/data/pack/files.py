"""Where the media of a source lie: below the media root, or in the source itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from avatar.data.pack.formats import Embedded, SourceFormat
from avatar.data.pack.plan import FileRef, digest_of
from avatar.data.pack.sniff import HEAD, extension_of
from avatar.errors import DataError


class MediaFiles:
    """Finds the files that records show, and puts those that stand in the source itself into files for a while.

    Args:
        root: Folder that all media must lie in, links followed.
        source: Asked again for the bytes that it holds; in its own order, so that it is read once.
        folder: For files of such bytes.
    """

    def __init__(self, root: Path, source: SourceFormat, folder: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.source, self.folder = source, folder
        self._rows = enumerate(source.rows())
        self._row = -1
        self._held: dict[str, Embedded] = {}  # of the row that was read last, by digest

    def find(self, ref: FileRef, row: int) -> Path:
        """A plain file that holds it.

        Args:
            ref: What to find.
            row: Of a record that shows it; not lower than at the last call.

        Raises:
            DataError: It is missing, no plain file, or outside the root.
        """
        return self._find(ref.name) if ref.digest is None else self._unfold(ref, row)

    def done(self, path: Path) -> None:
        """Remove a file that :meth:`find` has made; one of the user's stays."""
        if path.parent == self.folder:
            path.unlink(missing_ok=True)

    def _find(self, name: str) -> Path:
        try:
            path = Path(os.path.realpath(self.root / name))
            if not path.is_relative_to(self.root):
                raise DataError(
                    f"{name!r} lies outside the media root; pass --media_root a folder that holds all media, or copy "
                    "it there",
                    "not allowed",
                )
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise DataError(
                f"{name!r} cannot be opened below the media root ({why}); put it there, or pass another --media_root",
                "missing media",
            ) from None
        if not stat.S_ISREG(mode):
            raise DataError(f"{name!r} is no plain file", "not allowed")
        return path

    def _unfold(self, ref: FileRef, row: int) -> Path:
        while self._row < row:
            self._row, found = next(self._rows)
            if self._row == row:
                assert found.fields is not None
                self._held = _embedded(self.source, found.fields)
        path = self.folder / f"{row}-{ref.digest}"
        if not path.exists():
            self.folder.mkdir(exist_ok=True)
            path.write_bytes(self._held[str(ref.digest)].payload)
        return path


def _embedded(source: SourceFormat, fields: dict[str, object]) -> dict[str, Embedded]:
    files = [shown.file for shown in source.read(fields).media]
    return {digest_of(file): file for file in files if isinstance(file, Embedded)}


def read_extension(path: Path, name: str) -> str:
    """The extension that the file gets in a shard.

    Raises:
        DataError: It is of no container that may be in one, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise DataError(f"{name!r} cannot be read ({error.strerror})", "missing media") from None
    return extension_of(head, name)
