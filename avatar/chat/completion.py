"""The text and the numbers in a chat completion, as servers write it."""

from __future__ import annotations

from typing import Any

from avatar.chat.http import Answer
from avatar.chat.request import ChatReply


def opened(answer: Answer) -> ChatReply | None:
    """The reply in a chat completion, its data not read yet; None if it is no chat completion.

    ``"content": null``, which a model that refuses or only thinks gives, is an empty text.
    """
    whole = answer.json()
    try:
        choice = whole["choices"][0]
        text = _text(choice["message"].get("content"))
        finished = choice.get("finish_reason") != "length"
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    usage = whole.get("usage")
    prompt, written = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return ChatReply(text, None, prompt, written, finished=finished)


def _text(content: Any) -> str:
    """A string, or what the text parts of a list hold."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError(f"content is a {type(content).__name__}")
    return content or ""


def _count(usage: Any, name: str) -> int:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and found >= 0 else 0
