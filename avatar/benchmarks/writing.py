"""Files that are written whole or not at all, and what is said where that cannot be done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avatar.errors import AvatarError


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and rename it there: a crash leaves the old one or the new one.

    Raises:
        AvatarError: It cannot be written; nothing is left of the attempt.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with naming_file(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(encoded(text))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            if part.parent.is_dir():
                part.unlink(missing_ok=True)
            raise


def encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair as JSON escapes it."""
    return text.encode("utf-8", "backslashreplace")


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Make of what the disk or the folder refuses an error that names the file.

    Raises:
        AvatarError: It could not be written.
    """
    try:
        yield
    except OSError as error:
        raise AvatarError(
            f"{path} cannot be written ({error.strerror or error}). Make room or mend the folder and give the same "
            "command again: what was written before is kept"
        ) from None
