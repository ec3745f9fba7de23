import json

import pytest
import torch

from avatar.benchmarks import BENCHMARKS
from avatar.benchmarks.exams.replies import grade_row, graded_row, missing_row, outputs_of, question_row, reply_row
from avatar.benchmarks.grades import Grade
from avatar.benchmarks.question import Question
from avatar.data.schema import Medium
from avatar.errors import ConfigError, DataError
from avatar.types import Completion, Prompt

PET = Question(
    "pets/1",
    "Which animal is it?",
    "B",
    options=("A. dog", "B. cat"),
    media=(Medium("video", "b.mp4"),),
    groups={"topic": ("pets", "fur"), "year": "2020"},
)
OURS = BENCHMARKS["jsonl"]()


def replied(text="It is (B).", finished=True, **metadata):
    completion = Completion(torch.tensor([5, 6, 7]), torch.zeros(3), text, finished)
    return reply_row(PET, completion, Prompt("pets/1", [], (), "", metadata=metadata))


def test_a_row_is_json_and_holds_the_reply_and_how_it_was_written():
    row = json.loads(json.dumps(replied(finished=False, notes=["cut"])))
    assert (row["id"], row["output"], row["length"], row["finished"], row["notes"]) == (
        "pets/1",
        "It is (B).",
        3,
        False,
        ["cut"],
    )
    assert row["clip"] == "b.mp4"
    assert row["groups"] == {"topic": ["pets", "fur"], "year": "2020"}
    assert "notes" not in replied()
    assert "notes" not in replied(notes=[])


@pytest.mark.parametrize(
    ("text", "score"), [("It is (B).", 1.0), ("A", 0.0), ("", 0.0), ("x" * 2**20, 0.0), ("\u2028B\u2028", 1.0)]
)
def test_a_row_is_graded_as_the_reply_was(text, score):
    row = json.loads(json.dumps(replied(text)))
    graded = grade_row(OURS, row, "avatar")
    assert graded.grade == OURS.grade(text, PET)
    assert graded.grade.score == score
    assert (graded.question.clip, graded.question.groups) == (PET.clip, PET.groups)


def test_a_question_that_could_not_be_asked_is_wrong_and_told_from_one_without_an_answer():
    row = missing_row(PET, "b.mp4 is not there")
    assert row == {**question_row(PET), "output": None, "missing": "b.mp4 is not there"}
    assert grade_row(OURS, row, "avatar").grade == Grade(0.0, "", "missing")
    assert grade_row(OURS, {**row, "output": ""}, "avatar").grade == Grade(0.0, "", "unparsed")
    assert grade_row(OURS, question_row(PET), "avatar").grade.how == "missing"


def test_what_was_earned_stands_beside_the_reply_and_takes_the_place_of_an_earlier_rule():
    row = graded_row(replied(), Grade(1.0, "cat", "lenient"))
    assert {**row, "parts": {"error": 0.5}} == graded_row(row, Grade(1.0, "cat", "lenient", parts={"error": 0.5}))
    again = graded_row(row, Grade(None, "", "undecided", counted=False))
    assert (again["score"], again["parsed"], again["how"], again["counted"]) == (None, None, "undecided", False)
    assert row["output"] == again["output"] == "It is (B)."


def test_outputs_are_empty_where_there_are_none():
    assert outputs_of([replied("x"), missing_row(PET, "gone"), {"id": "a"}, replied("")]) == ["x", "", "", ""]


def test_a_rule_that_is_not_there_and_a_row_without_gold_are_refused():
    with pytest.raises(ConfigError, match="--scoring"):
        grade_row(OURS, replied(), "official")
    with pytest.raises(DataError, match=r"^field 'gold' is missing"):
        grade_row(OURS, {**replied(), "gold": None}, "avatar")
