"""The client of a model behind an OpenAI-compatible endpoint: judges and teachers are asked through it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aiohttp

from avatar.chat.background import stream
from avatar.chat.body import FORMAT, Sampling
from avatar.chat.cache import BrokenFileError, ReplyCache
from avatar.chat.endpoint import api_key, base_url
from avatar.chat.http import open_session
from avatar.chat.probe import probe
from avatar.chat.reply import NoAnswerError, check_schema, read
from avatar.chat.request import ChatError, ChatReply, ChatRequest, Usage
from avatar.chat.talk import PATIENCE, Review, Talk, answer_all
from avatar.errors import ConfigError

Outcome = ChatReply | ChatError
OnReply = Callable[[int, Outcome], None]


class ChatClient:
    """Asks a model by chat completions: vLLM, SGLang, ``transformers serve`` or a hosted API.

    What the server cannot do now is asked again after ``backoff * 2**n`` seconds or what it asks for, at most a minute;
    what it answers wrongly, at once and with the complaint; what it refuses, never. After eight requests in a row (or
    ``max_concurrency``, if that is more) that got no answer in all their attempts, the rest of an ``ask`` is not sent.

    It holds plain values alone, so it can be pickled. A Python warning tells what the server does not know or the cache
    cannot keep.

    Args:
        endpoint: Like ``http://localhost:8000/v1``; without a path, ``/v1`` is added.
        model: As the server names it.
        api_key_env: The environment variable that holds the API key, if there is one; empty for none.
        temperature: 0 for the likeliest answer.
        max_tokens: Of an answer, at most.
        timeout: Seconds that one attempt may take, from connecting to the last byte.
        attempts: For each request, at most.
        backoff: Seconds before the second attempt.
        max_concurrency: Requests in flight at a time, in each ``ask``.
        cache: Folder for replies, by the content of their requests; None keeps none. The endpoint is not part of it.

    Attributes:
        usage: What was asked so far.

    Raises:
        ConfigError: An argument is out of range, or a key would be sent unencrypted.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        temperature: float = 0.0,
        max_tokens: int = 512,
        timeout: float = 60.0,
        attempts: int = 4,
        backoff: float = 1.0,
        max_concurrency: int = 8,
        cache: str | None = None,
    ) -> None:
        if not model.strip():
            raise ConfigError("client.model is empty: name the model that the server serves")
        if not 0 < timeout < math.inf:
            raise ConfigError(f"client.timeout must be above 0 seconds, got {timeout}")
        for name, value in (("temperature", temperature), ("backoff", backoff)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"client.{name} must be 0 or more, got {value}")
        for name, count in (("max_tokens", max_tokens), ("attempts", attempts), ("max_concurrency", max_concurrency)):
            if count < 1:
                raise ConfigError(f"client.{name} must be at least 1, got {count}")
        self.endpoint, self.model, self.api_key_env = base_url(endpoint), model, api_key_env
        self.temperature, self.max_tokens, self.timeout = temperature, max_tokens, timeout
        self.attempts, self.backoff, self.max_concurrency = attempts, backoff, max_concurrency
        self.cache, self.usage = cache, Usage()
        self._unknown: set[str] = set()
        api_key(self.endpoint, api_key_env)

    def check(self) -> None:
        """See to it that the server is there and serves the model.

        A server need not list a model to serve it, so one that is not listed is asked for a few words.

        Raises:
            ConfigError: It is not; says what is served, or what to do.
        """

        async def look(put: Callable[[str], None]) -> None:
            key = api_key(self.endpoint, self.api_key_env)
            async with open_session(key, 1) as session:
                talk = self._talk(session, key)
                talk.sampling = replace(talk.sampling, max_tokens=16)
                await probe(talk, self.endpoint)

        with closing(stream(look)) as nothing:
            list(nothing)

    def ask(
        self, requests: Sequence[ChatRequest], review: Review | None = None, on_reply: OnReply | None = None
    ) -> list[Outcome]:
        """Answer all requests, several at a time; those that are alike are asked once.

        Args:
            requests: In any number.
            review: Gives a complaint about a reply that will not do, to be asked again with it; None for a good one.
                It may run in another thread.
            on_reply: Gets the place of a request and its outcome as soon as that is known, in the caller's thread.

        Returns:
            A reply or an error for each request, in their order.

        Raises:
            ConfigError: The key may not be sent.
            ValueError: A schema is no JSON schema, or a request no JSON.
        """
        places = self._places(requests)
        self.usage.add(requests=len(requests))
        outcomes: dict[int, Outcome] = {}

        def settle(key: str, outcome: Outcome) -> None:
            for place in places[key]:
                outcomes[place] = outcome
                if on_reply:
                    on_reply(place, outcome)

        waiting = {}
        for key, (first, *_) in places.items():
            found = self._remembered(key, requests[first], review)
            if found is None:
                waiting[key] = requests[first]
            else:
                self.usage.add(cached=len(places[key]))
                settle(key, found)
        with closing(self._answers(waiting, review)) as answers:
            for key, outcome in answers:
                self.usage.add(failed=len(places[key]) * isinstance(outcome, ChatError))
                settle(key, outcome)
        return [outcomes[place] for place in range(len(requests))]

    def _places(self, requests: Sequence[ChatRequest]) -> dict[str, list[int]]:
        """Where each request stands, by its key."""
        for schema in {id(request.schema): request.schema for request in requests}.values():
            if schema is not None:
                check_schema(schema)
        places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            try:
                key = self._sampling().key(request)
            except (TypeError, ValueError) as error:
                raise ValueError(f"request {place} is no JSON: {error}") from None
            places.setdefault(key, []).append(place)
        return places

    def _remembered(self, key: str, request: ChatRequest, review: Review | None) -> ChatReply | None:
        """The cached reply; None if there is none, or none that would do today."""
        cache = self._cache()
        try:
            found = cache.get(key) if cache else None
        except BrokenFileError:
            self.usage.add(broken=1)
            return None
        try:
            return read(found, request, review) if found else None
        except NoAnswerError:
            return None

    def _answers(
        self, waiting: dict[str, ChatRequest], review: Review | None
    ) -> Generator[tuple[str, Outcome], None, None]:
        """(key, outcome) of each request, as they end."""
        if not waiting:
            return
        key, known, unkept = api_key(self.endpoint, self.api_key_env), set(self._unknown), list[str]()

        async def work(put: Callable[[tuple[str, Outcome]], None]) -> None:
            async with open_session(key, self.max_concurrency) as session:
                talk = self._talk(session, key)
                unkept.extend(await answer_all(talk, waiting, review, self._cache(), self.max_concurrency, put))

        try:
            with closing(stream(work)) as answers:
                yield from answers
        finally:
            self._warn(self._unknown - known, unkept)

    def _warn(self, unknown: set[str], unkept: list[str]) -> None:
        if FORMAT in unknown:
            warnings.warn(
                f"{self.endpoint} takes no {FORMAT}: the model is not held to the JSON schema, so more of its answers "
                "may have to be asked for again",
                stacklevel=2,
            )
        if unkept:
            warnings.warn(f"client.cache: {len(unkept)} replies could not be kept ({unkept[0]})", stacklevel=2)

    def _sampling(self) -> Sampling:
        return Sampling(self.model, self.temperature, self.max_tokens)

    def _cache(self) -> ReplyCache | None:
        return ReplyCache(Path(self.cache).expanduser()) if self.cache else None

    def _talk(self, session: aiohttp.ClientSession, key: str | None) -> Talk:
        return Talk(
            session,
            f"{self.endpoint}/chat/completions",
            self._sampling(),
            self.timeout,
            self.attempts,
            self.backoff,
            max(PATIENCE, self.max_concurrency),
            self.usage,
            self._unknown,
            key,
            self.api_key_env,
        )
