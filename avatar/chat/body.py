"""What is sent: the body of a chat completion, and the key that says which requests are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avatar.chat.request import ChatRequest
from avatar.types import Message

VERSION = 1  # of what a reply is made of; another one leaves old caches behind
FORMAT, OLD_LIMIT, NEW_LIMIT = "response_format", "max_tokens", "max_completion_tokens"

# What a server may not know: its words for it. OpenAI's newer models want the length limit under its newer name.
BLAMED_BY = {
    FORMAT: ("response_format", "json_schema", "guided_json", "structured output", "grammar"),
    OLD_LIMIT: (f"use '{NEW_LIMIT}'",),
}


@dataclass(frozen=True)
class Sampling:
    """How all requests of a client are answered.

    Attributes:
        model: As the server names it.
        temperature: 0 for the likeliest answer.
        max_tokens: Of an answer, at most.
    """

    model: str
    temperature: float
    max_tokens: int

    def key(self, request: ChatRequest) -> str:
        """64 hex digits: the same for the same model, messages with their pictures, schema and sampling."""
        content = [VERSION, self.model, request.messages, request.schema, float(self.temperature), self.max_tokens]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def body(self, request: ChatRequest, added: Sequence[Message], unknown: frozenset[str]) -> dict[str, Any]:
        """The body to send.

        Args:
            request: Its messages come first.
            added: Messages that follow: the last answer and what was wrong with it.
            unknown: Of :data:`BLAMED_BY`, what this server does not know.
        """
        body = {"model": self.model, "messages": [*request.messages, *added], "temperature": self.temperature}
        body[NEW_LIMIT if OLD_LIMIT in unknown else OLD_LIMIT] = self.max_tokens
        if request.schema is not None and FORMAT not in unknown:
            body[FORMAT] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": request.schema}}
        return body


def blamed(body: dict[str, Any], words: str) -> str | None:
    """The field of ``body`` that a server refuses by these words, if it can do without; else None."""
    said = words.lower()
    return next((field for field, names in BLAMED_BY.items() if field in body and any(n in said for n in names)), None)
