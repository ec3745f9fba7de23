"""VSI-Bench: where things are in rooms that were filmed in passing, how large and how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

import torch
from torch import Tensor

from avatar.answers import parse_answer
from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, take
from avatar.benchmarks.grades import Grade, Graded, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import read_records, take_letter, take_options, unique_keys
from avatar.benchmarks.rules.gold_number import gold_number
from avatar.benchmarks.rules.mra import mean_relative_accuracy
from avatar.data.schema import Medium
from avatar.errors import DataError

NUMBERS = ("object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation")
DIRECTION = "object_rel_direction"
CHOICES = (
    "object_rel_distance",
    *(f"{DIRECTION}_{level}" for level in ("easy", "medium", "hard")),
    "route_planning",
    "obj_appearance_order",
)


@BENCHMARKS.register("vsi_bench")
class VSIBench(FileBenchmark):
    """Eight tasks, four with a number for an answer, four with options; the headline is the mean over the tasks.

    Read is the full set, not the pruned one that lies beside it on the hub.

    Reference:
        Thinking in Space, arXiv 2412.14171; github.com/vision-x-nyu/thinking-in-space, ``lmms_eval/tasks/vsibench``.
    """

    title = "VSI-Bench"
    source = "hf.co/datasets/nyu-visionx/VSI-Bench, test.jsonl or test-00000-of-00001.parquet"
    hub = "nyu-visionx/VSI-Bench"
    licence = "Apache-2.0"
    num_records = 5130
    media_kinds = ("video",)
    groups = ("question_type", "dataset")
    metric = "mean over tasks"
    scorings = ("avatar", "official")
    qtypes = NUMBERS + CHOICES
    letters_alone = True
    published: ClassVar[Mapping[str, float]] = {"Qwen2.5-Omni-7B": 25.4, "+ GRPO": 25.9, "+ AVATAR": 26.8}
    default_root = "data/benchmarks/vsi_bench"
    annotation = ("test.jsonl", "test-*.parquet")

    def questions(self, root: Path) -> list[Question]:
        """Those of ``test.jsonl``; media are ``arkitscenes/SCENE.mp4`` and so on, as the three archives unpack."""
        records = [item for file in self.annotation_files(root) for item in read_records(file)]
        keys = unique_keys(str(take(record, "id", (int, str), where)) for where, record in records)
        return [_question(record, key, where) for key, (where, record) in zip(keys, records, strict=True)]

    def problem_type(self, qtype: str, options: Sequence[str]) -> str:
        """Four of the types ask for a number."""
        return "number" if qtype in NUMBERS else super().problem_type(qtype, options)

    def avatar(self, output: str, question: Question) -> Grade:
        """Our parser's answer; a number earns its mean relative accuracy."""
        if question.problem_type != "number":
            return super().avatar(output, question)
        answer = parse_answer(output, "number")
        if not isinstance(answer.value, float):
            return Grade(0.0, "", "unparsed")
        score = mean_relative_accuracy(answer.value, gold_number(question.gold, question.key))
        return Grade(score, f"{answer.value:g}", answer.how)

    def official(self, output: str, question: Question) -> Grade:
        """What stands before the first blank, less full stops behind it, must be the letter, or all of a number."""
        token = output.split(" ")[0].rstrip(".").strip()
        if question.problem_type != "number":
            letters = ascii_uppercase[: len(question.options) or None]
            is_letter = len(token) == 1 and token.upper() in letters
            return read(token.lower() == str(question.gold).lower(), token if is_letter else "")
        gold = gold_number(question.gold, question.key)
        try:
            return read(mean_relative_accuracy(float(token), gold), token)
        except ValueError:
            return read(0.0, "")

    def overall(self, graded: Sequence[Graded], weights: Tensor) -> Tensor:
        r"""The mean over tasks of each one's mean; that of directions is the mean over its three levels.

        .. math:: \frac{1}{8} \sum_t \bar{s}_t

        A task, and a level, of which nothing is drawn is left out.
        """
        return torch.stack(list(_task_means(graded, weights).values())).nanmean(0)

    def figures(self, graded: Sequence[Graded]) -> dict[str, float]:
        """``overall`` and each task's mean, by the names that its code gives them."""
        weights = torch.ones(len(graded), dtype=torch.float64)
        means = {_figure(task): 100 * mean.item() for task, mean in _task_means(graded, weights).items()}
        return {"overall": 100 * self.overall(graded, weights).item(), **means}


def _question(record: Any, key: str, where: str) -> Question:
    qtype = take(record, "question_type", str, where)
    if qtype not in NUMBERS + CHOICES:
        raise DataError(
            f"{where}: question_type must be one of {', '.join(NUMBERS + CHOICES)}, is {qtype!r}", "broken annotation"
        )
    options = () if qtype in NUMBERS else take_options(record, "options", where)
    gold = take_letter(record, "ground_truth", options, where) if options else take(record, "ground_truth", str, where)
    if not options:
        gold_number(gold, where)
    dataset, scene = take(record, "dataset", str, where), take(record, "scene_name", str, where)
    return Question(
        key=key,
        text=take(record, "question", str, where),
        gold=gold,
        problem_type="choice" if options else "number",
        options=options,
        media=(Medium("video", check_inside(f"{dataset}/{scene}.mp4", where)),),
        qtype=qtype,
        groups={"question_type": qtype, "dataset": dataset},
    )


def _figure(task: str) -> str:
    return f"{task}_MRA:.5:.95:.05" if task in NUMBERS else f"{task}_accuracy"


def _task_means(graded: Sequence[Graded], weights: Tensor) -> dict[str, Tensor]:
    """[...] of each task in the order of its code; NaN where nothing of it is drawn."""
    types = list(dict.fromkeys((*NUMBERS, *CHOICES, *(g.question.qtype for g in graded))))
    means = {qtype: _mean(graded, weights, qtype) for qtype in types}
    found = {qtype: mean for qtype, mean in means.items() if mean is not None}
    tasks: dict[str, list[Tensor]] = {}
    for qtype, mean in found.items():
        tasks.setdefault(DIRECTION if qtype.startswith(DIRECTION) else qtype, []).append(mean)
    return {task: torch.stack(parts).nanmean(0) for task, parts in tasks.items()}


def _mean(graded: Sequence[Graded], weights: Tensor, qtype: str) -> Tensor | None:
    """[...]; None where there is no question of this type at all."""
    places = [i for i, g in enumerate(graded) if g.question.qtype == qtype]
    if not places:
        return None
    scores = weights.new_tensor([graded[i].grade.score or 0.0 for i in places])
    drawn = weights[..., places]
    return (drawn @ scores) / drawn.sum(-1)
