"""What ``avatar bench answers`` asks, and a tiny model that has just learnt how such questions are answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

from avatar.benchmarks.data import BenchmarkData
from avatar.data.micro import KINDS, ask, chain_of, draw_scene, language, render_mp4
from avatar.data.schema import Record
from avatar.errors import DataError
from avatar.models.tiny import write_tiny_model
from avatar.modules import Policy, SFTModule
from avatar.types import Prompt

FIT_STEPS, FIT_BATCH, FIT_RATE = 80, 32, 1e-2
FIT_QUESTIONS = 320  # that the steps are drawn from


def write_quiz(folder: Path, num: int, media: bool) -> dict[str, str]:
    """Write ``num`` questions of five kinds and five lengths of answer as own questions of ``--benchmark jsonl``.

    Args:
        folder: Where to write.
        num: How many.
        media: Ask about clips, five questions about each; else what happens is told in the question.

    Returns:
        How each is answered, chain of thought and all, by its id.
    """
    rng, lines, chains = Random(0), [], {}
    (folder / "clips").mkdir(parents=True)
    for first in range(0, num, len(KINDS)):
        scene, clip = draw_scene(rng), f"clips/{first}.mp4"
        if media:
            (folder / clip).write_bytes(render_mp4(scene))
        for i, kind in enumerate(KINDS[: num - first], first):
            record, key = ask(scene, kind), f"{i:06d}"
            told = "" if media else f"{' ; '.join(chain_of(scene, 'more')[0] + chain_of(scene, 'color')[0])} ; "
            lines.append(_line(key, record, told, [{"video": clip}] if media else []))
            chains[key] = record.chain or ""
    (folder / "questions.jsonl").write_text("".join(lines))
    return chains


def _line(key: str, record: Record, told: str, media: list[dict[str, str]]) -> str:
    """A record as one question of our own."""
    fields = {"question": told + record.question, "options": record.options, "answer": record.answer}
    return json.dumps({"id": key, **fields, "problem_type": record.problem_type, "media": media}) + "\n"


def fit_policy(folder: Path, quiz: BenchmarkData, chains: dict[str, str], advance: Callable[[], object]) -> Policy:
    """The tiny model of the micro-world after ``FIT_STEPS`` steps on the answers: its replies end by themselves.

    Args:
        folder: To write the model to.
        quiz: The questions.
        chains: How each is answered.
        advance: Called after each step.

    Raises:
        DataError: A question cannot be read.
    """
    torch.manual_seed(0)
    policy, rng = Policy(str(write_tiny_model(folder, language())), "float32"), Random(0)
    policy.configure_model()
    module, prompts = SFTModule(policy), read_prompts(quiz, FIT_QUESTIONS)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], FIT_RATE)
    for _ in range(FIT_STEPS):
        batch = rng.choices(prompts, k=FIT_BATCH)
        rows = [policy.adapter.tokenize_completion(chains[prompt.key]) for prompt in batch]
        optimizer.zero_grad()
        (module.completion_nll(batch, rows) / sum(map(len, rows))).backward()
        optimizer.step()
        advance()
    return policy


def read_prompts(quiz: BenchmarkData, most: int) -> list[Prompt]:
    """The first questions as they will be asked.

    Raises:
        DataError: One cannot be read.
    """
    quiz.setup("test")
    prompts = []
    for found in quiz.dataset.stream(quiz.positions[:most]):
        if not isinstance(found, Prompt):
            raise DataError(found.reason, found.cause)
        prompts.append(found)
    quiz.teardown("test")
    return prompts
