"""Which format a source is of, where the user does not say."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from avatar.data.pack.formats import FORMATS
from avatar.data.pack.hf import is_hf_source
from avatar.data.pack.text import text_rows
from avatar.errors import ConfigError

LOOKED_AT = 20  # records


def find_source(source: str, name: str) -> tuple[Path, str]:
    """The file or folder to read and the name of its format.

    A folder with one JSON or JSONL file in it stands for that file.

    Args:
        source: What the user says.
        name: A format, or ``auto``.

    Raises:
        ConfigError: There is no such source or no such format, or more than one format fits, or none.
    """
    path = Path(source)
    if name != "auto":
        FORMATS[name]
    if is_hf_source(path) and name in ("auto", "hf"):
        return path, "hf"
    if not path.exists():
        raise ConfigError(f"{source}: no such file or folder")
    if path.is_dir() and name != "hf":
        path = _only_file(path)
    return path, _guess(path) if name == "auto" else name


def _only_file(folder: Path) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".json", ".jsonl"))
    if len(files) == 1:
        return files[0]
    found = f"{len(files)} of them ({', '.join(file.name for file in files[:5])} ...)" if files else "none"
    raise ConfigError(
        f"{folder}: a folder must hold one JSON or JSONL file, here there is {found}, or be a Hugging Face dataset "
        "(state.json, *.parquet, or metadata.jsonl with a column file_name). Name the file itself"
    )


def _guess(path: Path) -> str:
    """The format of most of the first records; those that are of none will say so in the quarantine."""
    rows = [row.fields for row in islice(text_rows(path), LOOKED_AT) if row.fields]
    counts = {name: sum(FORMATS[name].fits(row) for row in rows) for name in FORMATS}
    most = max(len(rows) // 2 + 1, *counts.values())
    fitting = [name for name, count in counts.items() if count == most]
    if len(fitting) == 1:
        return fitting[0]
    why = f"it could be {' or '.join(fitting)}" if fitting else f"its records look like none of them{_looks(rows)}"
    raise ConfigError(f"{path}: which format is this? Pass --format; known: {', '.join(FORMATS)}. By its look {why}")


def _looks(rows: list[dict[str, Any]]) -> str:
    return f" (fields of the first: {', '.join(rows[0])})" if rows else " (no record can be read)"
