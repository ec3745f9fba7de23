"""The other side of ``avatar bench curves``: TRL's GRPOTrainer on the same prompts as text, with the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import (
    AutoProcessor,
    PrinterCallback,
    Qwen2_5OmniThinkerForConditionalGeneration,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from avatar.commands.bench.curve_course import (
    BETA,
    CLIP,
    MAX_GRAD_NORM,
    MAX_NEW_TOKENS,
    TEMPERATURE,
    TOP_K,
    Course,
    Watch,
    score_texts,
)

MEDIA = ("image_token", "audio_token", "video_token", "vision_bos_token", "audio_bos_token")  # ours never draws these


class Watching(TrainerCallback):
    """Tells the watch when a step begins and ends."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_train_begin(self, *args: Any, model: Any, **kwargs: Any) -> None:
        """The first exam."""
        self._watch.start(model.state_dict())

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin."""
        self._watch.begin()

    def on_step_end(self, *args: Any, model: Any, **kwargs: Any) -> None:
        """End."""
        self._watch.end(model.state_dict)


def build_trainer(
    course: Course, callback: TrainerCallback, folder: str, kind: type[GRPOTrainer] = GRPOTrainer, **kwargs: Any
) -> GRPOTrainer:
    """What is trained. The reference is loaded by TRL itself, from where the model was.

    Args:
        course: On what.
        callback: Sees each step.
        folder: For what TRL may write.
        kind: The trainer or one derived from it.
        **kwargs: More that it is given.
    """
    processor = AutoProcessor.from_pretrained(course.model)
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    stops = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    trainer = kind(
        model=load_model(course.model, stops),
        reward_funcs=Rewarding(course, stops),
        args=build_config(course, folder, tokenizer.convert_tokens_to_ids([getattr(tokenizer, n) for n in MEDIA])),
        train_dataset=Dataset.from_dict({"prompt": texts_of(course, processor), "step": range(len(course.prompts))}),
        processing_class=tokenizer,
        callbacks=[callback],
        **kwargs,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def load_model(folder: str, stops: Sequence[int]) -> Any:
    """The thinker with frozen towers; either of ``stops`` ends a completion, as it does with us."""
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        folder, dtype="float32", attn_implementation="sdpa"
    )
    model.generation_config.eos_token_id = list(stops)
    for tower in (model.model.visual, model.model.audio_tower):
        tower.requires_grad_(False)
    return model


def texts_of(course: Course, processor: Any) -> list[str]:
    """Each prompt as our adapter writes it before it cuts it into tokens."""
    how = {"add_generation_prompt": True, "tokenize": False}
    return [processor.apply_chat_template(prompt.messages, **how) for prompt in course.prompts]


class Rewarding:
    """Our rewards, called on TRL's texts.

    Args:
        course: Whose prompts.
        stops: Tokens that end a completion.
    """

    __name__ = "avatar"  # what TRL logs it by

    def __init__(self, course: Course, stops: Sequence[int]) -> None:
        self._course, self._stops = course, stops

    def __call__(
        self, completions: list[str], completion_ids: list[list[int]], step: list[int], **kwargs: Any
    ) -> list[float]:
        """[N]."""
        finished = [ids[-1] in self._stops for ids in completion_ids]
        return score_texts([self._course.prompts[i] for i in step], completions, finished)


def build_config(course: Course, folder: str, never_drawn: list[int]) -> GRPOConfig:
    """Ours, in TRL's words.

    ``loss_type`` is the mean of each completion's mean; TRL's default weighs tokens. ``use_bias_correction_kl``, on by
    default, would weigh the KL term by the ratio, whose gradient we do not take.
    """
    return GRPOConfig(
        output_dir=folder,
        seed=course.seed,
        max_steps=len(course.prompts),
        per_device_train_batch_size=course.num_generations,
        gradient_accumulation_steps=1,
        num_generations=course.num_generations,
        num_iterations=1,
        shuffle_dataset=False,
        max_completion_length=MAX_NEW_TOKENS,
        temperature=TEMPERATURE,
        top_k=TOP_K,
        top_p=1.0,
        generation_kwargs={"suppress_tokens": never_drawn},
        beta=BETA,
        epsilon=CLIP,
        loss_type="grpo",
        scale_rewards="group",
        use_bias_correction_kl=False,
        mask_truncated_completions=False,
        learning_rate=course.lr,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=MAX_GRAD_NORM,
        bf16=False,  # the weights are float32, and computed with as they are
        gradient_checkpointing=False,
        use_cpu=True,
        use_vllm=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def train_peer(course: Course, callback: TrainerCallback, folder: str) -> None:
    """Train, one step a prompt; see :func:`build_trainer`."""
    build_trainer(course, callback, folder).train()
