import json
from pathlib import Path
from shutil import copy

import pytest
import torch

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.grades import Graded
from avatar.benchmarks.vsi_bench import CHOICES, NUMBERS, VSIBench
from avatar.data.schema import Medium
from avatar.errors import DataError

SAMPLE = Path(__file__).parents[3] / "shared/data/benchmarks/vsi_bench/vsibench_official_style.jsonl"
STOOLS = {
    "id": 3,
    "dataset": "scannet",
    "scene_name": "scene0001_00",
    "question_type": "object_counting",
    "question": "How many stools are there?",
    "ground_truth": "4",
    "options": None,
}
LAMP = STOOLS | {
    "id": 4,
    "question_type": "object_rel_direction_hard",
    "question": "Where is the lamp?",
    "ground_truth": "B",
    "options": ["A. left", "B. right", "C. back"],
}


def questions(root, *records):
    (root / "test.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return VSIBench().questions(root)


def test_a_type_says_whether_a_number_or_an_option_is_asked_for(tmp_path):
    stools, lamp = questions(tmp_path, STOOLS, LAMP)
    assert (stools.key, stools.gold, stools.problem_type, stools.options) == ("3", "4", "number", ())
    assert (lamp.gold, lamp.problem_type, lamp.texts) == ("B", "choice", ("left", "right", "back"))
    assert lamp.media == (Medium("video", "scannet/scene0001_00.mp4"),)
    assert lamp.groups == {"question_type": "object_rel_direction_hard", "dataset": "scannet"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (STOOLS | {"ground_truth": "some"}, r"jsonl:2: the answer must be a number, got 'some'"),
        (STOOLS | {"question_type": "smell"}, "jsonl:2: question_type must be one of object_counting"),
        (LAMP | {"ground_truth": "D"}, "'ground_truth' must be the letter of an option, A to C"),
        (LAMP | {"options": None}, "'options' has the wrong type NoneType"),
        (LAMP | {"dataset": "../x"}, "leads out of"),
    ],
)
def test_a_broken_record_is_named(tmp_path, record, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, STOOLS, record)


@pytest.mark.parametrize(
    ("record", "output", "avatar", "official"),
    [
        (STOOLS, "4", 1, 1),
        (STOOLS, "3.", 0.6, 0.6),  # off by a quarter: six steps of ten
        (STOOLS, "3 or so", 0.6, 0.6),
        (STOOLS, "about 4", 1, 0),  # its first word is no number
        (STOOLS, "<answer>four</answer>", 1, 0),
        (STOOLS, " 4", 1, 0),  # before the first blank stands nothing
        (STOOLS, "4cm", 0, 0),
        (STOOLS, "3 or 4", 0, 0.6),
        (STOOLS, "nan", 0, 0),
        (LAMP, "b", 1, 1),
        (LAMP, "B. right", 1, 1),
        (LAMP, "(B)", 1, 0),
        (LAMP, "B\nsince", 0, 0),
        (LAMP, "<answer>right</answer>", 1, 0),
        (LAMP, "", 0, 0),
    ],
)
def test_both_rules_read_a_reply_each_in_its_way(tmp_path, record, output, avatar, official):
    (question,) = questions(tmp_path, record)
    benchmark = VSIBench()
    for asked in (question, benchmark.question_of_row(json.loads(json.dumps(question_row(question))))):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official")]
        assert scores == [pytest.approx(avatar), pytest.approx(official)]


def graded(*scores):
    """(type, reply) of questions whose right answers are 4 and B."""
    benchmark = VSIBench()
    rows = [
        {"question_type": t, "ground_truth": "4" if t in NUMBERS else "B", "id": i} for i, (t, _) in enumerate(scores)
    ]
    asked = [benchmark.question_of_row(row) for row in rows]
    return [Graded(q, benchmark.grade(output, q, "official")) for q, (_, output) in zip(asked, scores, strict=True)]


def test_tasks_count_alike_and_the_three_directions_as_one():
    replies = graded(
        ("object_counting", "4"),
        ("object_counting", "3"),
        ("object_rel_direction_easy", "B"),
        ("object_rel_direction_easy", "A"),
        ("object_rel_direction_easy", "A"),
        ("object_rel_direction_hard", "B"),
        ("route_planning", "A"),
    )
    # counting (1 + .6) / 2, directions (1/3 + 1) / 2, route 0; medium is not asked and left out
    assert VSIBench().figures(replies) == pytest.approx(
        {
            "overall": 100 * (0.8 + 2 / 3 + 0) / 3,
            "object_counting_MRA:.5:.95:.05": 80,
            "object_rel_direction_accuracy": 200 / 3,
            "route_planning_accuracy": 0,
        }
    )


def test_what_is_not_drawn_is_left_out_in_each_draw_for_itself():
    replies = graded(("object_counting", "4"), ("route_planning", "A"), ("object_rel_direction_easy", "B"))
    weights = torch.tensor([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 5.0, 0.0]], dtype=torch.float64)
    found = VSIBench().overall(replies, weights)
    torch.testing.assert_close(found, torch.tensor([2 / 3, 1.0, 0.0, 0.5], dtype=torch.float64))


def test_the_figures_order_is_of_no_account():
    replies = graded(*[(t, "B" if i % 2 else "4") for i, t in enumerate((*NUMBERS, *CHOICES, *CHOICES[:3]))])
    assert VSIBench().figures(replies) == pytest.approx(VSIBench().figures(replies[::-1]))


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"{SAMPLE} is not there: annotation files are not in the repository")
def test_the_real_file_loads(tmp_path):
    copy(SAMPLE, tmp_path / "test.jsonl")
    found = VSIBench().questions(tmp_path)
    assert len({question.key for question in found}) == len(found) == 200
    assert {question.qtype for question in found} == {*NUMBERS, *CHOICES}
    assert all(bool(question.options) == (question.qtype in CHOICES) for question in found)
