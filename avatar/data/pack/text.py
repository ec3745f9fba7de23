"""Records from text: a JSON object a line, or one array of objects, read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from avatar.data.pack.formats import Row, SourceFormat
from avatar.errors import DataError

MAX_RECORD = 16 * 2**20  # bytes of a line, characters of an object in an array
CHUNK = 2**20
_BOM = b"\xef\xbb\xbf"


class TextFormat(SourceFormat):
    """A format whose records stand in one file, as JSON lines or as a JSON array."""

    def files(self) -> list[Path]:
        """The file itself."""
        return [self.source]

    def rows(self) -> Iterator[Row]:
        """Line by line, or object by object."""
        return text_rows(self.source)


def text_rows(file: Path) -> Iterator[Row]:
    """The records of a file: of an array where its first character is ``[``, else one a line.

    A line that is no JSON object, is no UTF-8 or is longer than ``MAX_RECORD`` costs that record alone.

    Raises:
        DataError: An array is no JSON, so that all that follows is in doubt.
    """
    with file.open("rb") as stream:
        start = stream.read(CHUNK).removeprefix(_BOM).lstrip()
    return _array(file) if start.startswith(b"[") else _lines(file)


def _lines(file: Path) -> Iterator[Row]:
    with file.open("rb") as stream:
        number = 0
        while raw := stream.readline(MAX_RECORD + 1):
            number += 1
            origin = f"{file.name}:{number}"
            if len(raw) > MAX_RECORD:
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(CHUNK)
                message = f"the line is longer than {MAX_RECORD // 2**20} MB; media belong in files of their own"
                yield Row(origin, None, DataError(message, "too large"))
            elif raw := raw.removeprefix(_BOM).strip():
                yield _row(origin, raw)


def _row(origin: str, raw: bytes) -> Row:
    try:
        return _checked(origin, json.loads(raw.decode(), parse_constant=_refuse))
    except UnicodeDecodeError as error:
        return Row(origin, None, DataError(f"the line is not UTF-8 (byte {error.start + 1})"))
    except (ValueError, RecursionError) as error:
        return Row(origin, None, DataError(f"the line is not JSON ({error})"))


def _checked(origin: str, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(origin, value)
    return Row(origin, None, DataError(f"a record must be a JSON object, got {type(value).__name__}"))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _array(file: Path) -> Iterator[Row]:
    # A byte that is no UTF-8 becomes a lone surrogate, which is found out when its record is written.
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        items = _Items(file, stream)
        for number, value in enumerate(items.all(), 1):
            yield _checked(f"{file.name}#{number}", value)


class _Items:
    """The items of a JSON array, decoded one by one from a window on the text."""

    def __init__(self, file: Path, stream: TextIO) -> None:
        self.file, self.stream = file, stream
        self.decoder = json.JSONDecoder(parse_constant=_refuse)
        self.window, self.at, self.number = "", 0, 0

    def all(self) -> Iterator[Any]:
        opened = self._next_character()
        assert opened == "["
        self.at += 1
        if self._next_character() == "]":
            self._end()
            return
        while True:
            self.number += 1
            yield self._value()
            separator = self._next_character()
            self.at += 1
            if separator == "]":
                self.at -= 1
                self._end()
                return
            if separator != ",":
                raise self._broken("a comma or ] is missing behind it")
            self._next_character()

    def _value(self) -> Any:
        grow = CHUNK
        while True:
            try:
                value, self.at = self.decoder.raw_decode(self.window, self.at)
                return value
            except (ValueError, RecursionError) as error:
                if len(self.window) - self.at > MAX_RECORD or isinstance(error, RecursionError) or not self._more(grow):
                    raise self._broken(str(error)) from None
                grow *= 2

    def _next_character(self) -> str:
        """The next one that is no white space, "" at the end; the window then begins with it."""
        while True:
            while self.at < len(self.window) and self.window[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.window):
                return self.window[self.at]
            if not self._more(CHUNK):
                return ""

    def _more(self, size: int) -> bool:
        text = self.stream.read(size)
        self.window, self.at = self.window[self.at :] + text, 0
        return bool(text)

    def _end(self) -> None:
        self.at += 1
        if rest := self._next_character():
            raise self._broken(f"{rest!r} stands behind the array's end")

    def _broken(self, why: str) -> DataError:
        return DataError(
            f"{self.file}: the file is not JSON at or behind its record {self.number} ({why}). Correct it there, or "
            "write one record a line (JSONL), where a broken one costs nothing but itself"
        )
