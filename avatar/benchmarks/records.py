"""Records of annotation files, and the fields that most benchmarks have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from avatar.benchmarks.files import read_json, read_json_lines, take
from avatar.errors import ConfigError, DataError


def read_records(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """(where, record) of each record of a table: JSON lines, a JSON list, a JSON object of lists, or parquet.

    Args:
        path: The table.
        columns: Those to read of a parquet table, as far as it has them; empty for all.

    Raises:
        DataError: It cannot be read, or is none of these.
        ConfigError: It is parquet, and what reads that is not installed.
    """
    if path.suffix == ".jsonl":
        yield from read_json_lines(path)
        return
    rows = _parquet_rows(path, columns) if path.suffix == ".parquet" else _json_rows(path)
    for number, row in enumerate(rows, 1):
        yield f"{path}#{number}", row


def parquet_columns(path: Path) -> list[str]:
    """The names of the columns.

    Raises:
        DataError: It cannot be read.
        ConfigError: What reads it is not installed.
    """
    with _open_parquet(path) as table:
        return list(table.schema_arrow.names)


def take_texts(record: Any, name: str, where: str) -> tuple[str, ...]:
    """A field that is a list of texts.

    Raises:
        DataError: It is missing or anything else.
    """
    values = take(record, name, list, where)
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise DataError(f"{where}: field {name!r} must hold texts, got {wrong[0]!r:.80}", "broken annotation")
    return tuple(values)


def take_options(record: Any, name: str, where: str) -> tuple[str, ...]:
    """A field that is a list of options: two at least, and no more than there are letters.

    Raises:
        DataError: It is missing or anything else.
    """
    options = take_texts(record, name, where)
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise DataError(f"{where}: field {name!r} must hold 2 to 26 options, got {len(options)}", "broken annotation")
    return options


def take_letter(record: Any, name: str, options: Sequence[str], where: str) -> str:
    """A field that is the letter of one of ``options``.

    Raises:
        DataError: It is missing or anything else.
    """
    letter = take(record, name, str, where).strip()
    letters = ascii_uppercase[: len(options)]
    if len(letter) != 1 or letter not in letters:
        raise DataError(
            f"{where}: field {name!r} must be the letter of an option, A to {letters[-1]}, got {letter!r:.80}",
            "broken annotation",
        )
    return letter


def unique_keys(ids: Iterable[str]) -> Iterator[str]:
    """The ids, with ``#2``, ``#3`` behind those that came before; they stay the same where records are added behind."""
    seen: Counter[str] = Counter()
    for key in ids:
        seen[key] += 1
        yield key if seen[key] == 1 else f"{key}#{seen[key]}"


def _json_rows(path: Path) -> Sequence[Any]:
    content = read_json(path)
    if isinstance(content, list):
        return content
    if not isinstance(content, Mapping) or not all(isinstance(column, list) for column in content.values()):
        raise DataError(f"{path}: must be a list of records, or an object of columns, each a list", "broken annotation")
    lengths = {name: len(column) for name, column in content.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: its columns differ in length: {lengths}", "broken annotation")
    return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    wanted = [name for name in parquet_columns(path) if not columns or name in columns]
    with _open_parquet(path) as table:
        try:
            for batch in table.iter_batches(columns=wanted):
                yield from batch.to_pylist()
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: the table cannot be read ({error})", "broken annotation") from None


def _open_parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            f"{path}: parquet files are read with a package that is not installed; install it with: "
            "pip install 'avatar-rl[hf]'"
        ) from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (ValueError, OSError) as error:  # pyarrow's own errors are of these kinds
        raise DataError(f"{path}: the table cannot be read ({error})", "broken annotation") from None


def take_lettered(record: Any, name: str, where: str) -> tuple[str, ...]:
    """The texts of a field such as ``{"A": "dog", "B": "cat", "C": ""}``, less blank ones at the end.

    Raises:
        DataError: It is missing or something else, letters are left out, or nothing is left.
    """
    found = take(record, name, dict, where)
    if list(found) != list(ascii_uppercase[: len(found)]):
        raise DataError(f"{where}: field {name!r} must have keys A, B, C, ..., has {list(found)}", "broken annotation")
    texts = [take(found, letter, str, f"{where}: field {name!r}") for letter in found]
    while texts and not texts[-1].strip():
        texts.pop()
    if not texts:
        raise DataError(f"{where}: field {name!r} has no option that is not blank", "broken annotation")
    return tuple(texts)
