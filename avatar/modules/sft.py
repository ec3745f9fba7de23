"""The cold start: supervised fine-tuning on chains of thought, loss on the completion only."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from avatar.errors import DataError
from avatar.modules.evaluation import EvaluationModule
from avatar.modules.perception import Perception
from avatar.modules.policy import Policy
from avatar.modules.steps import zero_loss
from avatar.types import Prompt


class SFTModule(EvaluationModule):
    """Token-level supervised fine-tuning of a policy.

    Args:
        policy: The model to train.
        perception: Teach the towers first, see :class:`Perception`; None leaves them as ``policy.freeze_towers`` says.
        max_new_tokens: Length limit of answers in validation.
        optimizer: Built over all parameters that take gradients at some time.
        lr_scheduler: Stepped after every optimizer step; None keeps the rate.
    """

    def __init__(
        self,
        policy: Policy,
        perception: Perception | None = None,
        max_new_tokens: int = 256,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(policy, max_new_tokens)
        self.perception = perception
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler

    def configure_optimizers(self) -> Any:
        """Optimizer and scheduler, the latter by step."""
        self._set_towers()
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])  # type: ignore[arg-type]
        if self.lr_scheduler is None:
            return optimizer
        return [optimizer], [{"scheduler": self.lr_scheduler(optimizer), "interval": "step"}]

    def _set_towers(self) -> bool:
        """Switch the towers' gradients for this step; True while perception is taught."""
        teaching = self.perception is not None and self.global_step < self.perception.steps
        self.policy.adapter.freeze_towers(self.policy.freeze_towers and not teaching)
        return teaching

    def training_step(self, batch: list[Prompt], batch_idx: int) -> Tensor:
        """Loss of one batch; 0 where all its records could not be read, while other processes train in step."""
        teaching = self._set_towers()
        if not batch:
            return zero_loss(self.parameters())
        if teaching:
            assert self.perception is not None
            loss, metrics = self.perception(self.policy.adapter, batch)
        else:
            loss, metrics = self.completion_loss(batch)
        learning_rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        self.log_step({"loss": loss.detach(), **metrics, "learning_rate": learning_rate}, self.global_step + 1)
        return loss

    def completion_loss(self, batch: list[Prompt]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean negative log-probability of the gold completions' tokens, in nats.

        Raises:
            DataError: A prompt has no gold completion.
        """
        chains = [_chain(prompt) for prompt in batch]
        rows = [self.policy.adapter.tokenize_completion(chain).to(self.device) for chain in chains]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # [N, T]
        mask = (
            torch.arange(ids.shape[1], device=ids.device)
            < torch.tensor([len(r) for r in rows], device=ids.device)[:, None]
        )
        prefixes = self.policy.encode(batch)
        logprobs = self.policy(prefixes, ids, mask, torch.arange(len(batch)), 1.0)
        return -logprobs.sum() / mask.sum(), {"completion/length": mask.sum() / len(batch)}


def _chain(prompt: Prompt) -> str:
    if prompt.chain is None:
        raise DataError(f"{prompt.key}: the record has no 'chain', which the cold start learns from")
    return prompt.chain
