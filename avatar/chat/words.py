"""What a server says when it refuses, in one line, and what to do about it."""

from __future__ import annotations

import re
from typing import Any

from avatar.chat.http import MAX_BYTES, Answer

MOST = 300  # characters of a server's words that are shown


def server_says(answer: Answer, key: str | None = None) -> str:
    """``HTTP 404: The model `x` does not exist``; without the key, for servers quote what they were sent."""
    words = _message(answer)
    return f"HTTP {answer.status}: {one_line(words.replace(key, '***') if key else words) or 'nothing'}"


def advice(status: int, key_name: str, has_key: bool) -> str:
    """What to do about a refusal, to be put behind it; nothing where the server's words must do."""
    if status in (401, 403):
        if not key_name:
            return "; the server wants a key: name the environment variable that holds it in client.api_key_env"
        state = "holds a key that the server does not take" if has_key else "is not set, so no key was sent"
        return f"; the environment variable {key_name} {state} (client.api_key_env)"
    if status in (404, 405):
        return "; see to it that client.model is served there, and client.endpoint ends before /chat/completions"
    if status == 413:
        return "; send fewer or smaller pictures"
    return "; give the address it leads to as client.endpoint" if 300 <= status < 400 else ""


def one_line(text: str, most: int = MOST) -> str:
    """Printable characters alone, for a terminal obeys some others; cut off after ``most``."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return line if len(line) <= most and len(text) <= 4 * most else line[:most] + "..."


def _message(answer: Answer) -> str:
    if not answer.whole:
        return f"more than {MAX_BYTES >> 20} MB"
    found = _named(answer.json())
    if found is None:
        found = re.sub(r"<[^<>]{0,200}>", " ", answer.body[: 8 * MOST].decode("utf-8", "replace"))
    return found


def _named(body: Any) -> str | None:
    """The message in an error's JSON: OpenAI's ``error.message``, FastAPI's ``detail``, or ``message``."""
    if not isinstance(body, dict):
        return None
    error = body.get("error", body)
    for found in (error.get("message") if isinstance(error, dict) else error, body.get("detail")):
        if found:
            return found if isinstance(found, str) else str(found)
    return None
