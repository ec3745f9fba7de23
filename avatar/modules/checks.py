"""What is refused before any compute is spent: settings that make no sense together, checkpoints of other models."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from avatar.errors import CheckpointError, ConfigError

RLModule = Any  # avatar.modules.rl.RLModule, which imports this file


def check_settings(module: RLModule) -> None:
    """Refuse settings that make no sense, by their names.

    Raises:
        ConfigError: With the argument, what was wanted, and what came.
    """
    if module.num_generations < 2:
        raise ConfigError(
            f"model.num_generations must be at least 2, got {module.num_generations}: a group of one has no spread, "
            "so every advantage would be 0 and nothing would be learnt"
        )
    if module.sampling.temperature <= 0:
        raise ConfigError(f"model.temperature must be above 0 to explore, got {module.sampling.temperature}")
    if not module.rewards:
        raise ConfigError("model.rewards is empty: give at least one reward")
    if not module.max_grad_norm > 0:
        raise ConfigError(f"model.max_grad_norm must be above 0, got {module.max_grad_norm}")
    for name, least in (("updates_per_rollout", 1), ("part_norms_every", 0)):
        if getattr(module, name) < least:
            raise ConfigError(f"model.{name} must be at least {least}, got {getattr(module, name)}")
    if module.advantage.needs_replay and module.memory.replay is None:
        raise ConfigError(
            f"model.advantage {type(module.advantage).__name__} scores replayed completions, but nothing is replayed: "
            "add a model.replay section (--model.replay.num_replayed 4), or take GRPO or TAS"
        )
    _check_replay(module)
    _check_hints(module)


def _check_replay(module: RLModule) -> None:
    replay, name = module.memory.replay, type(module.advantage).__name__
    if replay is None:
        return
    if replay.max_staleness is not None and replay.max_staleness < module.updates_per_rollout:
        raise ConfigError(
            f"model.replay.max_staleness {replay.max_staleness} is less than the {module.updates_per_rollout} steps "
            "between two rollouts (model.updates_per_rollout), so nothing could ever be replayed"
        )
    if replay.scope == "any" and not module.advantage.needs_replay:
        raise ConfigError(
            f"model.advantage {name} holds replayed completions against the fresh ones of the group, but with "
            "model.replay.scope any they are of other prompts: take Mixed or AVATAR, or TAS with base Mixed; or scope "
            "prompt; or no replay (--model.replay null)"
        )


def _check_hints(module: RLModule) -> None:
    if module.memory.hints is None:
        return
    if module.num_generations < 4:
        raise ConfigError(
            f"model.num_generations must be at least 4 with model.hints, got {module.num_generations}: half of a "
            "hinted group sees no hint, and a half of one has no spread"
        )
    if module.memory.hints.needs_reference and module.reference is None:
        raise ConfigError(
            f"model.hints {type(module.memory.hints).__name__} looks at the KL to the reference, but "
            "model.objective.beta is 0; set it above 0, or take ZeroStreak"
        )


def check_trainer(trainer: Any) -> None:
    """Refuse settings of the Trainer that manual optimisation has no use for.

    Raises:
        ConfigError: One is set.
    """
    if trainer.gradient_clip_val:
        raise ConfigError("trainer.gradient_clip_val does nothing here: set model.max_grad_norm")
    if trainer.accumulate_grad_batches != 1:
        raise ConfigError(
            "trainer.accumulate_grad_batches does nothing here: set data.batch_size, and for the cold start "
            "model.micro_batch_size to what the memory holds"
        )
    if str(trainer.precision) not in ("32-true", "bf16-mixed"):
        raise ConfigError(
            f"trainer.precision {trainer.precision} does not work here: leave it at 32-true and set "
            "model.policy.dtype to bfloat16, or take bf16-mixed"
        )


def check_devices(module: RLModule) -> None:
    """Refuse what is not exact on several devices.

    Raises:
        ConfigError: It is not.
    """
    if module.trainer.world_size == 1:
        return
    if module.updates_per_rollout > 1:
        raise ConfigError("model.updates_per_rollout above 1 works on one device only so far: set it to 1")
    if module.memory.replay and module.memory.replay.draw == "fifo":
        raise ConfigError(
            "model.replay.draw fifo takes completions out of a buffer that all devices share: take priority or uniform"
        )
    if not isinstance(module.trainer.strategy, DDPStrategy):
        raise ConfigError(
            f"trainer.strategy {type(module.trainer.strategy).__name__} splits weights among devices, which the text "
            "model cannot do here yet: take ddp, with policy.lora and gradient_checkpointing if memory is short"
        )


def check_origin(module: RLModule, stored: dict[str, Any]) -> None:
    """Refuse a checkpoint that was trained against, or whose buffer was filled by, other models than those here.

    Args:
        module: With its models loaded, or not yet: what is not there is not compared.
        stored: What :meth:`RLModule.on_save_checkpoint` put into the checkpoint.

    Raises:
        CheckpointError: A fingerprint differs, or stored completions lack what the KL term needs.
    """
    then, now = stored.get("reference"), getattr(module.reference, "fingerprint", None)
    if then and now and then["fingerprint"] != now:
        raise CheckpointError(
            f"the checkpoint was trained against the reference in {then['path']!r} ({then['fingerprint']}), "
            f"but what lies in {module.reference.path!r} is another model ({now})"
        )
    base, path = stored.get("base"), module.policy.path
    if base and module.policy.base_fingerprint and base != module.policy.base_fingerprint:
        raise CheckpointError(
            f"the checkpoint holds LoRA weights over the base {base}, but what lies in {path!r} is another model "
            f"({module.policy.base_fingerprint})"
        )
    if (then_at := stored.get("temperature")) and module.memory.replay and then_at != module.sampling.temperature:
        raise CheckpointError(
            f"the replay buffer of the checkpoint holds log-probs at model.temperature {then_at:g}, not at "
            f"{module.sampling.temperature:g}: keep the temperature, or go on without replay (--model.replay null)"
        )
    for what, was in stored.get("origin", {}).items():
        if (found := module.origin.get(what, was)) != was:
            raise CheckpointError(
                f"the replay buffer of the checkpoint was filled by another {what} ({was}) than the one in {path!r} "
                f"({found}): its token ids and log-probs mean nothing here"
            )
    buffer = stored.get("memory", {}).get("buffer") or {}
    if module.reference and module.memory.buffer is not None and not all(buffer.get("has_reference", [])):
        raise CheckpointError(
            "the replay buffer of the checkpoint was filled without a reference, so its completions have no log-probs "
            "for the KL term; set model.objective.beta to 0, or leave model.replay out"
        )
