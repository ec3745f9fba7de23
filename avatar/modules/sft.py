"""The cold start: supervised fine-tuning on chains of thought, loss on the completion only."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor

from avatar.errors import ConfigError, DataError
from avatar.modules.evaluation import EvaluationModule
from avatar.modules.perception import Perception
from avatar.modules.policy import Policy
from avatar.modules.steps import clipped_step, sum_over_ranks, zero_loss
from avatar.types import Prompt


class SFTModule(EvaluationModule):
    r"""Token-level supervised fine-tuning of a policy.

    .. math:: L = -\frac{1}{\sum_i |c_i|} \sum_i \sum_t \log \pi_\theta(c_{i,t} \mid q_i, c_{i,<t})

    over the gold completions c of all prompts of a step, on all devices: every token counts the same, however the
    prompts are spread over devices and passes. Prompts and completions of a pass lie in one row of tokens, so none is
    padded, and each distinct clip is encoded once.

    Args:
        policy: The model to train.
        perception: Teach the towers first, see :class:`Perception`; None leaves them as ``policy.freeze_towers`` says.
        max_new_tokens: Length limit of answers in validation.
        micro_batch_size: Prompts of a batch that go through the model at a time: a smaller number takes less memory and
            gives the same step; None is the whole batch.
        max_grad_norm: Gradients are scaled down to this norm.
        optimizer: Built over all parameters that take gradients at some time.
        lr_scheduler: Stepped after every optimizer step; None keeps the rate.
    """

    def __init__(
        self,
        policy: Policy,
        perception: Perception | None = None,
        max_new_tokens: int = 256,
        micro_batch_size: int | None = None,
        max_grad_norm: float = 1.0,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(policy, max_new_tokens)
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ConfigError(f"model.micro_batch_size must be at least 1, got {micro_batch_size}")
        if not max_grad_norm > 0:
            raise ConfigError(f"model.max_grad_norm must be above 0, got {max_grad_norm}")
        self.automatic_optimization = False
        self.perception = perception
        self.micro_batch_size, self.max_grad_norm = micro_batch_size, max_grad_norm
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler

    def configure_optimizers(self) -> Any:
        """Optimizer and scheduler, the latter by step."""
        self._set_towers()
        try:
            optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])  # type: ignore[arg-type]
        except ValueError as error:
            raise ConfigError(f"model.optimizer: {error}") from None
        return [optimizer], [self.lr_scheduler(optimizer)] if self.lr_scheduler else []

    def _set_towers(self) -> bool:
        """Switch the towers' gradients for this step; True while perception is taught."""
        teaching = self.perception is not None and self.global_step < self.perception.steps
        self.policy.adapter.freeze_towers(self.policy.freeze_towers and not teaching)
        return teaching

    # -- one step ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: list[Prompt], batch_idx: int) -> None:
        """One optimizer step on a batch; it may be empty where other processes train in step."""
        step = self.global_step + 1
        self.optimizers().zero_grad()  # type: ignore[union-attr]
        metrics = self._perceive(batch) if self._set_towers() else self._imitate(batch)
        parameters = [p for p in self.parameters() if p.grad is not None]
        metrics |= clipped_step(self, parameters, self.max_grad_norm, step)
        if batch:
            self.log_step(metrics, step)

    def _perceive(self, batch: list[Prompt]) -> dict[str, Any]:
        if not batch:
            self.manual_backward(zero_loss(self.parameters()))
            return {}
        assert self.perception is not None
        loss, metrics = self.perception(self.policy.adapter, batch)
        self.manual_backward(loss)
        return {"loss": loss.detach(), **metrics}

    def _imitate(self, batch: list[Prompt]) -> dict[str, Any]:
        """Gradients of the loss over the whole step, a piece of the batch at a time."""
        rows = [self._gold_ids(prompt) for prompt in batch]
        num_tokens = sum(len(row) for row in rows)
        num_in_all = sum_over_ranks(num_tokens)
        if not batch:
            self.manual_backward(zero_loss(self.parameters()))
            return {}
        size, total = self.micro_batch_size or len(batch), torch.zeros((), device=self.device)
        for start in range(0, len(batch), size):
            piece = slice(start, start + size)
            with self._apart(start + size < len(batch)):
                nll = self.completion_nll(batch[piece], rows[piece])
                self.manual_backward(nll * self.trainer.world_size / num_in_all)  # ranks' gradients are averaged
            total += nll.detach()
        return {"loss": total / num_tokens, "completion/length": num_tokens / len(batch)}

    def _apart(self, more: bool) -> Any:
        """While ``more`` passes of the step are to come, gradients are not exchanged yet."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if more and isinstance(strategy, ParallelStrategy) else nullcontext()

    def completion_nll(self, prompts: list[Prompt], rows: list[Tensor]) -> Tensor:
        """Sum of the negative log-probabilities of completions, in nats.

        Args:
            prompts: What they answer.
            rows: [T] token ids of each; ragged.
        """
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # [N, T]
        lengths = torch.tensor([len(r) for r in rows], device=ids.device)
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        logprobs = self.policy(self.policy.encode(prompts), ids, mask, torch.arange(len(prompts)), 1.0)
        return -logprobs.sum()

    def _gold_ids(self, prompt: Prompt) -> Tensor:
        if prompt.chain is None:
            raise DataError(f"{prompt.key}: the record has no 'chain', which the cold start learns from")
        return self.policy.adapter.tokenize_completion(prompt.chain).to(self.device)
