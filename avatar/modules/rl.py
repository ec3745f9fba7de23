"""Reinforcement learning: one training step is generate, reward, mix in replay, score, update, store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

import psutil
import torch
from jsonargparse.typing import lazy_instance
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from avatar.advantages import GRPO, Advantage
from avatar.errors import CheckpointError, ConfigError
from avatar.losses import Losses, Objective, TokenBatch
from avatar.models.base import Prefix
from avatar.modules.checks import check_devices, check_origin, check_settings
from avatar.modules.evaluation import EvaluationModule
from avatar.modules.mixing import Placed, Posed, place, pose, replayed_experience, without_spread
from avatar.modules.policy import Policy
from avatar.modules.reference import Reference
from avatar.modules.rollout import Rollout, hint_metrics, replay_metrics, rollout_metrics, visits_of
from avatar.modules.steps import clipped_step, of_all_ranks, part_norms, step_seed, zero_loss
from avatar.replay import HintTrigger, Memory, Replay, Visit
from avatar.rewards import Accuracy, Format, Reward, rehearse, score
from avatar.rollouts import HFEngine, RolloutEngine
from avatar.types import Completion, Experience, Prompt, Sampling, join_rows, pad_rows


class RLModule(EvaluationModule):
    """Group-relative policy optimisation of a policy against rewards, with replay and hints if they are configured.

    The module never sees pixels or names of estimators: prompts are encoded by the policy, completions come from an
    engine and from the replay buffer, and advantages from whatever object was injected.

    Args:
        policy: The model to train.
        reference: The frozen model of the KL term; None starts from the policy's own path, or with LoRA is the policy
            with its adapter off. Not loaded when ``objective.beta`` is 0.
        advantage: Turns rewards into advantages.
        rewards: Summed by their weights; None is 0.5 ``Format`` + 1.0 ``Accuracy``.
        objective: What is minimised.
        replay: The replay buffer; None replays nothing.
        hints: When a prompt is shown its hint; None is never.
        engine: Who generates.
        num_generations: New completions a prompt, at least 2; at least 4 with hints.
        temperature: Of sampling, above 0.
        top_k: Sample among this many likeliest tokens; 0 is all.
        top_p: Of these, sample among the fewest likeliest that have this share of the probability; 1 is all.
        max_new_tokens: Length limit of a completion.
        mask_truncated: Leave out completions that the length limit has cut off: they are neither trained on nor stored,
            and a visit with nothing else counts for no hint. Else they stay in, with format 0.
        updates_per_rollout: Optimizer steps on each batch of completions.
        reward_window: Last rewards of a prompt that make its reference score.
        max_grad_norm: Gradients are scaled down to this norm.
        part_norms_every: How often, in steps, the gradient norms of the fresh and the replayed part are measured apart,
            which costs one more backward pass; 0 is never.
        optimizer: Built over the parameters that take gradients.
        lr_scheduler: Stepped after every optimizer step; None keeps the rate.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Reference | None = None,
        advantage: Advantage = lazy_instance(GRPO),  # noqa: B008
        rewards: list[Reward] | None = None,
        objective: Objective = Objective(),  # noqa: B008
        replay: Replay | None = None,
        hints: HintTrigger | None = None,
        engine: RolloutEngine = lazy_instance(HFEngine),  # noqa: B008
        num_generations: int = 8,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        max_new_tokens: int = 256,
        mask_truncated: bool = False,
        updates_per_rollout: int = 1,
        reward_window: int = 20,
        max_grad_norm: float = 1.0,
        part_norms_every: int = 10,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(policy, max_new_tokens)
        self.automatic_optimization = False
        self.strict_loading = False  # the reference's weights are in no checkpoint; the policy's are checked below
        self.reference = (reference or Reference()) if objective.beta else None
        if self.reference:
            self.reference.follow(policy)
        self.advantage, self.objective, self.engine = advantage, objective, engine
        self.rewards = [Format(0.5), Accuracy()] if rewards is None else rewards
        self.memory = Memory(replay, hints, reward_window)
        self.num_generations, self.sampling = num_generations, Sampling(temperature, max_new_tokens, top_k, top_p)
        self.mask_truncated, self.updates_per_rollout = mask_truncated, updates_per_rollout
        self.max_grad_norm, self.part_norms_every = max_grad_norm, part_norms_every
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.num_generated = 0
        self.rollout: Rollout | None = None
        self.metrics: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        self._cpu = 0.0
        self.origin: dict[str, str] = {}
        self._stored: dict[str, Any] = {}
        check_settings(self)

    def configure_model(self) -> None:
        """Load the policy and, for training with a KL term, the reference."""
        super().configure_model()
        if not self.trainer.training:
            return
        check_devices(self)
        if self.memory.buffer is not None and not self.origin:
            adapter = self.policy.adapter
            self.origin = {"model": adapter.fingerprint(), "tokenizer": adapter.vocabulary_fingerprint()}
        if self.reference:
            self.reference.configure_model()
        check_origin(self, self._stored)

    def configure_optimizers(self) -> Any:
        """Optimizer over the trainable parameters of the policy, and its scheduler."""
        try:
            optimizer = self.optimizer([p for p in self.policy.parameters() if p.requires_grad])  # type: ignore[arg-type]
        except ValueError as error:
            raise ConfigError(f"model.optimizer: {error}") from None
        return [optimizer], [self.lr_scheduler(optimizer)] if self.lr_scheduler else []

    def rehearse(self, prompt: Prompt) -> None:
        """Call every reward on two empty completions, so that one that cannot work is told before a model is loaded.

        Raises:
            ConfigError: See :func:`avatar.rewards.rehearse`.
        """
        rehearse(self.rewards, prompt)

    # -- one step ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: list[Prompt], batch_idx: int) -> None:
        """Generate, reward, mix in what is replayed, update, and remember, on one batch of prompts.

        Where several processes train in step, a batch may be empty, see :class:`PromptLoader`.
        """
        self._seconds, step, towers_before = {}, self.global_step + 1, self._tower_calls()
        self._cpu = time.process_time()
        if not batch:
            self._stand_by(step)
            return
        posed = pose(batch, self.memory, self.num_generations)
        prefixes = self._encode(posed.prompts)
        completions, index = self._generate(prefixes, posed.nums, len(batch), step)
        fresh, parts, earned = self._reward(posed.prompts, completions, index)
        alpha, placed, asked = self._replay(batch, posed, fresh, step)
        prefixes += self._encode(placed.extra) if placed.extra else []
        experience = fresh.join(replayed_experience(placed, self.memory, self.device)) if placed.entries else fresh
        ref_logprobs = self._ref_logprobs(posed.prompts, prefixes, fresh, placed)
        estimates = self.advantage.estimate(experience)
        self.rollout = Rollout(
            step=step,
            posed=posed,
            completions=completions,
            entries=placed.entries,
            unreadable=placed.unreadable,
            experience=experience,
            parts=parts,
            earned=earned,
            estimates=estimates,
            advantages=self.advantage.spread(estimates, experience),
            ref_logprobs=ref_logprobs,
        )
        metrics = self._metrics(self.rollout, prefixes, alpha, asked)
        for update in range(self.updates_per_rollout):
            if update and not self.policy.adapter.towers_frozen:  # they have moved, and their graph is gone
                prefixes = self._encode(posed.prompts + placed.extra)
            metrics |= self._update(prefixes, self.rollout, alpha)
        visits = visits_of(self.rollout, self.memory.replay)
        self._remember(visits, bool(placed.entries), len(completions), placed.unreadable)
        self.metrics = metrics
        runs = {k: (n - towers_before[k]) / len(prefixes) for k, n in self._tower_calls().items()}
        self._log({**metrics, **{f"encode/{k}_runs_per_prompt": share for k, share in runs.items()}})

    def _encode(self, prompts: list[Prompt]) -> list[Prefix]:
        with self._clock("encode"), torch.set_grad_enabled(not self.policy.adapter.towers_frozen):
            return self.policy.encode(prompts)

    def _generate(
        self, prefixes: list[Prefix], nums: Sequence[int], num_visits: int, step: int
    ) -> tuple[list[Completion], Tensor]:
        """The fresh completions in the order of their prompts, and which prompt each is of."""
        generator = torch.Generator(self.device).manual_seed(step_seed(torch.initial_seed(), step, self.global_rank))
        with self._clock("generate"):
            groups = self.engine.generate(self.policy.adapter, prefixes, nums, self.sampling, generator)
        completions = [replace(c, step=step, hinted=i >= num_visits) for i, group in enumerate(groups) for c in group]
        return completions, torch.arange(len(groups)).repeat_interleave(torch.tensor(nums))

    def _reward(
        self, prompts: list[Prompt], completions: list[Completion], index: Tensor
    ) -> tuple[Experience, dict[str, Tensor], Tensor]:
        """The fresh experience, each reward by name, and [N] whether anything but the format was rewarded."""
        with self._clock("reward"):
            scored = score(self.rewards, prompts, completions, index)
        valid = scored.valid
        if self.mask_truncated:
            valid = valid & torch.tensor([c.finished for c in completions])
        keys = [(prompts[i].key, c.hinted) for i, c in zip(index.tolist(), completions, strict=True)]
        past = torch.tensor([self.memory.tracker.reference_score(*key) for key in keys])
        tensors = (index, scored.rewards, valid, past.float())
        experience = Experience.from_completions(completions, *(t.to(self.device) for t in tensors))
        return experience, scored.parts, scored.earned

    def _replay(self, batch: list[Prompt], posed: Posed, fresh: Experience, step: int) -> tuple[float, Placed, int]:
        """Weight of the replayed part, what is replayed, and for how many prompts it was wanted."""
        replay, alpha = self.memory.replay, self.memory.alpha(step)
        wanted = [True] * len(batch)
        if replay and replay.when == "zero_spread":
            wanted = without_spread(fresh, posed.visit)
        rng = Random(step_seed(torch.initial_seed(), step, self.global_rank))
        with self._clock("replay"):
            drawn = self.memory.draw(batch, wanted, step, rng)
            placed = place(batch, posed, drawn, lambda key: self.trainer.datamodule.prompt(key))  # type: ignore[attr-defined]
        return alpha, placed, sum(wanted) if alpha else 0

    def _ref_logprobs(
        self, prompts: list[Prompt], prefixes: list[Prefix], fresh: Experience, placed: Placed
    ) -> Tensor | None:
        """[N, T] under the reference: computed for fresh completions, as stored for replayed ones."""
        if self.reference is None:
            return None
        with self._clock("reference"):
            ref_prefixes = self.reference.prefixes(prompts, self.policy, prefixes[: len(prompts)])
            inputs = (fresh.ids, fresh.mask, fresh.prompt, self.sampling.temperature)
            ref_logprobs = self.reference(ref_prefixes, *inputs)
        if not placed.entries:
            return ref_logprobs
        stored = [e.ref_logprobs for e in placed.entries if e.ref_logprobs is not None]
        return join_rows(ref_logprobs, pad_rows(stored).to(self.device))

    def _stand_by(self, step: int) -> None:
        """Take part in the others' step with nothing to add."""
        self.rollout, self.metrics = None, {}
        for _ in range(self.updates_per_rollout):
            self._descend(zero_loss(self.policy.parameters()), step)
        self._remember([], False, 0, {})
        self._log({})

    def _update(self, prefixes: list[Prefix], rollout: Rollout, alpha: float) -> dict[str, Any]:
        """One optimizer step."""
        losses, metrics = self._losses(prefixes, rollout, alpha)
        with self._clock("update"):
            apart = self._replayed_gradient(losses) if rollout.entries else {}
            metrics |= self._descend(losses.total, rollout.step, apart)
        return metrics | {"loss": losses.total.detach()}

    def _descend(self, loss: Tensor, step: int, apart: dict[Tensor, Tensor] | None = None) -> dict[str, Any]:
        """Down the gradient of ``loss``, clipped; ``apart`` is that of its replayed part, where it was taken."""
        self.optimizers().zero_grad()  # type: ignore[union-attr]
        self.manual_backward(loss)
        parameters = [p for p in self.policy.parameters() if p.grad is not None]
        norms = part_norms(parameters, apart or {})
        return {**norms, **clipped_step(self, parameters, self.max_grad_norm, step)}

    def _losses(self, prefixes: list[Prefix], rollout: Rollout, alpha: float) -> tuple[Losses, dict[str, Any]]:
        """See :class:`Objective`; completions not valid are left out."""
        experience = rollout.experience
        with self._clock("score"):
            inputs = (experience.ids, experience.mask, experience.prompt, self.sampling.temperature)
            logprobs, entropy = self.policy.logprobs_and_entropy(prefixes, *inputs)
        tokens = TokenBatch(
            logprobs,
            experience.behaviour_logprobs,
            rollout.advantages,
            experience.mask & experience.valid[:, None],
            experience.is_replayed,
            rollout.ref_logprobs,
        )
        losses, metrics = self.objective(tokens, alpha, self.sampling.max_new_tokens)
        fresh = tokens.mask & ~tokens.is_replayed[:, None]
        return losses, metrics | ({"entropy/fresh": entropy[fresh].mean()} if fresh.any() else {})

    def _replayed_gradient(self, losses: Losses) -> dict[Tensor, Tensor]:
        """Gradient of the replayed part alone, when it is time to look at it."""
        due = self.part_norms_every and self.global_step % self.part_norms_every == 0
        if not due or self.trainer.world_size > 1:
            return {}
        parameters = [p for p in self.policy.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(losses.replayed, parameters, retain_graph=True, allow_unused=True)
        return {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}

    def _remember(self, visits: list[Visit], replayed: bool, num: int, unreadable: dict[str, str]) -> None:
        """Count, record rewards and store completions, those of all ranks in one order.

        Args:
            visits: What was seen of each prompt of this process.
            replayed: Whether it replayed anything.
            num: How many completions it generated.
            unreadable: Prompts whose clips are gone, and why.
        """
        ranks = of_all_ranks([(visits, replayed, num, unreadable)])
        for key, reason in (item for *_, unreadable in ranks for item in unreadable.items()):
            rank_zero_warn(f"{reason}; its stored completions are dropped from the replay buffer")
            self.memory.buffer.drop_prompt(key)  # type: ignore[union-attr]
        self.memory.record([v for visits, *_ in ranks for v in visits], any(replayed for _, replayed, *_ in ranks))
        self.num_generated += sum(num for _, _, num, _ in ranks)

    # -- logging -----------------------------------------------------------------------------------------------------

    def _metrics(self, rollout: Rollout, prefixes: list[Prefix], alpha: float, asked: int) -> dict[str, Any]:
        metrics: dict[str, Any] = rollout_metrics(rollout, prefixes, self.policy.adapter.media_token_ids)
        if self.memory.hints:
            metrics |= hint_metrics(rollout)
        if self.memory.buffer is not None:
            metrics |= replay_metrics(rollout, self.memory, alpha, asked)
        return metrics

    def _tower_calls(self) -> dict[str, int]:
        """Clips that went through each tower so far, those of the policy and those of a reference of its own."""
        models = [m for m in (self.policy, self.reference) if m is not None and hasattr(m, "adapter")]
        return {kind: sum(m.adapter.tower_calls[kind] for m in models) for kind in self.policy.adapter.tower_calls}

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        key = f"time/{name}"
        self._seconds[key] = self._seconds.get(key, 0.0) + time.perf_counter() - start

    def _log(self, metrics: dict[str, Any]) -> None:
        memory = {"memory/rss_mb": psutil.Process().memory_info().rss / 2**20}
        if self.device.type == "cuda":
            memory["memory/gpu_mb"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        skipped = getattr(self.trainer.datamodule, "failures", {})  # type: ignore[attr-defined]
        counts = {"completions/generated": float(self.num_generated), "data/skipped": float(len(skipped))}
        cpu = {"cpu/step": time.process_time() - self._cpu}
        self.log_step({**metrics, **counts, **self._seconds, **cpu, **memory}, self.global_step)
        self.log("reward", metrics.get("reward/mean", torch.nan), prog_bar=True, logger=False)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the policy's weights, the memory, and of the reference only where it lies and its fingerprint."""
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in weights.items() if self._is_saved(k)}
        reference = self.reference and {"path": self.reference.path, "fingerprint": self.reference.fingerprint}
        checkpoint["rl"] = {
            "num_generated": self.num_generated,
            "reference": reference,
            "base": self.policy.base_fingerprint,
            "origin": self.origin,
            "temperature": self.sampling.temperature,
            "memory": self.memory.state_dict(),
        }

    def _is_saved(self, name: str) -> bool:
        return name.startswith("policy.") and self.policy.is_saved(name.removeprefix("policy."))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take counts and memory up again; a checkpoint without all of the policy, or of other models, is refused."""
        wanted = {k for k in self.state_dict() if self._is_saved(k)}
        if missing := sorted(wanted - set(checkpoint["state_dict"])):
            raise CheckpointError(
                f"the checkpoint lacks {len(missing)} weights of the policy, the first is {missing[0]!r}"
            )
        self._stored = checkpoint.get("rl", {})
        self.num_generated = self._stored.get("num_generated", 0)
        check_origin(self, self._stored)
        if "memory" in self._stored:
            self.memory.load_state_dict(self._stored["memory"])
