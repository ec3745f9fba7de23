"""How many CPU threads a product is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 4_000_000  # multiplications of one product: less than 0.2 ms of one core, about what waking a second one costs


@contextmanager
def one_thread_if_small(multiplications: int, device: torch.device) -> Iterator[None]:
    """Inside, one thread does the work alone if its products are small; waking others for each would take longer.

    Args:
        multiplications: Of the largest product that is made over and over.
        device: Where; only the CPU is concerned.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or multiplications > SMALL:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
