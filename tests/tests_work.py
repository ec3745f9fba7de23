"""Work for the workers of ``avatar.data.workers``, good and bad. They import it by name, as they do ``prepare``."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import torch

from avatar.data import transport, workers
from avatar.data.prepare import prepare
from avatar.errors import DataError
from avatar.types import Clip, Prompt

GiB = 2**30
held: list = []  # for the life of a worker


def do(task):
    """``(what, *arguments)``."""
    what, *arguments = task
    return ACTIONS[what](*arguments)


def _spin():
    while True:
        pass


def _deaf(seconds):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(seconds)


def _touch(mb, keep=False):
    """Take ``mb`` MB and write to them."""
    memory = torch.ones(mb * 2**20, dtype=torch.uint8)
    if keep:
        held.append(memory)
    return int(memory[::4096].sum()) * 4096 // 2**20


def _eat_by_bytes():
    while True:
        held.append(bytearray(64 * 2**20))


def _eat_by_tensors():
    while True:
        held.append(torch.ones(64 * 2**20, dtype=torch.uint8))


def _forge():
    """From now on this worker answers with a clip in place of a reply."""
    workers.send = lambda connection, reply: transport.send(connection, Clip("forged"))


def _data_error(message, cause):
    raise DataError(message, cause)


def _error(name, message):
    raise {"ValueError": ValueError, "RuntimeError": RuntimeError, "KeyError": KeyError}[name](message)


def _nested(depth):
    nest = []
    for _ in range(depth):
        nest = [nest]
    return nest


class Trap:
    """Calls a function of the sender's choice where it is unpickled."""

    def __init__(self, function, *arguments):
        self.how = (function, arguments)

    def __reduce__(self):
        return self.how


def _prompt(key, num_frames):
    clip = Clip(key, torch.arange(num_frames * 3 * 4, dtype=torch.uint8).view(num_frames, 3, 2, 2), 2.0, torch.ones(7))
    return Prompt(key, [{"role": "user", "content": "q"}], (clip,), "a", metadata={"n": [1, {"x": None}]})


ACTIONS = {
    "echo": lambda *values: values,
    "pid": os.getpid,
    "threads": torch.get_num_threads,
    "pause in C": lambda: ctypes.CDLL(None).pause(),
    "sleep in C": lambda seconds: ctypes.CDLL(None).sleep(seconds),
    "spin": _spin,
    "sleep": lambda seconds, *values: (time.sleep(seconds), values)[1],
    "deaf": _deaf,
    "segfault": lambda: ctypes.string_at(1),
    "abort": os.abort,
    "leave": os._exit,
    "exit": sys.exit,
    "be killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "touch": _touch,
    "eat bytes": _eat_by_bytes,
    "eat tensors": _eat_by_tensors,
    "claim": lambda gb: torch.empty(gb * GiB, dtype=torch.uint8).numel(),
    "data error": _data_error,
    "error": _error,
    "forge": _forge,
    "interrupt": lambda: signal.raise_signal(signal.SIGINT),
    "nested": _nested,
    "zeros": lambda shape, dtype="float32": torch.zeros(shape, dtype=getattr(torch, dtype)),
    "full": lambda shape, value: torch.full(shape, value),
    "prompt": _prompt,
    "trap": lambda module, name, *arguments: Trap(getattr(sys.modules[module], name), *arguments),
    "path": Path,
    "print": lambda text: sys.stdout.write(text) and None,
    "text": lambda size: "x" * size,
}


def prepare_or_die(task):
    """The real ``prepare``, but for records whose keys say what else to do."""
    name = task.entry.key.rpartition("-")[2]
    if name in ("segfault", "spin", "error", "sleep"):
        do({"error": ("error", "ValueError", "all wrong"), "sleep": ("sleep", 0.2)}.get(name, (name,)))
    return prepare(task)
