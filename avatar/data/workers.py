"""Processes that do what may hang or crash, each of which can be killed without harm to anybody else.

A worker takes one task after another. Its own alarm ends it when a task takes too long, also inside a library that
never comes back, and the kernel refuses it more memory than it was granted. Whoever collects that task's result gets an
error; the tasks behind it go to a new worker.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from avatar.data.transport import receive, send
from avatar.errors import ConfigError, DataError

T = TypeVar("T")
R = TypeVar("R")
LONGEST = 1e6  # seconds: no limit at all is one of eleven days, which alarms and polls can still be set to
START_LIMIT = 300.0  # seconds that a process may take to import what it needs
GRACE = 10.0  # seconds beyond its limit after which a worker whose alarm did not ring is given up
FATAL = ("time limit", "decoder crashed", "too large")  # it is dead, not to be trusted, or may hold the memory still
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "not enough memory")


class WorkerPool(Generic[T, R]):
    """Results of ``work`` on tasks, worked out by other processes.

    Started at the first task. Results may be collected in any order; each waits until it is, or is forgotten.

    Args:
        work: From a task to its result, which holds plain values, tensors and objects of our classes; a function of a
            module.
        num_workers: Number of processes.
        time_limit: Seconds that one task may take.
        memory_mb: Memory that a worker may take beyond what it starts with, in MB.
        time_limit_name: What the user sets it by, for messages.

    Raises:
        ConfigError: There is no worker.
    """

    def __init__(
        self, work: Callable[[T], R], num_workers: int = 1, time_limit: float = 60.0, memory_mb: int = 4096,
        time_limit_name: str = "data.time_limit",
    ) -> None:  # fmt: skip
        if num_workers < 1:
            raise ConfigError(f"data.num_workers must be at least 1, got {num_workers}")
        self.num_workers, self.time_limit, self.time_limit_name = num_workers, min(time_limit, LONGEST), time_limit_name
        self._how = (work, self.time_limit, memory_mb)
        self._workers: list[_Worker] = []
        self._tasks: dict[int, T] = {}  # those without a result
        self._owner: dict[int, _Worker] = {}
        self._replies: dict[int, _Reply] = {}
        self._unwanted: set[int] = set()
        self._next = 0
        self._finalizer = weakref.finalize(self, _stop, self._workers)

    def submit(self, task: T) -> int:
        """Have ``task`` done; returns the ticket to collect its result with."""
        while len(self._workers) < self.num_workers:
            self._workers.append(_Worker(*self._how))
        ticket, self._next = self._next, self._next + 1
        self._tasks[ticket] = task
        self._give(ticket, self._least_busy())
        return ticket

    def collect(self, ticket: int) -> R:
        """The result of a task, waited for.

        Raises:
            DataError: As ``work`` raised it; or the task took too long, needed too much memory, or killed its worker.
            RuntimeError: ``work`` failed with anything else; the message holds its traceback.
        """
        while ticket not in self._replies:
            self._receive(self._owner[ticket])
        return self._replies.pop(ticket).result()

    def forget(self, ticket: int) -> None:
        """Its result is not wanted any more: it is thrown away when it comes."""
        if ticket in self._owner:
            self._unwanted.add(ticket)
        self._replies.pop(ticket, None)

    def close(self) -> None:
        """Stop all workers; a later task starts new ones."""
        _stop(self._workers)
        for store in (self._tasks, self._owner, self._replies, self._unwanted):
            store.clear()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that have been started."""
        return [worker.process.pid or 0 for worker in self._workers]

    def _least_busy(self) -> _Worker:
        """Its finished results are taken first: else it would wait for us to read, and we for it to take a task."""
        while True:
            worker = min(self._workers, key=lambda worker: len(worker.queue))
            if not worker.queue or not worker.has_reply():
                return worker
            self._receive(worker)

    def _give(self, ticket: int, worker: _Worker) -> None:
        self._owner[ticket] = worker
        worker.queue.append(ticket)
        try:
            worker.connection.send(self._tasks[ticket])
        except OSError:  # it has died; whoever waits for its results will see why
            if len(worker.queue) == 1:  # while it was idle, and so by no fault of this task
                self._replace(worker)

    def _receive(self, worker: _Worker) -> None:
        """Take the next reply of ``worker``; where it gives none, that task has failed and another takes its place."""
        reply = self._reply_of(worker)
        self._settle(worker.queue.popleft(), reply)
        if reply.cause in FATAL:
            self._replace(worker)

    def _reply_of(self, worker: _Worker) -> _Reply:
        worker.wait_until_started()
        try:
            if worker.connection.poll(min(len(worker.queue) * self.time_limit, LONGEST) + GRACE):
                reply = receive(worker.connection)
                if not isinstance(reply, _Reply):
                    raise TypeError(f"it is a {type(reply).__name__}")
                return reply
        except (OSError, EOFError):
            pass
        except Exception as error:  # whatever a hostile file has made it send
            reason = f"the decoder sent back what cannot be read ({error}). Replace or remove the file"
            return _Reply(None, reason, "decoder crashed")
        return _Reply(None, *self._post_mortem(worker))

    def _settle(self, ticket: int, reply: _Reply) -> None:
        del self._tasks[ticket], self._owner[ticket]
        if ticket in self._unwanted:
            self._unwanted.remove(ticket)
        else:
            self._replies[ticket] = reply

    def _replace(self, worker: _Worker) -> None:
        worker.stop()
        waiting = list(worker.queue)
        new = self._workers[self._workers.index(worker)] = _Worker(*self._how)
        for ticket in waiting:
            self._give(ticket, new)

    def _post_mortem(self, worker: _Worker) -> tuple[str, str]:
        """What to say of a task that its worker did not survive, and the cause."""
        worker.process.join(0.5)
        code = worker.process.exitcode
        if code in (None, -signal.SIGALRM):
            return (
                f"decoding took longer than {self.time_limit_name} ({self.time_limit:g} s) and was stopped. "
                "Replace or remove the file, or raise the limit",
                "time limit",
            )
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit status {code}"
        return (
            f"the decoder crashed on it ({how}; its process alone has died). Replace or remove the file",
            "decoder crashed",
        )


