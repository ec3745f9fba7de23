"""What is stored and shown of a step's completions."""

import json
import math

import torch
from rich.console import Console

from avatar.modules.callbacks import completion_rows, completion_table
from avatar.modules.logs import StepLines
from avatar.modules.mixing import Posed
from avatar.modules.rollout import Rollout, rollout_metrics
from avatar.types import Completion, Experience, Prompt

CHAT = [
    {"role": "system", "content": "Think first."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {
        "role": "user",
        "content": [{"type": "video"}, {"type": "text", "text": "Which?"}, {"type": "text", "text": "A/B"}],
    },
]
PROMPTS = [
    Prompt("a", CHAT, (), "B", "choice", ("red", "blue")),
    Prompt("b", [{"role": "user", "content": "Who is where?"}], (), "Left: dog", "location"),
]
PARTS = {
    "format": [1.0, 0.0, 1.0],
    "judge": [0.5, math.nan, 0.25],
    "judge/audio": [1 / 3, math.nan, math.nan],
    "none": [math.nan] * 3,
}


def rollout():
    """Two prompts, two completions of the first and one of the second."""
    index, texts = torch.tensor([0, 0, 1]), ["odd\u2028line\u0085s", "two", "three"]
    completions = [Completion(torch.arange(i + 1), torch.zeros(i + 1), t, i < 2) for i, t in enumerate(texts)]
    rewards, valid = torch.tensor([1.0, 0.0, 1.25]), torch.tensor([True, False, True])
    experience = Experience.from_completions(completions, index, rewards, valid)
    parts = {name: torch.tensor(values) for name, values in PARTS.items()}
    posed = Posed(PROMPTS, [2, 1], [0, 1], 0)
    estimates = torch.tensor([0.5, 0.0, -0.5])
    return Rollout(3, posed, completions, [], {}, experience, parts, valid, estimates, experience.mask * 1.0, None)


def test_a_row_holds_all_that_a_reward_needs_to_know_but_the_clips():
    first, _, last = completion_rows(rollout())
    assert {k: first[k] for k in ("prompt", "question", "gold", "problem_type", "options")} == {
        "prompt": "a", "question": "Which?\nA/B", "gold": "B", "problem_type": "choice", "options": ["red", "blue"],
    }  # fmt: skip
    assert (last["question"], last["problem_type"], last["options"]) == ("Who is where?", "location", [])
    assert (first["completion"], first["finished"], last["finished"]) == ("odd\u2028line\u0085s", True, False)


def test_a_part_that_was_not_given_is_null_and_every_line_is_json():
    rows = completion_rows(rollout())
    assert [json.loads(json.dumps(r, allow_nan=False))["reward/judge"] for r in rows] == [0.5, None, 0.25]
    assert [r["reward/judge/audio"] for r in rows] == [0.333333, None, None]
    assert [r["reward/none"] for r in rows] == [None] * 3


def test_the_table_leaves_a_part_that_was_not_given_empty():
    console = Console(record=True, width=200)
    console.print(completion_table(completion_rows(rollout()), 3))
    text = console.export_text()
    assert "judge/audio" in text
    assert "0.33" in text
    assert "nan" not in text
    assert "None" not in text


def test_the_mean_of_a_part_runs_over_the_completions_that_it_was_given_to():
    class Encoded:
        ids = torch.arange(4)

    metrics = rollout_metrics(rollout(), [Encoded(), Encoded()], {})
    assert metrics["reward/judge"] == 0.375  # (0.5 + 0.25) / 2
    assert metrics["reward/judge/audio"] == torch.tensor(1 / 3).item()
    assert metrics["reward/format"] == torch.tensor(2 / 3).item()
    assert "reward/none" not in metrics
    assert metrics["reward/mean"] == 1.125  # of the two valid ones


def test_a_resumed_file_keeps_completions_with_odd_line_ends_whole(tmp_path):
    rows = [{"step": step, **row} for step in (1, 2) for row in completion_rows(rollout())]
    StepLines(tmp_path / "c.jsonl").write(rows)
    StepLines(tmp_path / "c.jsonl", keep_until=1)
    kept = (tmp_path / "c.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in kept[:-1]] == rows[:3]
