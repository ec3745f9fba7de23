"""Folders of runs: what is in them, who works in them, and how they make room."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avatar.errors import ConfigError

WHOLE, BLOCK = 2**20, 4096  # bytes up to which a file is read whole; else of a block


def fingerprint(folder: str | Path, pattern: str = "*", blocks: int = 256) -> str:
    """A hash of the files in a folder: names, sizes, and content, of files over 1 MB so many blocks of 4 KB.

    What is no folder here (a hub id, an address) is its name.
    """
    if not Path(folder).is_dir():
        return str(folder)
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(folder).rglob(pattern) if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size} ".encode())
        whole = size <= WHOLE
        with path.open("rb") as file:
            for at in [0] if whole else [i * (size - BLOCK) // (blocks - 1) for i in range(blocks)]:
                file.seek(at)
                digest.update(file.read(WHOLE if whole else BLOCK))
    return digest.hexdigest()[:16]


def data_fingerprint(folder: str | Path) -> str:
    """Of shards: an index beside them may come and go."""
    return fingerprint(folder, "*.tar", blocks=8)


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """``key: then -> now`` for every dotted key whose value is not the same."""
    keys = [key for key in {**then, **now} if then.get(key, "unset") != now.get(key, "unset")]
    return [f"{key}: {then.get(key, 'unset')} -> {now.get(key, 'unset')}" for key in keys]


def set_folder_aside(folder: Path) -> Path:
    """Rename a folder to ``name.1``, or the next free number; returns where it lies now."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(aside)


@contextmanager
def locked(out: Path, who: str) -> Iterator[int]:
    """Keep others out of the folder while this process, or one that it has started, lives.

    Args:
        out: The folder; made if it is not there.
        who: May be at work there, for the message.

    Yields:
        The file descriptor that holds the lock, for processes to inherit.

    Raises:
        ConfigError: Another is at work there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{who} is at work in {out}") from None
        yield file.fileno()
