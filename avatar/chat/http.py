"""One HTTP request with a deadline over all of it and a bound on what is read."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from avatar.chat.endpoint import is_loopback

MAX_BYTES = 8 << 20  # of an answer
_KEPT_ALIVE = 3.0  # seconds; servers hang up after 5, and a request sent at that moment is lost
_BLOCK = 1 << 16


class NoConnectionError(Exception):
    """No whole answer came; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
        status: Of HTTP.
        body: Of the answer; its first MAX_BYTES if it is longer.
        whole: Whether ``body`` is all.
        retry_after: Seconds that it asks us to wait; None if it does not.
    """

    status: int
    body: bytes
    whole: bool = True
    retry_after: float | None = None

    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body) if self.whole else None
        except (ValueError, RecursionError):
            return None


def open_session(key: str | None, max_connections: int) -> aiohttp.ClientSession:
    """A session that sends the key, keeps no cookies, and is to be closed."""
    headers = {"User-Agent": "avatar-rl", "Accept": "application/json", "Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    connector = aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=_KEPT_ALIVE)
    jar = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(
        connector=connector, headers=headers, cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=None)
    )


async def fetch(session: aiohttp.ClientSession, url: str, timeout: float, body: dict[str, Any] | None = None) -> Answer:
    """Post ``body`` as JSON, or get ``url`` if there is none; redirections are not followed.

    Args:
        session: To send it by.
        url: Whole.
        timeout: Seconds for all of it: connecting, sending, waiting and reading.
        body: To be sent.

    Raises:
        NoConnectionError: Nothing listens there, it hangs up, is not HTTP, or takes longer.
    """
    method, payload, headers = "GET", None, {}
    if body is not None:
        method, payload, headers = "POST", json.dumps(body).encode(), {"Content-Type": "application/json"}
    try:
        async with asyncio.timeout(timeout):
            async with session.request(
                method, url, data=payload, headers=headers, allow_redirects=False, proxy=_proxy(url)
            ) as response:
                read, whole = await _read(response.content)
                return Answer(response.status, read, whole, _seconds(response.headers.get("Retry-After")))
    except TimeoutError:
        raise NoConnectionError(f"no whole answer within {timeout:g} s (client.timeout)") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoConnectionError(str(error) or type(error).__name__) from None


async def _read(stream: aiohttp.StreamReader) -> tuple[bytes, bool]:
    """(at most MAX_BYTES, whether that is all)."""
    read = bytearray()
    async for block in stream.iter_chunked(_BLOCK):
        read += block
        if len(read) > MAX_BYTES:
            return bytes(read[:MAX_BYTES]), False
    return bytes(read), True


def _seconds(header: str | None) -> float | None:
    """A Retry-After, which is a number of seconds or a date; None for anything else."""
    if header is None:
        return None
    try:
        return max(float(header), 0.0) if header.strip().isdecimal() else max(_date(header) - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _date(header: str) -> float:
    return email.utils.parsedate_to_datetime(header).timestamp()


def _proxy(url: str) -> str | None:
    """The proxy that the environment (``https_proxy``, ``no_proxy`` ...) names for ``url``; this machine needs none."""
    parts = urlsplit(url)
    if is_loopback(parts) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