@dataclass(eq=False)
class _Worker:
    """One process and the tickets that it has yet to answer, in order."""

    work: Callable[[Any], Any]
    time_limit: float
    memory_mb: int
    queue: deque[int] = field(default_factory=deque)
    started: bool = False

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([self.work.__module__])  # imported once; from then on a worker costs a fork
        self.connection, theirs = context.Pipe()
        how = (theirs, self.work, self.time_limit, self.memory_mb)
        self.process: BaseProcess = context.Process(target=_serve, args=how, daemon=True, name="avatar-decoder")
        self.process.start()
        theirs.close()

    def wait_until_started(self) -> None:
        """Its imports are done: they count for no task.

        Raises:
            ConfigError: It has ended before it could take a task.
        """
        if self.started:
            return
        try:
            if self.connection.poll(START_LIMIT):
                self.connection.recv_bytes()
        except (OSError, EOFError):
            self.process.join(0.5)
            if self.process.exitcode and self.process.exitcode > 0:
                raise ConfigError(
                    "a decoder process could not be started; what it said stands above. In a script of your own put "
                    'what runs under `if __name__ == "__main__":`, since a new process imports the script'
                ) from None
        self.started = True

    def has_reply(self) -> bool:
        """Whether a reply, or its end, can be read at once."""
        if not self.started and self.connection.poll():
            self.wait_until_started()
        return self.started and self.connection.poll()

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join(1.0)


def _stop(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()


@dataclass(frozen=True)
class _Reply:
    """A result, or why there is none: ``cause`` None where ``work`` failed in a way that it should not."""

    value: Any
    error: str | None = None
    cause: str | None = None

    def result(self) -> Any:
        if self.error is None:
            return self.value
        raise RuntimeError(self.error) if self.cause is None else DataError(self.error, self.cause)


# -- in the worker -----------------------------------------------------------------------------------------------------


def _serve(connection: Connection, work: Callable[[Any], Any], time_limit: float, memory_mb: int) -> None:
    for given in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # a scheduler's too
        signal.signal(given, signal.SIG_IGN)  # they are for who started us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills this process, wherever it is
    torch.set_num_threads(1)
    _bound_memory(memory_mb)
    try:
        connection.send_bytes(b"")  # here we are
    except OSError:
        return  # who started us is gone already
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        signal.setitimer(signal.ITIMER_REAL, time_limit)
        reply = _answer(work, task)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            send(connection, reply)
        except OSError:
            return


def _answer(work: Callable[[Any], Any], task: Any) -> _Reply:
    try:
        return _Reply(work(task))
    except DataError as error:
        return _Reply(None, str(error), error.cause)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
            return _Reply(None, "decoding needs more memory than data.max_decoded_mb allows", "too large")
        return _Reply(None, traceback.format_exc())
    except Exception:
        return _Reply(None, traceback.format_exc())


def _bound_memory(memory_mb: int) -> None:
    """Let this process take so much more and no more; where the system cannot say what it has, there is no bound."""
    status = Path("/proc/self/status")
    if not status.exists():
        return
    import resource

    held = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmData"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
