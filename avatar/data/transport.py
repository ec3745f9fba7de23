"""Results on their way from a worker: tensors in memory that both processes map, the rest as bytes.

A worker has read files that anybody may have made. What it sends can therefore name classes of ours and nothing that
would be called.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import torch
from torch import Tensor

ALIGN = 64  # bytes
WORD = 8  # bytes of the length that goes ahead


class _Pickler(pickle.Pickler):
    """Leaves tensors out, but for their dtype, shape and place."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self.size = 0

    def persistent_id(self, item: Any) -> Any:
        """(dtype, shape, offset) of a tensor."""
        if not isinstance(item, Tensor):
            return None
        place = self.size
        self.tensors.append(item)
        self.size += _padded(item)
        return str(item.dtype), tuple(item.shape), place


class _Unpickler(pickle.Unpickler):
    """Finds the tensors in ``memory``, and no class but ours."""

    def __init__(self, file: io.BytesIO, memory: Tensor | None) -> None:
        super().__init__(file)
        self.memory = memory

    def persistent_load(self, pid: Any) -> Tensor:
        """The tensor, not copied."""
        name, shape, place = pid
        dtype = getattr(torch, name.removeprefix("torch."))
        num_bytes = torch.Size(shape).numel() * dtype.itemsize
        if not num_bytes:
            return torch.empty(shape, dtype=dtype)
        assert self.memory is not None
        return self.memory[place : place + num_bytes].view(dtype).view(shape)

    def find_class(self, module: str, name: str) -> Any:
        """A class of avatar."""
        found = super().find_class(module, name) if module.split(".")[0] == "avatar" else None
        if not isinstance(found, type) or (found.__module__, found.__qualname__) != (module, name):  # no way through it
            raise pickle.UnpicklingError(f"a worker sent {module}.{name}, which is no class of avatar")
        return found


def send(connection: Connection, reply: Any) -> None:
    """Send ``reply``: plain values, tensors, and objects of our classes that hold such.

    Raises:
        OSError: Nobody is there any more.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(reply)
    connection.send_bytes(pickler.size.to_bytes(WORD, "big") + file.getvalue())
    if not pickler.size:
        return
    handle = _memory()
    try:
        os.ftruncate(handle, pickler.size)
        at = 0
        for tensor in pickler.tensors:
            if tensor.numel():
                _write(handle, tensor.contiguous().view(-1).view(torch.uint8).numpy(), at)
            at += _padded(tensor)
        send_handle(connection, handle, None)
    finally:
        os.close(handle)


def receive(connection: Connection) -> Any:
    """What :func:`send` sent; waits for it.

    Raises:
        EOFError: The sender is gone.
        UnpicklingError: It sent what it may not.
    """
    message = connection.recv_bytes()
    size, memory = int.from_bytes(message[:WORD], "big"), None
    if size:
        handle = recv_handle(connection)
        try:
            memory = _mapped(handle, size)
        finally:
            os.close(handle)
    return _Unpickler(io.BytesIO(message[WORD:]), memory).load()


def _padded(tensor: Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // ALIGN) * ALIGN


def _memory() -> int:
    """A handle to memory that can be sent to another process."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("avatar-clip")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _mapped(handle: int, size: int) -> Tensor:
    """[size] uint8; a map of python's would keep a handle open, and a process may have no more than a thousand."""
    if os.fstat(handle).st_size != size:
        raise ValueError(f"{os.fstat(handle).st_size} bytes of memory came, {size} were announced")
    return torch.from_file(f"/dev/fd/{handle}", shared=True, size=size, dtype=torch.uint8)


def _write(handle: int, data: Any, at: int) -> None:
    view = memoryview(data)
    while len(view):
        written = os.pwrite(handle, view, at)
        view, at = view[written:], at + written
