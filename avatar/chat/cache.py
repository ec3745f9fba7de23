"""Replies on disk, by the content of their requests: one small file each."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path

from avatar.chat.request import ChatReply


class BrokenFileError(Exception):
    """A file is there that holds no reply."""


class ReplyCache:
    """Keeps replies; any number of processes may share a folder.

    A file appears whole or not at all, and a later one of the same key takes its place.

    Args:
        folder: Made when the first reply is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the reply to the request of this key is."""
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> ChatReply | None:
        """The reply, without its data, which its text tells; None if there is none.

        Raises:
            BrokenFileError: What is there is cut off or of something else.
        """
        try:
            found = json.loads(self.path(key).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise BrokenFileError(str(error)) from None
        try:
            text, finished, same = found["text"], found["finished"], found["key"] == key
        except (KeyError, TypeError) as error:
            raise BrokenFileError(str(error)) from None
        if not (isinstance(text, str) and isinstance(finished, bool) and same):
            raise BrokenFileError("no reply to this request")
        return ChatReply(text, cached=True, attempts=0, finished=finished)

    def put(self, key: str, reply: ChatReply) -> None:
        """Keep ``reply``.

        Raises:
            OSError: The disk is full, or the folder may not be written to.
        """
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{key}.{uuid.uuid4().hex}")
        try:
            part.write_text(json.dumps({"key": key, "text": reply.text, "finished": reply.finished}), encoding="utf-8")
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
