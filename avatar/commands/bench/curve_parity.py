"""Both sides on the very same completions: rewards, losses, gradients and weights, step by step.

Ours writes the completions; TRL's trainer is handed them in place of its own. What the two then make of them must be
the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from avatar.commands.bench.curve_course import Course
from avatar.commands.bench.curve_ours import train_ours
from avatar.commands.bench.errors import BenchError

FLAT = 1e-12  # a gradient whose norm is below it points nowhere: all rewards of the group were equal


@dataclass
class Trace:
    """What one side made of each step.

    Attributes:
        advance: Called after each.
        completions: [steps][G], token ids.
        rewards: [steps][G], in the order of the completions.
        losses: [steps].
        norms: [steps], L2 norm of the gradient before it is clipped.
        gradients: [steps], all parameters in one row, after clipping.
        start: All parameters in one row, before any step.
        end: The same, after the last.
    """

    advance: Callable[[], object]
    completions: list[list[list[int]]] = field(default_factory=list)
    rewards: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    start: Tensor = field(default_factory=lambda: torch.zeros(0))
    end: Tensor = field(default_factory=lambda: torch.zeros(0))


def flat_weights(model: nn.Module) -> Tensor:
    """[parameters], of those that take gradients, in the order of their names."""
    return torch.cat([p.detach().flatten().clone() for _, p in _trained(model)])


def flat_gradient(model: nn.Module) -> Tensor:
    """[parameters], in the same order; 0 where there is none."""
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for _, p in _trained(model)]
    return torch.cat([grad.flatten().clone() for grad in grads])


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)


class Recorder(Callback):
    """Keeps a trace of ours."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Weights before any step."""
        self._trace.start = flat_weights(pl_module.policy.adapter.model)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """All else."""
        trace, rollout, model = self._trace, pl_module.rollout, pl_module.policy.adapter.model
        trace.completions.append([completion.ids.tolist() for completion in rollout.completions])
        trace.rewards.append(rollout.experience.rewards.tolist())
        trace.losses.append(float(pl_module.metrics["loss"]))
        trace.norms.append(float(pl_module.metrics["grad_norm"]))
        trace.gradients.append(flat_gradient(model))
        trace.end = flat_weights(model)
        trace.advance()


def measure_update(course: Course, advance: Callable[[], object]) -> dict[str, Any]:
    """Train ours, then TRL's on the completions of ours; see :func:`compare_traces`.

    Args:
        course: On what.
        advance: Called after each step of either.
    """
    ours, peer = Trace(advance), Trace(advance)
    with TemporaryDirectory() as folder:
        train_ours(course, Recorder(ours), folder)
        import_module("avatar.commands.bench.curve_replay").trace_peer(course, peer, folder, ours.completions)
    return compare_traces(ours, peer)


def compare_traces(ours: Trace, peer: Trace) -> dict[str, Any]:
    r"""The difference of each step, and of the weights after the last, as plain JSON values.

    .. math:: \cos = \frac{g \cdot g'}{|g| |g'|}, \quad \Delta|g| = \frac{|g'|}{|g|} - 1, \quad
        \Delta w = \frac{|w'_{end} - w_{end}|}{|w_{end} - w_0|}

    Cosine and gap of the norms are None where both gradients are flat: a group without spread, before there is any KL.

    Args:
        ours: Ours.
        peer: TRL's, of as many steps.

    Raises:
        BenchError: They did not begin with the same weights.
    """
    if not torch.equal(ours.start, peer.start):
        raise BenchError("the two sides did not begin with the same weights, so nothing can be compared")
    steps = [_step_gap(ours, peer, i) for i in range(len(ours.losses))]
    moved, apart = (ours.end - ours.start).norm(), (ours.end - peer.end).norm()
    return {
        "num_steps": len(steps),
        "weights_apart": float(apart / moved) if moved else float(apart > 0),
        **worst_of(steps),
        "steps": steps,
    }


def _step_gap(ours: Trace, peer: Trace, i: int) -> dict[str, Any]:
    aligned = cosine(ours.gradients[i], peer.gradients[i])
    return {
        "reward_gap": max(abs(a - b) for a, b in zip(ours.rewards[i], peer.rewards[i], strict=True)),
        "loss": [ours.losses[i], peer.losses[i]],
        "grad_norm": [ours.norms[i], peer.norms[i]],
        "grad_norm_gap": None if aligned is None else peer.norms[i] / max(ours.norms[i], FLAT) - 1,
        "cosine": aligned,
    }


def cosine(a: Tensor, b: Tensor) -> float | None:
    """Of the angle between two rows, in float64; None where both are flat."""
    a, b = a.double(), b.double()
    if max(a.norm(), b.norm()) < FLAT:
        return None
    return float(a @ b / (a.norm() * b.norm()).clamp(min=torch.finfo(torch.float64).tiny))


def worst_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest gaps over all steps, and the first step that has a gradient."""
    pointing = [step for step in steps if step["cosine"] is not None]
    return {
        "num_flat": len(steps) - len(pointing),
        "worst_reward_gap": max(step["reward_gap"] for step in steps),
        "worst_loss_gap": max(abs(a - b) for a, b in (step["loss"] for step in steps)),
        "worst_cosine": min((step["cosine"] for step in pointing), default=None),
        "worst_grad_norm_gap": max((abs(step["grad_norm_gap"]) for step in pointing), default=None),
        "first": next(iter(pointing), None),
    }
