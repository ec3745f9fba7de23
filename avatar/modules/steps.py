"""Small parts of a training step: its seed, what all ranks saw, and gradient norms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from avatar.errors import AvatarError

T = TypeVar("T")


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of what is random in one step of one process; no state, so a resumed run draws what the first would have."""
    return (seed * 1_000_003 + step * 1_009 + rank) % 2**63


def of_all_ranks(items: list[T]) -> list[T]:
    """The items of every process, in the order of their ranks; between the processes of one run only."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return items
    gathered: list[list[T]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, items)
    return [item for rank in gathered for item in rank]


def sum_over_ranks(number: int) -> int:
    """The sum of a number over all processes."""
    return sum(of_all_ranks([number]))


def zero_loss(parameters: Iterable[Tensor]) -> Tensor:
    """0, with a gradient of 0 for every parameter that takes one.

    What a process adds to a step that all take together, when none of its records could be read: without it the others
    would wait for its gradients for ever.
    """
    return torch.stack([(parameter * 0).sum() for parameter in parameters if parameter.requires_grad]).sum()


def clipped_step(module: LightningModule, parameters: list[Tensor], max_norm: float, step: int) -> dict[str, Any]:
    """Scale the gradients of ``parameters`` down to ``max_norm`` (L2), take the optimizer's step and the scheduler's.

    Returns:
        ``grad_norm`` before clipping, and the ``learning_rate`` of the step taken.

    Raises:
        AvatarError: The norm is not finite; no step is taken.
    """
    optimizer, scheduler = module.optimizers(), module.lr_schedulers()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    check_finite(norm, step)
    learning_rate = optimizer.param_groups[0]["lr"]  # type: ignore[union-attr]
    optimizer.step()  # type: ignore[union-attr]
    if scheduler is not None:
        scheduler.step()  # type: ignore[union-attr, call-arg]
    return {"grad_norm": norm, "learning_rate": learning_rate}


def check_finite(norm: Tensor, step: int) -> None:
    """Raise :class:`AvatarError` for the norm of a gradient that must not be followed."""
    if not norm.isfinite():
        raise AvatarError(
            f"step {step}: the norm of the gradient is {float(norm)}, so this step is not taken; the last checkpoint "
            "is from before it. Try a lower learning rate, or objective.max_replayed_ratio"
        )


def part_norms(parameters: list[Tensor], replayed: dict[Tensor, Tensor]) -> dict[str, Tensor]:
    """L2 norms of the gradient of either part, before clipping; empty if they were not taken apart."""
    if not replayed:
        return {}
    fresh = [p.grad - replayed[p] if p in replayed else p.grad for p in parameters]  # type: ignore[operator]
    return {
        "grad_norm/fresh": torch.nn.utils.get_total_norm(fresh),  # type: ignore[arg-type]
        "grad_norm/replayed": torch.nn.utils.get_total_norm(list(replayed.values())),
    }
