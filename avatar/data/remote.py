"""Files behind URLs through fsspec: by ranges, with patience for a network that fails for a moment."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

from avatar.errors import DataError

PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hf": "huggingface_hub",
    "memory": "fsspec",
}  # protocol: the package that speaks it
PATIENCE = 10.0  # seconds in which a request that fails is sent again
BLOCK = 64 * 1024  # bytes to fetch at once when headers are read one by one
_CHUNK = 2**20
_T = TypeVar("_T")


def fetch(url: str, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` of a file; fewer if it ends before.

    Raises:
        DataError: It cannot be reached, or its server gives whole files only.
    """
    if start >= end:
        return b""

    def once() -> bytes:
        system, path = _connect(url)
        if _is_http(url):
            return sync(system.loop, _get, system, path, start, end)[0]
        unbuffered = {} if isinstance(system, AsyncFileSystem) else {"cache_type": "none"}  # else it reads far ahead
        return system.cat_file(path, start=start, end=end, **unbuffered)

    payload = _patiently(url, once)
    if len(payload) > end - start:
        raise _no_ranges(url)
    return payload


def size_of(url: str) -> int:
    """Bytes of a file.

    Raises:
        DataError: See :func:`fetch`.
    """
    size = _patiently(url, lambda: _size(url))
    if size is None:
        raise DataError(f"{url}: its server does not say how large it is; copy it to another store", "broken shard")
    return size


def size_if_there(url: str) -> int | None:
    """Bytes of a file; None if there is none, or none for us.

    Raises:
        DataError: See :func:`fetch`.
    """

    def once() -> int | None:
        try:
            return _size(url)
        except (FileNotFoundError, PermissionError):  # as in read_if_there
            return None

    return _patiently(url, once)


def read_if_there(url: str, limit: int) -> bytes | None:
    """A whole file of at most ``limit`` bytes; None if there is none, or none for us.

    Raises:
        DataError: It is larger, or cannot be reached.
    """

    def once() -> bytes | None:
        system, path = _connect(url)
        try:
            if _is_http(url):
                return sync(system.loop, _get, system, path, 0, None, limit)[0]
            return system.cat_file(path) if system.info(path)["size"] <= limit else bytes(limit + 1)
        except (FileNotFoundError, PermissionError):  # stores say "forbidden" of what is missing, unless one may list
            return None

    payload = _patiently(url, once)
    if payload is not None and len(payload) > limit:
        raise too_large(url, limit)
    return payload


def too_large(location: str, limit: int) -> DataError:
    """The error for a file of more than ``limit`` bytes."""
    return DataError(f"{location}: larger than {limit / 2**20:g} MB, and not read", "too large")


class RangedFile(io.RawIOBase):
    """A remote file to seek in. Wrap it in a :class:`io.BufferedReader`.

    Args:
        url: Of the file.
        size: Its bytes.
    """

    def __init__(self, url: str, size: int) -> None:
        self.url, self.size, self._at = url, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        """The byte that comes next."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fetch what fits."""
        payload = fetch(self.url, self._at, min(self._at + len(buffer), self.size))
        buffer[: len(payload)] = payload
        self._at += len(payload)
        return len(payload)


def _size(url: str) -> int | None:
    system, path = _connect(url)
    return sync(system.loop, _get, system, path, 0, 1)[1] if _is_http(url) else system.info(path)["size"]


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _connect(url: str) -> tuple[Any, str]:
    """The file system, one for each process (fsspec sees to that), and the path in it."""
    protocol, _, rest = url.partition("://")
    url = f"{protocol.lower()}://{rest}"
    try:
        kind = fsspec.get_filesystem_class(protocol.lower())
    except ImportError:
        package = PACKAGES[protocol.lower()]
        raise DataError(
            f"{url}: {protocol}:// needs the package {package}: pip install {package}", "broken shard"
        ) from None
    options = kind._get_kwargs_from_urls(url)
    if _is_http(url):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=5, sock_read=30)  # seconds; its own total fails large members
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    return kind(**options), kind._strip_protocol(url)


async def _get(
    system: Any, url: str, start: int, end: int | None, limit: int | None = None
) -> tuple[bytes, int | None]:
    """(bytes, size of the whole file), stopped soon after more bytes than wanted."""
    headers = {"Accept-Encoding": "identity"}
    if end is not None:
        headers["Range"] = f"bytes={start}-{end - 1}"
        limit = end - start
    session = await system.set_session()
    async with session.get(system.encode_url(url), headers=headers) as answer:
        if answer.status == 416:
            return b"", _total(answer)
        if answer.status in (404, 410):
            raise FileNotFoundError(url)
        if answer.status in (401, 403):
            raise PermissionError(f"{answer.status} {answer.reason}")
        answer.raise_for_status()
        if end is not None and answer.status != 206:  # found out before the whole shard is on its way
            raise _no_ranges(url)
        body = bytearray()
        async for chunk in answer.content.iter_chunked(_CHUNK):
            body += chunk
            if limit is not None and len(body) > limit:
                break
        return bytes(body), _total(answer)


def _total(answer: Any) -> int | None:
    match = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _no_ranges(url: str) -> DataError:
    return DataError(
        f"{url}: the server at {urlsplit(url).hostname} ignores byte ranges and sends whole files, so members cannot "
        "be read one by one. Use one that honours them (nginx, Apache, any object store), or copy the shards here",
        "broken shard",
    )


def _patiently(url: str, attempt: Callable[[], _T]) -> _T:
    begun, wait = time.monotonic(), 0.25
    while True:
        try:
            return attempt()
        except DataError:
            raise
        except FileNotFoundError:
            raise DataError(f"{url}: No such file", "broken shard") from None
        except PermissionError as error:
            raise DataError(f"{url}: not allowed to read it ({error}); check the credentials", "broken shard") from None
        except Exception as error:  # each store's client has errors of its own
            if time.monotonic() - begun + wait > PATIENCE:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise DataError(
                    f"{url}: cannot be read ({reason}), tried for {PATIENCE:g} s; check address and network",
                    "broken shard",
                ) from None
        time.sleep(wait)
        wait *= 2
