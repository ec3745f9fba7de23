"""Cells on a Ray cluster, or on Ray on this machine (the extra ``ray``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from avatar.commands.parsed import num_devices
from avatar.commands.sweep.order import Order, mark_failed
from avatar.errors import ConfigError

_STORES: dict[str, dict[Hashable, Any]] = {}  # what cells share that one process runs after another


def run_cell(order: Order, folder: str) -> str:
    """Run a cell in a process of Ray's; returns how it ended.

    Args:
        order: The cell.
        folder: Where the sweep was started, and what paths are relative to.
    """
    from avatar.commands.sweep.worker import run_order

    os.chdir(folder)
    return run_order(order, _STORES).status


def run_ray(orders: Sequence[Order], jobs: int, tick: Callable[[list[str]], None]) -> bool:
    """Run cells, so many at a time, each where Ray finds a processor, and the GPUs that its Trainer asks for.

    Args:
        orders: What is to be run, in order.
        jobs: At a time, at most.
        tick: Called about twice a second with the names of the cells under way.

    Returns:
        Whether Ctrl-C stopped it; cells under way have finished their step and saved.

    Raises:
        ConfigError: Ray is not installed.
    """
    if not orders:
        return False
    ray = _ray()
    ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    try:
        return _run_all(ray, list(reversed(orders)), jobs, tick)
    finally:
        ray.shutdown()


def _run_all(ray: Any, waiting: list[Order], jobs: int, tick: Callable[[list[str]], None]) -> bool:
    under_way: dict[Any, Order] = {}
    task = ray.remote(run_cell)
    try:
        while waiting or under_way:
            while waiting and len(under_way) < jobs:
                order = waiting.pop()
                placed = task.options(num_cpus=1, num_gpus=num_gpus(order.settings), max_retries=0)
                under_way[placed.remote(order, os.getcwd())] = order
            tick([order.name for order in under_way.values()])
            for ref in ray.wait(list(under_way), timeout=0.5)[0]:
                _take(ray, ref, under_way.pop(ref))
    except KeyboardInterrupt:
        for ref in under_way:
            ray.cancel(ref)  # raises KeyboardInterrupt over there
        ray.wait(list(under_way), num_returns=len(under_way)) if under_way else None
        return True
    return False


def _take(ray: Any, ref: Any, order: Order) -> None:
    """Of a cell that has ended all is written down, unless its process died."""
    try:
        ray.get(ref)
    except ray.exceptions.RayError as error:
        mark_failed(order, f"Ray could not run it to its end: {str(error).strip().splitlines()[0]}")


def num_gpus(settings: dict[str, Any]) -> int:
    """How many GPUs a cell's Trainer asks for.

    Args:
        settings: Of the cell, by dotted name.
    """
    trainer = SimpleNamespace(
        accelerator=settings.get("trainer.accelerator", "auto"), devices=settings.get("trainer.devices", "auto")
    )
    wanted = trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and torch.cuda.is_available())
    return num_devices(trainer) if wanted else 0  # type: ignore[arg-type]


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("--launcher ray needs Ray: pip install 'avatar-rl[ray]'") from None
    return ray
