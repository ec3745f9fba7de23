"""Chats with tags in their text: the JSONL that ms-swift uses, which the authors' stage data are written in too."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from avatar.data.pack.formats import FORMATS, Draft, Embedded, Shown
from avatar.data.pack.shapes import (
    Fields,
    answer_in,
    check_chain,
    files_of,
    option_texts,
    options_in,
    payload_of,
    problem_type,
)
from avatar.data.pack.text import TextFormat
from avatar.data.schema import MEDIA_KINDS, ROLES
from avatar.errors import DataError
from avatar.types import Message

_TAG = re.compile(rf"<({'|'.join(MEDIA_KINDS)})>")
_PARTS = ("text", *MEDIA_KINDS)
_LISTS = frozenset(f"{kind}s" for kind in MEDIA_KINDS)


@FORMATS.register("messages")
class MessagesFormat(TextFormat):
    """Chats whose text shows media by tags: the JSONL of ms-swift, and of the authors' release.

    Read are ``messages`` with ``<video>``, ``<image>`` and ``<audio>`` in their text (or parts like ``{"type":
    "video", "video": path}``); ``videos``, ``images`` and ``audios``, each a path, ``{"path", "bytes"}`` or a list of
    these; ``solution`` or ``answer``; ``problem_type``, ``options``, ``hint``, ``audio_caption`` or ``audio_cues``, and
    a key in ``key``, ``id``, ``prompt_id``, ``problem_id`` or ``question_id``. All else becomes metadata.
    """

    @classmethod
    def fits(cls, row: dict[str, Any]) -> bool:
        """Messages, and something that our own records do not have."""
        messages = row.get("messages")
        if not isinstance(messages, list) or "media" in row:
            return False
        last = messages[-1] if messages and isinstance(messages[-1], dict) else {}
        said = "".join(m["content"] for m in messages if isinstance(m, dict) and isinstance(m.get("content"), str))
        return "answer" not in row or bool(_LISTS & set(row)) or last.get("role") == "assistant" or has_tags(said)

    def read(self, row: dict[str, Any]) -> Draft:
        """The chat up to the last question; what the assistant says to that is the gold completion."""
        fields = Fields(row)
        return read_chat(fields, fields.take("messages"))


def read_chat(fields: Fields, chat: Any) -> Draft:
    """A record from a chat and the fields beside it.

    Args:
        fields: The record's other fields.
        chat: ``[{"role", "content"}]``.

    Raises:
        DataError: The chat or its tags do not fit its media, or there is no gold answer to be read.
    """
    key = fields.key()
    files = {kind: list(files_of(fields.take(f"{kind}s", kind), f"{kind}s")) for kind in MEDIA_KINDS}
    messages, chain = _turns(chat, fields.text("system"))
    chain = chain or fields.text("chain")
    messages, media = place_media(messages, files)
    options = option_texts(fields.take("options")) or options_in(_last_text(messages))
    kind = problem_type(fields.take("problem_type"), options)
    answer = answer_in(fields.take("solution"), "solution") or answer_in(fields.take("answer"), "answer")
    answer = answer or payload_of(chain)
    if answer is None:
        raise DataError(
            "no gold answer: neither a field 'solution' or 'answer', nor one <answer>...</answer> in the last turn"
        )
    check_chain(chain, answer, kind, options)
    told = {"messages": messages, "answer": answer, "problem_type": kind, "options": options, "chain": chain}
    return Draft(key, {**{k: v for k, v in told.items() if v}, **fields.common()}, media)


def _turns(chat: Any, system: str | None) -> tuple[list[Message], str | None]:
    """The messages that ask, and the gold completion if the assistant has the last word."""
    if not isinstance(chat, list) or not chat:
        raise DataError("the chat must be a list of messages with one at least")
    for message in chat:
        if not isinstance(message, dict) or message.get("role") not in ROLES or "content" not in message:
            raise DataError(f"a message must have a content and a role of {', '.join(ROLES)}, got {message!r:.200}")
    messages = [{"role": message["role"], "content": message["content"]} for message in chat]
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    if messages[-1]["role"] != "assistant":
        return messages, None
    chain = messages.pop()["content"]
    if isinstance(chain, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in chain):
        chain = "".join(str(part.get("text", "")) for part in chain)
    if not isinstance(chain, str):
        raise DataError("the assistant's last turn must be text")
    return messages, chain


def place_media(messages: list[Message], files: dict[str, list[str | Embedded]]) -> tuple[list[Message], list[Shown]]:
    """Put a part in place of each tag, and list what is shown in the order of the tags.

    Media of a kind that no tag names are shown before the text of the first user turn.

    Args:
        messages: The chat; contents are text with tags, or parts.
        files: The files of each kind, in order.

    Raises:
        DataError: There are more tags of a kind than files, or fewer.
    """
    waiting = {kind: deque(files.get(kind, [])) for kind in MEDIA_KINDS}
    turns = [[_filled(part, waiting) for part in split_tags(message["content"])] for message in messages]
    named = {part.kind for turn in turns for part in turn if isinstance(part, Shown)}
    for kind in named:
        if waiting[kind]:
            raise DataError(
                f"{len(files[kind])} files in '{kind}s', of which {len(waiting[kind])} have no <{kind}> tag"
            )
    if first := [Shown(kind, file) for kind in MEDIA_KINDS for file in waiting[kind]]:
        users = [turn for message, turn in zip(messages, turns, strict=True) if message["role"] == "user"]
        if not users:
            raise DataError("there are media, but no turn of the user to show them in")
        users[0][:0] = first
    media = [part for turn in turns for part in turn if isinstance(part, Shown)]
    contents = [[{"type": part.kind} if isinstance(part, Shown) else part for part in turn] for turn in turns]
    told = zip(messages, contents, strict=True)
    return [{"role": message["role"], "content": _plain(content)} for message, content in told], media


def has_tags(text: str) -> bool:
    """Whether a tag like ``<video>`` stands in it."""
    return _TAG.search(text) is not None


def split_tags(content: Any) -> list[dict[str, Any]]:
    """The parts of a message: its text as it is between the tags, and ``{"type": "video"}`` for ``<video>``.

    Raises:
        DataError: It is neither text nor a list of parts.
    """
    if isinstance(content, str):
        pieces = _TAG.split(content)  # text and kinds in turns
        parts = [{"type": piece} if i % 2 else {"type": "text", "text": piece} for i, piece in enumerate(pieces)]
        return [part for part in parts if part["type"] != "text" or part["text"]]
    if not isinstance(content, list) or not all(isinstance(p, dict) and p.get("type") in _PARTS for p in content):
        raise DataError(f"a message's content must be text or a list of parts of type {', '.join(_PARTS)}")
    return [{name: value for name, value in part.items() if value is not None} for part in content]


def _filled(part: dict[str, Any], waiting: dict[str, deque[str | Embedded]]) -> dict[str, Any] | Shown:
    kind = part["type"]
    if kind == "text":
        return {"type": "text", "text": part.get("text")}
    if kind in part:
        found = list(files_of(part[kind], kind))
        if len(found) != 1:
            raise DataError(f"a part of type {kind!r} must name one file, got {len(found)}")
        return Shown(kind, found[0])
    if not waiting[kind]:
        raise DataError(f"there are more <{kind}> tags than files in '{kind}s'")
    return Shown(kind, waiting[kind].popleft())


def _plain(content: list[dict[str, Any]]) -> Any:
    """Text alone as text."""
    return content[0]["text"] if len(content) == 1 and content[0]["type"] == "text" else content


def _last_text(messages: list[Message]) -> str:
    content = messages[-1]["content"] if messages else ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
