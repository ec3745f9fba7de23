"""A process that runs cells one after another, so that they share imports, decoded clips and encoded prompts.

It reads a line of JSON for each cell and answers with one when the cell has ended. What a cell prints goes to its log.
When whoever started it is gone, it ends at once; the cell goes on from its last checkpoint the next time.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from avatar.cache import sharing
from avatar.cli import users_error
from avatar.commands.sweep.order import Order
from avatar.commands.sweep.outcome import outcome
from avatar.commands.sweep.record import Record, Status, read_record
from avatar.commands.train import AvatarCLI, quieten


def run_order(order: Order, stores: dict[str, dict[Hashable, Any]]) -> Record:
    """Run a cell to its end, from its last checkpoint if it has one, and write down how it went.

    Args:
        order: The cell.
        stores: What cells of each data section share; added to.
    """
    folder = Path(order.folder)
    record = read_record(folder) or Record(order.name, order.point, order.settings, order.inputs)
    record.status, record.error, record.attempts = "running", None, record.attempts + 1
    record.save(folder)
    began = time.perf_counter()
    with printing_to(folder / "log.txt"):
        record.status, record.error = _attempt(order, folder, stores)
    record.seconds = round(record.seconds + time.perf_counter() - began, 2)
    if record.status == "finished":
        _conclude(record, folder)
    record.save(folder)
    if record.status == "finished" and not order.keep_checkpoints:
        for name in ("checkpoints", "model"):
            shutil.rmtree(folder / name, ignore_errors=True)
    return record


def _attempt(order: Order, folder: Path, stores: dict[str, dict[Hashable, Any]]) -> tuple[Status, str | None]:
    resume = ["--ckpt_path=last"] if (folder / "checkpoints" / "last.ckpt").is_file() else []
    try:
        with sharing(stores.setdefault(order.data, {})):
            interrupted = AvatarCLI([*order.args, *resume]).graceful.interrupted
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            return "stopped", None
        traceback.print_exc()
        return "failed", str(users_error(error) or f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        return "stopped", None
    finally:
        gc.collect()  # a model and its optimizer are held in circles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return ("stopped" if interrupted else "finished"), None


def _conclude(record: Record, folder: Path) -> None:
    try:
        record.result = outcome(folder)
    except Exception as error:
        record.status, record.error = "failed", str(error)


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Inside, what this process and those that it starts print goes to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush(), sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            for place, old in zip((1, 2), kept, strict=True):
                os.dup2(old, place)
                os.close(old)


def _orders() -> Iterator[Order]:
    """Cells as they come in; when the other side is gone, this process ends, whatever it does."""
    queue: SimpleQueue[Order] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            queue.put(Order(**json.loads(line)))
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield queue.get()


def main() -> None:
    """Run cells until there are no more."""
    quieten()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything prints between cells is no answer
    stores: dict[str, dict[Hashable, Any]] = {}
    for order in _orders():
        record = run_order(order, stores)
        answers.write(json.dumps({"name": order.name, "status": record.status}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
