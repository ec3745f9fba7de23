"""What is asked of a model behind an endpoint, and what comes back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal

from avatar.errors import AvatarError
from avatar.types import Message

Kind = Literal["down", "refused", "nonsense"]

_ADDING = threading.Lock()


class ChatError(AvatarError):
    """One request that could not be answered, after all attempts.

    Args:
        message: What went wrong last, after how many attempts, and the way out.
        kind: ``down``: the server cannot be reached, times out, has no time or fails itself (408, 409, 425, 429, 5xx);
            ``refused``: it will not answer this (any other status but 2xx);
            ``nonsense``: what it answers is no chat completion, no JSON of the schema, or does not pass the review.
    """

    def __init__(self, message: str, kind: Kind = "down") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class ChatRequest:
    """One question.

    Attributes:
        messages: OpenAI chat messages; pictures as :func:`image_part`.
        schema: JSON schema of the answer; None for free text.
    """

    messages: list[Message]
    schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class ChatReply:
    """One answer.

    Attributes:
        text: As the model wrote it.
        data: The JSON in it, of the request's schema; None without a schema.
        prompt_tokens: That the last attempt was charged for; 0 if the server does not tell, or for a cached reply.
        completion_tokens: Likewise.
        cached: Whether it comes from the cache.
        attempts: How often was asked; 0 for a cached reply.
        finished: False if the length limit cut it off.
    """

    text: str
    data: Any | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False
    attempts: int = 1
    finished: bool = True


@dataclass
class Usage:
    """What a client has done so far.

    Attributes:
        requests: That were given to ``ask``, those that are alike included.
        cached: Of these, how many the cache answered.
        failed: Of these, how many ended in a :class:`ChatError`.
        calls: Chat completions that were sent, repetitions included.
        prompt_tokens: Of all answers that came, bad ones included, as far as the server tells.
        completion_tokens: Likewise.
        broken: Cache files that could not be read, and were written anew once there was an answer.
    """

    requests: int = 0
    cached: int = 0
    failed: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    broken: int = 0

    def add(self, **counts: int) -> None:
        """Add to the counts of these names; from any thread."""
        with _ADDING:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)
