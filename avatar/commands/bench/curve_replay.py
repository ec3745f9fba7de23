"""TRL's trainer with a trace, on its own completions or on some that it is handed: see ``curve_parity.py``."""

from __future__ import annotations

import os
from typing import Any

from transformers import TrainerCallback
from trl import GRPOTrainer

from avatar.commands.bench.curve_course import Course
from avatar.commands.bench.curve_parity import Trace, flat_gradient, flat_weights
from avatar.commands.bench.curve_peer import build_trainer


class TracedTrainer(GRPOTrainer):
    """A GRPOTrainer that keeps what it made of each step.

    Args:
        trace: Where to.
    """

    def __init__(self, trace: Trace, **kwargs: Any) -> None:
        self.trace = trace
        super().__init__(**kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        rewards = super()._calculate_rewards(*args, **kwargs)
        self.trace.completions.append(args[3])
        self.trace.rewards.append(rewards.sum(1).tolist())
        return rewards

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """As ever."""
        loss = super().compute_loss(*args, **kwargs)
        self.trace.losses.append(float(loss.detach()))
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        self.trace.norms.append(float(norm))
        return norm


class Recorder(TrainerCallback):
    """Keeps the rest of the trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def on_train_begin(self, *args: Any, model: Any, **kwargs: Any) -> None:
        """Weights before any step."""
        self._trace.start = flat_weights(model)

    def on_pre_optimizer_step(self, *args: Any, model: Any, **kwargs: Any) -> None:
        """The gradient, clipped."""
        self._trace.gradients.append(flat_gradient(model))

    def on_step_end(self, *args: Any, model: Any, **kwargs: Any) -> None:
        """Weights."""
        self._trace.end = flat_weights(model)
        self._trace.advance()


def trace_peer(course: Course, trace: Trace, folder: str, completions: list[list[list[int]]] | None = None) -> None:
    """Train TRL's and keep what it made of each step.

    Args:
        course: On what.
        trace: Kept here.
        folder: For what TRL may write.
        completions: [steps][G], token ids of completions that are there already; None has TRL draw its own.
    """

    def hand_over(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        assert completions is not None
        ids = trainer.processing_class(text=prompts)["input_ids"]
        return {"prompt_ids": ids, "completion_ids": completions[trainer.state.global_step], "logprobs": None}

    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # handing completions over is new in TRL, which warns of it
    handed = {} if completions is None else {"rollout_func": hand_over}
    build_trainer(course, Recorder(trace), folder, TracedTrainer, trace=trace, **handed).train()
