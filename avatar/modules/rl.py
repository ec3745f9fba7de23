"""Reinforcement learning: one training step is generate, reward, score, update."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from jsonargparse.typing import lazy_instance
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from avatar.advantages import GRPO, Advantage
from avatar.errors import CheckpointError, ConfigError
from avatar.losses import clipped_policy_loss
from avatar.models.base import Prefix
from avatar.modules.evaluation import EvaluationModule
from avatar.modules.policy import Policy
from avatar.modules.reference import Reference
from avatar.rewards import Accuracy, Format, Reward, score
from avatar.rollouts import HFEngine, RolloutEngine
from avatar.types import Completion, Experience, Prompt, Sampling


@dataclass(frozen=True)
class Rollout:
    """What one step generated, for those who log it.

    Attributes:
        prompts: B prompts.
        completions: N completions.
        experience: Their tensors, rewards and groups.
        parts: [N] of each reward, by name.
        advantages: [N, T].
    """

    prompts: list[Prompt]
    completions: list[Completion]
    experience: Experience
    parts: dict[str, Tensor]
    advantages: Tensor


class RLModule(EvaluationModule):
    """Group-relative policy optimisation of a policy against rewards.

    The module never sees pixels or names of estimators: prompts are encoded by the policy, completions come from an
    engine, and advantages from whatever object was injected.

    Args:
        policy: The model to train.
        reference: The frozen model of the KL term; None starts from the policy's own path. Not loaded when beta is 0.
        advantage: Turns rewards into advantages.
        rewards: Summed by their weights; None is 0.5 ``Format`` + 1.0 ``Accuracy``.
        engine: Who generates.
        num_generations: Completions a prompt, at least 2.
        temperature: Of sampling, above 0.
        max_new_tokens: Length limit of a completion.
        beta: Weight of the KL term.
        clip_eps_low: The ratio is clipped at 1 less this.
        clip_eps_high: The ratio is clipped at 1 plus this.
        max_grad_norm: Gradients are scaled down to this norm.
        optimizer: Built over the parameters that take gradients.
        lr_scheduler: Stepped after every optimizer step; None keeps the rate.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Reference | None = None,
        advantage: Advantage = lazy_instance(GRPO),  # noqa: B008
        rewards: list[Reward] | None = None,
        engine: RolloutEngine = lazy_instance(HFEngine),  # noqa: B008
        num_generations: int = 8,
        temperature: float = 1.0,
        max_new_tokens: int = 256,
        beta: float = 0.1,
        clip_eps_low: float = 0.2,
        clip_eps_high: float = 0.2,
        max_grad_norm: float = 1.0,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(policy, max_new_tokens)
        rewards = [Format(0.5), Accuracy()] if rewards is None else rewards
        _check(num_generations, temperature, beta, rewards)
        self.automatic_optimization = False
        self.strict_loading = False  # the reference's weights are in no checkpoint; the policy's are checked below
        self.reference = (reference or Reference()) if beta else None
        if self.reference:
            self.reference.follow(policy)
        self.advantage, self.rewards, self.engine = advantage, rewards, engine
        self.num_generations, self.sampling = num_generations, Sampling(temperature, max_new_tokens)
        self.beta, self.clip_eps_low, self.clip_eps_high = beta, clip_eps_low, clip_eps_high
        self.max_grad_norm, self.optimizer, self.lr_scheduler = max_grad_norm, optimizer, lr_scheduler
        self.num_generated = 0
        self.rollout: Rollout | None = None
        self._seconds: dict[str, float] = {}
        self._reference_of_checkpoint: dict[str, str] | None = None

    def configure_model(self) -> None:
        """Load the policy and, for training with a KL term, the reference."""
        super().configure_model()
        if self.reference and self.trainer.training:
            self.reference.configure_model()
            self._check_reference()

    def configure_optimizers(self) -> Any:
        """Optimizer over the trainable parameters of the policy, and its scheduler."""
        optimizer = self.optimizer([p for p in self.policy.parameters() if p.requires_grad])  # type: ignore[arg-type]
        return [optimizer], [self.lr_scheduler(optimizer)] if self.lr_scheduler else []

    # -- one step ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: list[Prompt], batch_idx: int) -> None:
        """Generate, reward, score and update on one batch of prompts."""
        self._seconds = {}
        with self._clock("encode"), torch.set_grad_enabled(not self.policy.adapter.towers_frozen):
            prefixes = self.policy.encode(batch)
        completions, group = self._generate(prefixes)
        with self._clock("reward"):
            scored, parts = score(self.rewards, batch, completions, group)
        experience = Experience.from_completions(
            completions, group.to(self.device), scored.rewards.to(self.device), scored.valid.to(self.device)
        )
        advantages = self.advantage(experience)
        self.rollout = Rollout(batch, completions, experience, parts, advantages)
        ref_prefixes = self.reference.prefixes(batch, self.policy, prefixes) if self.reference else None
        metrics = self._update(prefixes, ref_prefixes, experience, advantages)
        self._log(metrics | rollout_metrics(self.rollout, prefixes, self.policy.adapter.media_token_ids))

    def _generate(self, prefixes: list[Prefix]) -> tuple[list[Completion], Tensor]:
        """N completions in the order of their prompts, and [N] which prompt each is of."""
        step = self.global_step + 1
        generator = torch.Generator(self.device).manual_seed(step_seed(torch.initial_seed(), step, self.global_rank))
        with self._clock("generate"):
            groups = self.engine.generate(self.policy.adapter, prefixes, self.num_generations, self.sampling, generator)
        completions = [replace(c, step=step) for group in groups for c in group]
        self.num_generated += len(completions) * self.trainer.world_size
        return completions, torch.arange(len(groups)).repeat_interleave(self.num_generations)

    def _update(
        self, prefixes: list[Prefix], ref_prefixes: list[Prefix] | None, experience: Experience, advantages: Tensor
    ) -> dict[str, Any]:
        loss, metrics = self.objective(prefixes, ref_prefixes, experience, advantages)
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        with self._clock("update"):
            optimizer.zero_grad()  # type: ignore[union-attr]
            self.manual_backward(loss)
            parameters = [p for p in self.policy.parameters() if p.grad is not None]
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
            learning_rate = optimizer.param_groups[0]["lr"]  # type: ignore[union-attr]
            optimizer.step()  # type: ignore[union-attr]
            if scheduler is not None:
                scheduler.step()  # type: ignore[union-attr, call-arg]
        return metrics | {"loss": loss.detach(), "grad_norm": norm, "learning_rate": learning_rate}

    def objective(
        self, prefixes: list[Prefix], ref_prefixes: list[Prefix] | None, experience: Experience, advantages: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its metrics, see :func:`clipped_policy_loss`; completions not valid are left out."""
        inputs = (experience.ids, experience.mask, experience.group, self.sampling.temperature)
        with self._clock("score"):
            ref_logprobs = self.reference(ref_prefixes, *inputs) if self.reference else None
            logprobs = self.policy(prefixes, *inputs)
        return clipped_policy_loss(
            logprobs,
            experience.behaviour_logprobs,
            advantages,
            experience.mask & experience.valid[:, None],
            ref_logprobs,
            self.beta,
            self.clip_eps_low,
            self.clip_eps_high,
        )

    # -- logging -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._seconds[f"time/{name}"] = time.perf_counter() - start

    def _log(self, metrics: dict[str, Any]) -> None:
        memory = {"memory/rss_mb": psutil.Process().memory_info().rss / 2**20}
        if self.device.type == "cuda":
            memory["memory/gpu_mb"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        self.log("step", float(self.global_step))
        self.log_dict({**metrics, "completions/generated": float(self.num_generated), **self._seconds, **memory})
        self.log("reward", metrics["reward/mean"], prog_bar=True, logger=False)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the policy's weights, and of the reference only where it lies and its fingerprint."""
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in weights.items() if not k.startswith("reference.")}
        reference = self.reference and {"path": self.reference.path, "fingerprint": self.reference.fingerprint}
        checkpoint["rl"] = {"num_generated": self.num_generated, "reference": reference}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counts up again; a checkpoint without all of the policy, or of another reference, is refused."""
        wanted = {k for k in self.state_dict() if not k.startswith("reference.")}
        if missing := sorted(wanted - set(checkpoint["state_dict"])):
            raise CheckpointError(
                f"the checkpoint lacks {len(missing)} weights of the policy, the first is {missing[0]!r}"
            )
        state = checkpoint.get("rl", {})
        self.num_generated = state.get("num_generated", 0)
        self._reference_of_checkpoint = state.get("reference")
        self._check_reference()

    def _check_reference(self) -> None:
        then, now = self._reference_of_checkpoint, getattr(self.reference, "fingerprint", None)
        if then and now and then["fingerprint"] != now:
            raise CheckpointError(
                f"the checkpoint was trained against the reference in {then['path']!r} ({then['fingerprint']}), "
                f"but what lies in {self.reference.path!r} is another model ({now})"  # type: ignore[union-attr]
            )


def _check(num_generations: int, temperature: float, beta: float, rewards: list[Reward]) -> None:
    if num_generations < 2:
        raise ConfigError(
            f"model.num_generations must be at least 2, got {num_generations}: a group of one has no spread, "
            "so every advantage would be 0 and nothing would be learnt"
        )
    if temperature <= 0:
        raise ConfigError(f"model.temperature must be above 0 to explore, got {temperature}")
    if beta < 0:
        raise ConfigError(f"model.beta must be 0 or more, got {beta}")
    if not rewards:
        raise ConfigError("model.rewards is empty: give at least one reward")


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of what is random in one step of one process; no state, so a resumed run draws what the first would have."""
    return (seed * 1_000_003 + step * 1_009 + rank) % 2**63


