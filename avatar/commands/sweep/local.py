"""Cells on this machine: a few processes, each given one cell after another."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from avatar.commands.sweep.order import Order
from avatar.commands.sweep.record import Record, read_record

DIED = "its process ended with {}; the end of what it said stands in {}"


class Worker:
    """A process and the cell that it is at."""

    def __init__(self, lock: int) -> None:
        env = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "avatar.commands.sweep.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=env, pass_fds=[lock],
            start_new_session=True,  # Ctrl-C comes from us, once
        )  # fmt: skip
        self.order: Order | None = None

    def give(self, order: Order) -> None:
        """Have a cell run."""
        assert self.process.stdin is not None
        self.order = order
        try:
            self.process.stdin.write(order.line())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead, and the end of its output tells so

    def answer(self) -> bool:
        """Take in that the cell has ended; False if the process has."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.order = None if line else self.order
        return bool(line) and "status" in json.loads(line)

    def stop(self) -> None:
        """Finish the step, save, and end."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        """Nothing more is to come."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        self.process.wait()


def run_local(orders: Sequence[Order], jobs: int, lock: int, tick: Callable[[list[str]], None]) -> bool:
    """Run cells, so many at a time.

    A process that dies takes its cell with it and no other: the cell is marked as failed, and a new process goes on.

    Args:
        orders: What is to be run, in order.
        jobs: Processes.
        lock: Held by them too.
        tick: Called about twice a second with the names of the cells under way.

    Returns:
        Whether Ctrl-C stopped it.
    """
    waiting = list(reversed(orders))
    with selectors.DefaultSelector() as selector:
        workers: list[Worker] = []
        interrupted = False
        try:
            while waiting or workers:
                while waiting and len(workers) < jobs:
                    _start(selector, workers, lock, waiting.pop())
                tick([w.order.name for w in workers if w.order])
                for key, _ in selector.select(0.5):
                    _go_on(key.data, selector, workers, waiting)
        except KeyboardInterrupt:
            interrupted = True
            _wind_up(workers)
        finally:
            for worker in workers:
                worker.process.kill() if worker.process.poll() is None else None
                worker.end()
    return interrupted


def _start(selector: selectors.BaseSelector, workers: list[Worker], lock: int, order: Order) -> None:
    worker = Worker(lock)
    workers.append(worker)
    selector.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
    worker.give(order)


def _go_on(worker: Worker, selector: selectors.BaseSelector, workers: list[Worker], waiting: list[Order]) -> None:
    """A worker has answered or died: give it the next cell, or let it go."""
    alive = worker.answer()
    if alive and waiting:
        worker.give(waiting.pop())
        return
    selector.unregister(worker.process.stdout)  # type: ignore[arg-type]
    workers.remove(worker)
    worker.end()
    if not alive:
        _mark_dead(worker)


def _mark_dead(worker: Worker) -> None:
    order, status = worker.order, worker.process.returncode
    if order is None:
        return
    record = read_record(Path(order.folder)) or Record(order.name, order.point, order.settings, order.inputs)
    how = f"signal {-status}" + (" (out of memory?)" if status == -9 else "") if status < 0 else f"status {status}"
    record.status, record.error = "failed", DIED.format(how, f"{order.folder}/log.txt")
    record.save(Path(order.folder))


def _wind_up(workers: Sequence[Worker]) -> None:
    """Ctrl-C: each finishes its step and saves; a second Ctrl-C does not wait for that."""
    for worker in workers:
        worker.stop()
    for worker in workers:
        if worker.order:
            worker.answer()
