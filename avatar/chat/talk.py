"""One request until it is answered: attempts, waits between them, and the complaint that goes with the next."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import aiohttp

from avatar.chat.body import Sampling, blamed
from avatar.chat.cache import ReplyCache
from avatar.chat.completion import opened
from avatar.chat.http import Answer, NoConnectionError, fetch
from avatar.chat.reply import NoAnswerError, complaint, read
from avatar.chat.request import ChatError, ChatReply, ChatRequest, Kind, Usage
from avatar.chat.words import advice, one_line, server_says
from avatar.types import Message

Review = Callable[[ChatReply], str | None]

MAX_WAIT = 60.0  # seconds between two attempts, whatever the server asks for
PATIENCE = 8  # requests in a row without an answer, after which the others are not sent; or max_concurrency if higher
_AGAIN = {408, 409, 425, 429}
_MOST_CARRIED = 4_000  # characters of a bad answer that are shown to the model again


class AttemptError(Exception):
    """One attempt came to nothing.

    Attributes:
        kind: As of :class:`ChatError`.
        wait: Seconds that the server asks us to wait; None if it does not.
        turns: To be added to the messages of the next attempt.
    """

    def __init__(self, reason: str, kind: Kind, wait: float | None = None, turns: list[Message] | None = None) -> None:
        super().__init__(reason)
        self.kind, self.wait, self.turns = kind, wait, turns or []


@dataclass
class Talk:
    """What all requests of one ``ask`` share.

    Attributes:
        session: To send by.
        url: Of chat completions.
        sampling: Model, temperature, length.
        timeout: Seconds an attempt may take.
        attempts: For each request, at most.
        backoff: Seconds before the second attempt, doubled before each further one.
        patience: Requests in a row without an answer, after which the others are not sent.
        usage: To add to.
        unknown: Fields that the server does not know; more are added as it turns out.
        key: That is sent, so that it can be kept out of messages.
        key_name: Its environment variable, for advice.
        lost: Requests in a row that ended without an answer.
    """

    session: aiohttp.ClientSession
    url: str
    sampling: Sampling
    timeout: float
    attempts: int
    backoff: float
    patience: int
    usage: Usage
    unknown: set[str]
    key: str | None = field(repr=False)
    key_name: str = ""
    lost: int = field(default=0, init=False)

    async def answer(self, request: ChatRequest, review: Review | None) -> ChatReply | ChatError:
        """The reply, or why there is none."""
        if self.lost >= self.patience:
            return ChatError(f"{self.url}: not sent, since {self.lost} requests in a row got no answer", "down")
        turns: list[Message] = []
        for attempt in range(1, self.attempts + 1):
            try:
                reply = await self._attempt(request, turns, review)
            except AttemptError as failed:
                if failed.kind == "refused" or attempt == self.attempts or self.lost >= self.patience:
                    return self._error(failed, attempt)
                turns = failed.turns or turns
                if not failed.turns:
                    await asyncio.sleep(self._wait(request, attempt, failed.wait))
            else:
                return replace(reply, attempts=attempt)
        raise AssertionError("the last attempt ends the loop")

    async def post(self, request: ChatRequest, turns: list[Message]) -> Answer:
        """A completion of the request and further turns, asked for without what the server turns out not to know.

        Raises:
            AttemptError: There is no answer, or it says anything but that all is well.
        """
        unknown = set(self.unknown)
        while True:
            body = self.sampling.body(request, turns, frozenset(unknown))
            self.usage.add(calls=1)
            try:
                answer = await fetch(self.session, self.url, self.timeout, body)
            except NoConnectionError as error:
                raise AttemptError(one_line(str(error)), "down") from None
            if answer.status in _AGAIN or answer.status >= 500:
                raise AttemptError(server_says(answer, self.key), "down", answer.retry_after)
            self.lost = 0
            if 200 <= answer.status < 300:
                self.unknown |= unknown  # those blamed that were to blame
                return answer
            field = blamed(body, server_says(answer, self.key)) if answer.status in (400, 422) else None
            if field is None:
                words = server_says(answer, self.key) + advice(answer.status, self.key_name, self.key is not None)
                raise AttemptError(words, "refused")
            unknown.add(field)

    async def _attempt(self, request: ChatRequest, turns: list[Message], review: Review | None) -> ChatReply:
        answer = await self.post(request, turns)
        reply = opened(answer)
        if reply is None:
            raise AttemptError(f"the answer is no chat completion: {server_says(answer, self.key)}", "nonsense")
        self.usage.add(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
        try:
            return read(reply, request, review)
        except NoAnswerError as error:
            raise AttemptError(_told(error, reply), "nonsense", turns=_turns(error, reply, request)) from None

    def _wait(self, request: ChatRequest, attempt: int, asked: float | None) -> float:
        """Seconds; the jitter goes by the request, so that a run can be repeated."""
        return wait(self.backoff, attempt, asked, random.Random(f"{self.sampling.key(request)}{attempt}").random())

    def _error(self, failed: AttemptError, attempts: int) -> ChatError:
        self.lost += failed.kind == "down"
        words = f"{self.url}: {failed} (attempt {attempts} of {self.attempts})"
        return ChatError(self.hidden(words), failed.kind)

    def hidden(self, words: str) -> str:
        """``words`` without the key: servers quote what they were sent."""
        return words.replace(self.key, "***") if self.key else words


async def answer_all(
    talk: Talk,
    requests: dict[str, ChatRequest],
    review: Review | None,
    cache: ReplyCache | None,
    num_workers: int,
    put: Callable[[tuple[str, ChatReply | ChatError]], None],
) -> list[str]:
    """Put (key, outcome) of each request as they end; a reply is in the cache before that, so what is paid for stays.

    A worker waits with its request until that may be sent again, so a server that is short of time gets fewer of them.

    Returns:
        Why replies could not be kept.
    """
    left, unkept = iter(requests.items()), list[str]()

    async def work() -> None:
        for key, request in left:
            outcome = await talk.answer(request, review)
            if cache and isinstance(outcome, ChatReply):
                try:
                    cache.put(key, outcome)
                except OSError as error:
                    unkept.append(str(error))
            put((key, outcome))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(num_workers, len(requests))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return unkept


def wait(backoff: float, attempt: int, asked: float | None, jitter: float) -> float:
    r"""Seconds from attempt :math:`a`, counted from 1, to the next.

    .. math:: \min(60, \max(b \cdot 2^{a - 1} (1/2 + u), r))

    Args:
        backoff: b, in seconds.
        attempt: a.
        asked: r, what the server asks for, in seconds; None for 0.
        jitter: u, in 0..1, so that clients that failed together do not come back together.
    """
    return min(MAX_WAIT, max(backoff * 2.0 ** min(attempt - 1, 30) * (0.5 + jitter), asked or 0.0))


def _told(error: NoAnswerError, reply: ChatReply) -> str:
    """For the user."""
    cut = "" if reply.finished else " It was cut off at the length limit: raise client.max_tokens."
    return f"{error}{cut}"


def _turns(error: NoAnswerError, reply: ChatReply, request: ChatRequest) -> list[Message]:
    """For the model: its answer, and what is wrong with it."""
    cut = "" if reply.finished else " It was too long and was cut off: be brief."
    said = reply.text[:_MOST_CARRIED] if reply.text.strip() else "(nothing)"
    words = complaint(f"{error}{cut}", request.schema)
    return [{"role": "assistant", "content": said}, {"role": "user", "content": words}]
