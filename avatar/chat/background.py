"""An event loop of its own in a thread of its own: for callers that have none, or one that runs already."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 5.0  # seconds that a cancelled loop gets to close its connections


def stream(produce: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Generator[T, None, None]:
    """The items that ``await produce(put)`` puts, as they come; they are taken in the caller's thread.

    Closing the iterator, or an error like Ctrl-C while it waits, cancels what is under way.

    Raises:
        BaseException: What ``produce`` raised.
    """
    items: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()  # (whether it is the last, item or error)
    loop = asyncio.new_event_loop()
    task = loop.create_task(produce(lambda item: items.put((False, item))))
    thread = threading.Thread(target=_work, args=(loop, task, items), name="avatar-chat", daemon=True)
    try:
        thread.start()
        while True:
            last, item = items.get()
            if not last:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(task.cancel)
        if thread.is_alive():
            thread.join(_PATIENCE)


def _work(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], items: queue.SimpleQueue[tuple[bool, Any]]
) -> None:
    error: BaseException | None = None
    try:
        loop.run_until_complete(task)
    except BaseException as raised:
        error = raised
    items.put((True, error))
    with contextlib.suppress(BaseException):
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