def rollout_metrics(rollout: Rollout, prefixes: list[Prefix], media_ids: dict[str, int]) -> dict[str, float]:
    """Rewards, group spread, lengths and prompt tokens of a step, by the names of docs/metrics.md."""
    experience, group = rollout.experience, rollout.experience.group
    valid, lengths = experience.valid, experience.mask.sum(-1).float()
    rewards = experience.rewards[valid]
    groups = [experience.rewards[valid & (group == g)] for g in group.unique()]
    same = [float(len(g) < 2 or g.max() == g.min()) for g in groups]
    per_completion = torch.where(experience.mask, rollout.advantages, 0.0).sum(-1) / lengths.clamp(min=1)
    tokens = {
        f"tokens/{k}": sum(int((p.ids == i).sum()) for p in prefixes) / len(prefixes) for k, i in media_ids.items()
    }
    return {
        "reward/mean": float(rewards.mean()) if len(rewards) else 0.0,
        "reward/std": float(rewards.std()) if len(rewards) > 1 else 0.0,
        **{f"reward/{name}": float(part.mean()) for name, part in rollout.parts.items()},
        "reward/invalid_share": float((~valid).float().mean()),
        "advantage/zero_spread_share": sum(same) / len(same),
        "advantage/abs_mean": float(per_completion.abs().mean()),
        "completion/length": float(lengths.mean()),
        "completion/truncated_share": sum(not c.finished for c in rollout.completions) / len(rollout.completions),
        "tokens/prompt": sum(len(p.ids) for p in prefixes) / len(prefixes),
        **tokens,
    }
