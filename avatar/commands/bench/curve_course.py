"""What both sides of ``avatar bench curves`` are given: settings, prompts in order, rewards, and one examiner."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from avatar.data.loader import PromptLoader
from avatar.data.module import ShardData
from avatar.modules import EvaluationModule, Policy
from avatar.modules.evaluation import summarize
from avatar.rewards import Accuracy, Format, Reward, score
from avatar.types import Completion, Prompt

Weights = Mapping[str, Tensor]

# As in configs/micro/text_grpo.yaml.
BETA, CLIP, TEMPERATURE, TOP_K, MAX_NEW_TOKENS, MAX_GRAD_NORM, EPS = 0.1, 0.2, 1.0, 0, 32, 1.0, 1e-4
EVAL_BATCH = 64


@dataclass(frozen=True)
class Course:
    """One run of either side.

    Attributes:
        model: Folder of the cold-started model.
        prompts: One for each step, in order.
        num_generations: Completions of each.
        lr: Constant learning rate.
        seed: Of the sampling.
    """

    model: str
    prompts: Sequence[Prompt]
    num_generations: int
    lr: float
    seed: int


def read_world(data: Path, seeds: Sequence[int], num: int) -> tuple[list[list[Prompt]], list[Prompt]]:
    """What is trained on in each run, and what is asked in exams.

    Args:
        data: Folder with ``train`` and ``dev``.
        seeds: One for each order of the training prompts.
        num: How many to train on.

    Returns:
        By seed the first ``num`` prompts that ``avatar fit --seed_everything SEED`` trains on, one a step, epoch after
        epoch; and all prompts of the dev split.

    Raises:
        DataError: A shard is missing, or no record can be read.
    """
    shards = ShardData(train=str(data / "train"), val=str(data / "dev"), letter_options=False)
    shards.setup("fit")
    exam = [prompt for batch in cast(PromptLoader, shards.val_dataloader()) for prompt in batch]
    orders = [_in_order(shards, seed, num) for seed in seeds]
    shards.teardown("fit")
    return orders, exam


def _in_order(shards: ShardData, seed: int, num: int) -> list[Prompt]:
    shards.seed = seed  # what the order of a run comes from
    loader, found = shards.train_dataloader(), list[Prompt]()
    while len(found) < num:
        for batch in islice(loader, num - len(found)):
            found += batch
    return found


def rewards() -> list[Reward]:
    """0.5 for the format and 1 for the right answer."""
    return [Format(0.5), Accuracy(1.0)]


def score_texts(prompts: Sequence[Prompt], texts: Sequence[str], finished: Sequence[bool]) -> list[float]:
    """Our rewards of N completions of which nothing is known but what they say and whether they ended by themselves.

    Args:
        prompts: [N], what each answers.
        texts: [N], without special tokens.
        finished: [N].
    """
    nothing = torch.zeros(0)
    said = [Completion(nothing.long(), nothing, t, f) for t, f in zip(texts, finished, strict=True)]
    return score(rewards(), prompts, said, torch.arange(len(said))).rewards.tolist()


class Examiner:
    """Greedy accuracy on the dev split, by our code whoever trained the weights.

    Args:
        model: Folder of a model of the same architecture and tokenizer.
        prompts: What is asked.

    Attributes:
        num: Questions.
    """

    def __init__(self, model: str, prompts: Sequence[Prompt]) -> None:
        self._module = EvaluationModule(Policy(model, "float32"), MAX_NEW_TOKENS)
        self._prompts, self.num = prompts, len(prompts)
        self._module.configure_model()

    @torch.no_grad()
    def __call__(self, weights: Weights) -> float:
        """Share of the questions answered right; the global random state is left as it was."""
        self._module.policy.adapter.model.load_state_dict(weights)
        with torch.random.fork_rng(devices=[]):
            pieces = [self._prompts[i : i + EVAL_BATCH] for i in range(0, self.num, EVAL_BATCH)]
            rows = [row for piece in pieces for row in self._module.answer(list(piece))]
        return summarize(rows)["accuracy"]


@dataclass
class Watch:
    """What is seen of a run while it trains.

    Attributes:
        examine: Accuracy of weights.
        every: Steps between two exams.
        advance: Called after each step.
        points: (steps taken, accuracy).
        seconds: Of each step by the clock, exams left out.
        cpu_seconds: Of each step, of this process.
    """

    examine: Callable[[Weights], float]
    every: int
    advance: Callable[[], object]
    points: list[tuple[int, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    _began: tuple[float, float] = (0.0, 0.0)

    def start(self, weights: Weights) -> None:
        """Before the first step."""
        self.points.append((0, self.examine(weights)))

    def begin(self) -> None:
        """A step begins."""
        self._began = time.perf_counter(), time.process_time()

    def end(self, weights: Callable[[], Weights]) -> None:
        """A step is over; its weights are looked at where it is time for an exam."""
        wall, cpu = self._began
        self.seconds.append(time.perf_counter() - wall)
        self.cpu_seconds.append(time.process_time() - cpu)
        if (steps := len(self.seconds)) % self.every == 0:
            self.points.append((steps, self.examine(weights())))
        self.advance()

    def figures(self, side: str, seed: int, num_generations: int) -> dict[str, Any]:
        """What is kept of a run: its curve against completions, and medians of the seconds of a step."""
        return {
            "side": side,
            "seed": seed,
            "points": [[steps * num_generations, accuracy] for steps, accuracy in self.points],
            "step_s": statistics.median(self.seconds),
            "step_cpu_s": statistics.median(self.cpu_seconds),
        }


@contextmanager
def torch_threads(num: int) -> Iterator[None]:
    """Inside, torch uses ``num`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
