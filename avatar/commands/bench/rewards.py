"""``avatar bench rewards``: what it costs to score completions, beside torchmetrics."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torchmetrics.functional.text import rouge_score, word_error_rate

from avatar.answers import payloads
from avatar.commands.bar import LateBar
from avatar.errors import ConfigError
from avatar.rewards import Accuracy, Format, Reward, SelfConsistency
from avatar.types import Completion, Prompt

GENERATIONS = 8  # completions of a prompt
VOCABULARY = 300
ROUNDS = 3
PEER_SAMPLE = 100  # completions that torchmetrics is timed on in a round: its time grows with their number
FREE, OCR = "Accuracy, free (ROUGE-1/2/L)", "Accuracy, ocr (WER)"


@dataclass(frozen=True)
class RewardOptions:
    """What ``avatar bench rewards`` is asked to measure.

    Attributes:
        completions: How many are scored.
        words: Length of each gold text and of each answer.
        json: File to write the figures to.

    Raises:
        ConfigError: A value makes no sense.
    """

    completions: int = 10_000
    words: int = 100
    json: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("completions", GENERATIONS), ("words", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if self.json and not Path(self.json).parent.is_dir():
            raise ConfigError(f"--json {self.json}: there is no folder {Path(self.json).parent}")


def bench_rewards(options: RewardOptions) -> None:
    """Score completions by every rule-based reward, and some by torchmetrics; print CPU seconds side by side."""
    figures = measure_rewards(options.completions, options.words)
    Console().print(rewards_table(figures))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure_rewards(num: int, words: int) -> dict[str, Any]:
    """CPU seconds for all completions, medians of rounds in turns; those of torchmetrics from a sample."""
    prompts, completions, group = draw_texts(num, words)
    as_ocr = [Prompt(p.key, [], (), p.answer, "ocr") for p in prompts]
    sample = [(payloads(c.text)[0], prompts[g].answer) for c, g in zip(completions, group.tolist(), strict=True)]
    sample = sample[:PEER_SAMPLE]

    def ours(reward: Reward, asked: list[Prompt]) -> Callable[[], object]:
        return lambda: reward(asked, completions, group)

    ways: dict[str, tuple[Callable[[], object], float]] = {
        "Format": (ours(Format(), prompts), 1.0),
        FREE: (ours(Accuracy(), prompts), 1.0),
        OCR: (ours(Accuracy(), as_ocr), 1.0),
        "SelfConsistency": (ours(SelfConsistency(), prompts), 1.0),
        "torchmetrics ROUGE-1/2/L": (lambda: [_rouge(*pair) for pair in sample], num / len(sample)),
        "torchmetrics WER": (lambda: [word_error_rate(*pair) for pair in sample], num / len(sample)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with LateBar("rewards", ROUNDS * len(ways)) as bar:
        for _ in range(ROUNDS):
            for name, (way, factor) in ways.items():
                seconds[name].append(factor * _cpu_seconds(way))
                bar.advance()
    medians = {name: statistics.median(rounds) for name, rounds in seconds.items()}
    return {"completions": num, "words": words, "peer_sample": len(sample), "cpu_seconds": medians}


def draw_texts(num: int, words: int) -> tuple[list[Prompt], list[Completion], torch.Tensor]:
    """Free-text questions, ``GENERATIONS`` answers to each with half of the words right, and whose they are."""
    rng, vocabulary = Random(0), [f"word{i}" for i in range(VOCABULARY)]
    golds = [rng.choices(vocabulary, k=words) for _ in range(-(-num // GENERATIONS))]
    prompts = [Prompt(str(i), [], (), " ".join(gold), "free") for i, gold in enumerate(golds)]
    completions = []
    for i in range(num):
        said = [word if rng.random() < 0.5 else rng.choice(vocabulary) for word in golds[i // GENERATIONS]]
        text = f"<think>look</think><answer>{' '.join(said)}</answer>"
        completions.append(Completion(torch.tensor([0]), torch.zeros(1), text, finished=True))
    return prompts, completions, torch.arange(num) // GENERATIONS


def _rouge(said: str, gold: str) -> dict[str, Any]:
    return rouge_score(said, gold, rouge_keys=("rouge1", "rouge2", "rougeL"))


def _cpu_seconds(way: Callable[[], object]) -> float:
    began = time.process_time()
    way()
    return time.process_time() - began


def rewards_table(figures: dict[str, Any]) -> Table:
    """The figures of :func:`measure_rewards`, with how many times faster than torchmetrics the same rule is."""
    title = "rewards: {completions:,} completions of {words} words".format(**figures)
    caption = "torchmetrics: from {peer_sample} completions, scaled".format(**figures)
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for name in ("", "CPU s", "us a completion", "torchmetrics takes"):
        table.add_column(name, justify="right" if name else "left")
    seconds = figures["cpu_seconds"]
    peers = {FREE: "torchmetrics ROUGE-1/2/L", OCR: "torchmetrics WER"}
    for name, value in seconds.items():
        ratio = f"{seconds[peers[name]] / value:.1f}x" if name in peers and value else ""
        table.add_row(name, f"{value:.2f}", f"{value / figures['completions'] * 1e6:.0f}", ratio)
    return table
