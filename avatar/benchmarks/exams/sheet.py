"""Replies as they come, kept over a kill: a question that was answered is not asked again."""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from itertools import count
from pathlib import Path
from typing import IO, Any

from avatar.benchmarks.writing import encoded, naming_file, write_whole
from avatar.errors import ConfigError, DataError

Row = dict[str, Any]
RESULTS = tuple(f"{rule}.results.{kind}" for rule in ("", "-official", "-authors") for kind in ("json", "md"))


class AnswerSheet:
    """The replies to one benchmark by one model under one recipe.

    Those of a run that goes on lie in ``STEM.partial-RANK.jsonl``, a file for each process, a line for each reply,
    written batch by batch. Those of a finished run lie in ``STEM.predictions.jsonl`` in the order of the questions.
    Each line says what it was made with, so that replies of another model or recipe are not taken over.

    Args:
        stem: Path without its endings.
        stamp: What the replies are made with.
        rank: Of this process.
    """

    def __init__(self, stem: Path, stamp: str, rank: int = 0) -> None:
        self.stem, self.stamp, self.rank = stem, stamp, rank
        self._lock: IO[bytes] | None = None

    # -- who writes --------------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Keep other runs of the same command out until :meth:`unlock`, or while this process lives.

        A disk that knows no locks gives a warning in place of one.

        Raises:
            ConfigError: Another run is at work.
            AvatarError: The folder cannot be written.
        """
        path = self.stem.with_name(f".{self.stem.name}.lock")
        with naming_file(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise ConfigError(
                f"another run is answering {self.stem.name} into {self.stem.parent}. Wait for it or stop it, or give "
                "this one another --trainer.default_root_dir"
            ) from None
        except OSError as error:
            warnings.warn(
                f"{path} cannot be locked ({error.strerror}): start no second run like this one", stacklevel=2
            )

    def unlock(self) -> None:
        """Let others in; twice is fine."""
        if self._lock:
            self._lock.close()
            self._lock = None

    # -- what is written ---------------------------------------------------------------------------------------------

    @property
    def finished(self) -> Path:
        """Where the replies of a finished run lie."""
        return self.stem.with_name(f"{self.stem.name}.predictions.jsonl")

    @property
    def mine(self) -> Path:
        """Where this process writes."""
        return self.stem.with_name(f"{self.stem.name}.partial-{self.rank}.jsonl")

    def partial(self) -> list[Path]:
        """What processes have left of runs that were not finished."""
        begin, end = f"{self.stem.name}.partial-", ".jsonl"
        folder = self.stem.parent
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        return [folder / name for name in names if name.startswith(begin) and name.endswith(end)]

    def answered(self, asked: Mapping[str, str]) -> dict[str, Row]:
        """The replies that stand already, by question; of each question the first.

        Args:
            asked: What each question is now, by its key: a reply to what was then another question is not taken.
        """
        found: dict[str, Row] = {}
        for path in (self.finished, *self.partial()):
            for row in _whole_lines(path):
                key, made = row.get("id"), (row.get("stamp"), row.get("asked"))
                if isinstance(key, str) and key in asked and made == (self.stamp, asked[key]):
                    found.setdefault(key, row)
        return found

    def add(self, rows: Sequence[Row]) -> None:
        """Write the replies of a batch, and see them on the disk.

        Raises:
            AvatarError: They cannot be written; those before them are kept.
        """
        with naming_file(self.mine):
            self.mine.parent.mkdir(parents=True, exist_ok=True)
            with self.mine.open("ab", buffering=0) as file:
                whole = file.tell()
                new = b"" if not whole or _ends_with_line(self.mine) else b"\n"
                new += encoded("".join(map(self._line, rows)))
                try:
                    _write_all(file, new)
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(whole)
                    raise

    def finish(self, rows: Sequence[Row]) -> None:
        """Write all replies of a finished run, whole or not at all, and remove what processes have left.

        Replies of another model or to other questions that would be replaced are put aside, as ``STEM.1`` and so on.

        Raises:
            AvatarError: They cannot be written; what processes have left is kept.
        """
        self._put_aside(rows)
        write_whole(self.finished, "".join(map(self._line, rows)))
        for path in self.partial():
            with naming_file(path):
                path.unlink()

    def _put_aside(self, rows: Sequence[Row]) -> None:
        """Rename a finished run that holds a reply which is not among ``rows``, with its results by every rule."""
        new = {(row["id"], self.stamp, row.get("asked")) for row in rows}
        old = [row for row in _whole_lines(self.finished) if row.get("output") is not None]
        if all((row.get("id"), row.get("stamp"), row.get("asked")) in new for row in old):
            return
        name = self.stem.name
        free = next(n for n in count(1) if not self.stem.with_name(f"{name}.{n}.predictions.jsonl").exists())
        for ending in (".predictions.jsonl", *RESULTS):
            path = self.stem.with_name(f"{name}{ending}")
            if path.exists():
                with naming_file(path):
                    path.rename(self.stem.with_name(f"{name}.{free}{ending}"))

    def forget(self) -> None:
        """Remove all replies: every question is asked anew."""
        for path in (self.finished, *self.partial()):
            with naming_file(path):
                path.unlink(missing_ok=True)

    def _line(self, row: Row) -> str:
        kept = {name: value for name, value in row.items() if name != "stamp"}
        return json.dumps({**kept, "stamp": self.stamp}, ensure_ascii=False) + "\n"


def _write_all(file: FileIO, content: bytes) -> None:
    """A disk that is nearly full takes a part, and says so at the next attempt alone."""
    while content:
        content = content[file.write(content) :]


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _whole_lines(path: Path) -> Iterator[Row]:
    """The rows of a file; what a kill or a full disk has cut off is left out: that question is asked again."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row


def read_predictions(path: Path) -> list[Row]:
    """The rows of ``STEM.predictions.jsonl``.

    Raises:
        DataError: It cannot be read, a line is no row with an ``id`` and an ``output``, or an id comes twice.
    """
    rows: dict[str, Row] = {}
    where = f"{path}"
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path}:{number}"
                    row = _checked(json.loads(line), where)
                    if rows.setdefault(str(row["id"]), row) is not row:
                        raise DataError(f"{where}: a second reply to {row['id']!r}; leave one of the two")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: no file of predictions ({error})") from None
    return list(rows.values())


def _checked(row: Any, where: str) -> Row:
    wanted = isinstance(row, dict) and isinstance(row.get("id"), (str, int)) and "output" in row
    if not wanted or not isinstance(row["output"], (str, type(None))):
        raise DataError(f"{where}: no row of predictions: it needs an 'id' and an 'output'")
    return dict(row)
