"""The other side of ``avatar bench step``: TRL's GRPOTrainer on the same model, with a prompt of text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from avatar.commands.bench.job import LEARNING_RATE, Job, reward_of
from avatar.commands.bench.options import StepOptions
from avatar.commands.bench.worker import Gate, start
from avatar.models.lora import LoRA


class TimedTrainer(GRPOTrainer):
    """A GRPOTrainer that tells how long its parts take, and what they were of.

    Args:
        gate: Keeps the clocks.
    """

    def __init__(self, gate: Gate, **kwargs: Any) -> None:
        self.gate = gate
        self.tokens: dict[str, Any] = {}
        super().__init__(**kwargs)

    def _tokenize_prompts(self, *args: Any) -> Any:
        with self.gate.clock("encode"):
            tokenized = super()._tokenize_prompts(*args)
        self.tokens["prompt"] = _mean_length(tokenized[0])
        return tokenized

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with self.gate.clock("generate"):
            generated = super()._generate_single_turn(*args, **kwargs)
        self.tokens |= {"completion": _mean_length(generated[0]), "fresh": len(generated[0])}
        return generated

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        with self.gate.clock("reward"):
            return super()._calculate_rewards(*args, **kwargs)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        """The reference's without gradient, the policy's with it."""
        if torch.is_grad_enabled():
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)
        with self.gate.clock("reference"):
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)


def _mean_length(rows: Sequence[Sequence[int]]) -> float:
    return sum(map(len, rows)) / len(rows)


class OneAtATime(TrainerCallback):
    """Waits at the gate before each step."""

    trainer: TimedTrainer

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Wait."""
        models = [model for model in (self.trainer.model, self.trainer.ref_model) if model is not None]
        self.trainer.gate.wait(p for model in models for p in model.parameters())

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Answer."""
        self.trainer.gate.answer(self.trainer.tokens)


def spread(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
    """See :func:`reward_of`."""
    return [reward_of(ids) for ids in completion_ids]


def build_trainer(job: Job, gate: Gate) -> TimedTrainer:
    """What is trained. The reference is loaded by TRL itself, from where the model was."""
    options, lora = job.options, None
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        job.folder, dtype=options.dtype, attn_implementation="sdpa"
    )
    for tower in (model.model.visual, model.model.audio_tower):
        tower.requires_grad_(False)
    if options.lora_r:
        ours = LoRA(r=options.lora_r)
        lora = LoraConfig(r=ours.r, lora_alpha=ours.alpha, target_modules=ours.targets)
    tokenizer = AutoTokenizer.from_pretrained(job.folder, padding_side="left")
    callback = OneAtATime()
    trainer = TimedTrainer(
        gate,
        model=model,
        reward_funcs=spread,
        args=build_config(options, Path(job.folder) / "trl", _never_drawn(tokenizer)),
        train_dataset=Dataset.from_dict({"prompt": [job.text] * (options.warmup + options.steps)}),
        processing_class=tokenizer,
        callbacks=[callback],
        peft_config=lora,
    )
    callback.trainer = trainer
    return trainer


def _never_drawn(tokenizer: Any) -> list[int]:
    """Tokens that would end a completion or stand for media: ours draws neither."""
    names = ["image_token", "audio_token", "video_token", "vision_bos_token", "audio_bos_token"]
    media = tokenizer.convert_tokens_to_ids([getattr(tokenizer, name) for name in names])
    return [tokenizer.eos_token_id, tokenizer.pad_token_id, *media]


def build_config(options: StepOptions, folder: Path, never_drawn: list[int]) -> GRPOConfig:
    """TRL's defaults, but for what ours is set to as well."""
    return GRPOConfig(
        output_dir=str(folder),
        max_steps=options.warmup + options.steps,
        per_device_train_batch_size=options.num_generations,
        gradient_accumulation_steps=1,
        num_generations=options.num_generations,
        max_completion_length=options.completion_tokens,
        generation_kwargs={"suppress_tokens": never_drawn},
        beta=options.beta,
        temperature=1.0,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        bf16=False,  # the weights are of the dtype asked for, and computed with as they are
        gradient_checkpointing=options.gradient_checkpointing,
        use_cpu=options.resolved_device == "cpu",
        use_vllm=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def main(argv: Sequence[str]) -> None:
    """Train, one step for each line on stdin."""
    job, gate = start(f"trl {trl.__version__}", argv)
    build_trainer(job, gate).train()


if __name__ == "__main__":
    main(sys.argv)
