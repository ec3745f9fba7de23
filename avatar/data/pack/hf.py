"""Hugging Face datasets on disk: saved ones, parquet, and folders of media with a table of metadata."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from avatar.data.pack.conversations import ConversationsFormat
from avatar.data.pack.formats import FORMATS, Draft, Row, SourceFormat
from avatar.data.pack.messages import MessagesFormat
from avatar.data.pack.ours import OursFormat
from avatar.data.pack.shapes import kind_of
from avatar.data.pack.text import text_rows
from avatar.data.schema import MEDIA_KINDS
from avatar.errors import ConfigError, DataError

BATCH = 16  # rows that are held at a time: each may hold a clip
TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_SPLIT = "-[0-9][0-9][0-9][0-9][0-9]-of-*"  # what the library puts behind the name of a split


def is_hf_source(path: Path) -> bool:
    """Whether it is a saved dataset, a table that only this format reads (also by a pattern), or a folder with one."""
    if "*" in path.name:
        return True
    if path.is_file():
        return path.suffix in (".parquet", ".arrow", ".csv")
    marks = ("state.json", "dataset_dict.json", *TABLES)
    return path.is_dir() and (any((path / mark).exists() for mark in marks) or bool(_parquet(path)))


@FORMATS.register("hf")
class HuggingFaceFormat(SourceFormat):
    """A dataset in a Hugging Face layout on disk; its rows are like those of any other format.

    Read are a folder that ``save_to_disk`` wrote; a folder of parquet files, or one of them, or a pattern such as
    ``data/train-*.parquet``; and a folder of media with ``metadata.jsonl``, ``.csv`` or ``.parquet``, whose column
    ``file_name`` (or ``video_file_name``, ``image_file_names`` ...) names them. Columns of videos, images and sounds
    hold ``{"bytes", "path"}`` and are not decoded; nothing of the dataset is executed, and nothing is fetched.
    """

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._files = _find_files(source)

    @classmethod
    def fits(cls, row: dict[str, Any]) -> bool:
        """No: it is known by its files."""
        return False

    def files(self) -> list[Path]:
        """The tables, in order."""
        return self._files

    def rows(self) -> Iterator[Row]:
        """Row by row; of a table no more than ``BATCH`` are held."""
        for file in self._files:
            for row in _table_rows(file):
                fields = row.fields
                yield row if fields is None else Row(row.origin, {k: _dense(v) for k, v in fields.items()}, row.error)

    def read(self, row: dict[str, Any]) -> Draft:
        """As the first of the other formats that it looks like."""
        row = {name: value for name, value in row.items() if value is not None}
        row = _with_file_names(row)
        return _shape(row)(self.source).read(row)


def _shape(row: dict[str, Any]) -> type[SourceFormat]:
    """The format that a row is written in."""
    if "media" in row:
        return OursFormat
    if "messages" in row:
        return MessagesFormat
    if {"conversations", "conversation", "problem", "question"} & set(row):
        return ConversationsFormat
    raise DataError(
        f"the columns ({', '.join(row)}) are those of no format: wanted are messages, or conversations, or a question "
        "(or problem) with an answer (or solution)"
    )


def _find_files(source: Path) -> list[Path]:
    if "*" in source.name:
        files = sorted(file for file in source.parent.iterdir() if fnmatch(file.name, source.name))
        if not files:
            raise ConfigError(f"{source}: no file is called so")
        return files
    if source.is_file():
        return [source]
    if (source / "dataset_dict.json").exists():
        splits = json.loads((source / "dataset_dict.json").read_text()).get("splits", [])
        return _find_files(source / str(_only(splits, source)))
    if (source / "state.json").exists():
        listed = json.loads((source / "state.json").read_text()).get("_data_files", [])
        return [_listed(source / Path(str(entry["filename"])).name) for entry in listed]
    tables = [source / name for name in TABLES if (source / name).exists()]
    if tables:
        return tables[:1]
    files = _parquet(source)
    splits = sorted({_split_of(file.relative_to(source)) for file in files})
    _only(splits, source, f"{source}/{files[0].parent.relative_to(source)}/{splits[0]}-*.parquet" if files else "")
    return files


def _listed(file: Path) -> Path:
    if not file.is_file():
        raise DataError(f"{file}: state.json lists this file, but it is not there", "missing media")
    return file


def _parquet(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")])


def _split_of(file: Path) -> str:
    """The split by the name ``train-00000-of-00002.parquet``, else by the folder; parts without either are one."""
    return file.name.rsplit("-of-")[0].rpartition("-")[0] if fnmatch(file.name, f"*{_SPLIT}") else file.parent.name


def _only(splits: list[str], source: Path, example: str = "") -> str:
    if len(splits) == 1:
        return splits[0]
    example = example or (f"{source}/{splits[0]}" if splits else "")
    raise ConfigError(
        f"{source} holds {len(splits)} splits ({', '.join(splits)}); pack one at a time"
        + (f", as {example}" if example else "")
    )


def _table_rows(file: Path) -> Iterator[Row]:
    if file.suffix == ".jsonl":
        yield from text_rows(file)
    elif file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
            for number, fields in enumerate(csv.DictReader(stream), 1):
                yield Row(f"{file.name}#{number}", {k: v for k, v in fields.items() if k and v not in (None, "")})
    else:
        for number, fields in enumerate(_arrow_rows(file), 1):
            yield Row(f"{file.name}#{number}", fields)


def _arrow_rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            f"{file}: parquet and arrow files are read with a package that is not installed; install it with: "
            "pip install 'avatar-rl[hf]'"
        ) from None
    try:
        if file.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=BATCH):
                    yield from batch.to_pylist()
            return
        with pyarrow.memory_map(str(file)) as memory, pyarrow.ipc.open_stream(memory) as stream:
            for batch in stream:
                for start in range(0, len(batch), BATCH):
                    yield from batch.slice(start, BATCH).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: the table cannot be read ({str(error).partition(chr(10))[0]})") from None


def _dense(value: Any) -> Any:
    """Without the empty fields that a table has where rows differ."""
    if isinstance(value, dict):
        return {name: _dense(item) for name, item in value.items() if item is not None}
    return [_dense(item) for item in value] if isinstance(value, list) else value


def _with_file_names(row: dict[str, Any]) -> dict[str, Any]:
    """With ``file_name`` and its like put where the other formats look for media."""
    named = [
        name for name in row if name in ("file_name", "file_names") or name.endswith(("_file_name", "_file_names"))
    ]
    result = {name: value for name, value in row.items() if name not in named}
    for name in named:
        values = row[name] if isinstance(row[name], list) else [row[name]]
        told = name.partition("_file_name")[0]
        for value in values:
            kind = told if told in MEDIA_KINDS else kind_of(str(value))
            before = result.get(f"{kind}s", [])
            result[f"{kind}s"] = [*(before if isinstance(before, list) else [before]), value]
    return result
