import json

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.intentbench import IntentBench
from avatar.data.schema import Medium
from avatar.errors import DataError

WHY = {
    "problem": "Why does she wave?",
    "problem_type": "multiple choice",
    "options": ["A. She is cold.", "B. She says goodbye.", "C. She swims.", "D. She dances."],
    "answer": "B",
    "solution": "<think>a long story</think><answer> B </answer>",
    "video": "social/w1.mp4",
    "data_type": "video",
    "qid": "q1",
    "Type": "why",
}
MOOD = WHY | {
    "problem_type": "emer_ov_mc",
    "options": [f"{letter}. mood {letter}" for letter in "ABCDEF"],
    "answer": "B,E",
    "solution": "<answer>B,E</answer>",
    "Type": "emotion",
}
LIE = WHY | {"problem_type": "judge", "options": [], "answer": "Yes", "solution": "<answer>Yes</answer>"}
HONEST = LIE | {"answer": "No", "solution": "<answer>No</answer>"}


def questions(root, *records):
    (root / "qa.json").write_text(json.dumps(records))
    return IntentBench().questions(root)


def test_each_type_has_its_kind_of_answer(tmp_path):
    (tmp_path / "social").mkdir()
    (tmp_path / "social/w1.mp4").touch()
    why, mood, lie = questions(tmp_path, WHY, MOOD, LIE)
    assert [q.key for q in (why, mood, lie)] == ["q1", "q1#2", "q1#3"]
    assert [q.problem_type for q in (why, mood, lie)] == ["choice", "choices", "exact"]
    assert [q.gold for q in (why, mood, lie)] == ["B", "B,E", "Yes"]
    assert why.groups == {"problem_type": "multiple choice", "type": "why"}
    assert why.media == (Medium("video", "social/w1.mp4"),)


def test_a_video_is_looked_for_as_its_code_does_where_it_is_nowhere(tmp_path):
    path_alone = {name: value for name, value in WHY.items() if name not in ("video", "qid", "solution")}
    (why,) = questions(tmp_path, path_alone | {"path": "w2.mp4"})
    assert why.media == (Medium("video", "videos/w2.mp4"),)
    assert (why.key, why.gold) == ("0", "B")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (WHY | {"solution": "<answer>E</answer>"}, "#2: the answer must be of the options' letters, is 'E'"),
        (WHY | {"solution": "<answer>A,B</answer>"}, "is 'A,B'"),
        (MOOD | {"solution": "<answer>B;E</answer>"}, "is 'B;E'"),
        (LIE | {"solution": "<answer>perhaps</answer>"}, "must be yes or no"),
        (WHY | {"problem_type": "OCR"}, "problem_type must be one of multiple choice, emer_ov_mc, judge"),
        (WHY | {"options": "A. x"}, "'options' has the wrong type"),
        (WHY | {"video": "/x.mp4"}, "leads out of"),
        ("why", "#2: field 'problem_type' is missing"),
    ],
)
def test_a_broken_record_is_named(tmp_path, record, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, WHY, record)


@pytest.mark.parametrize(
    ("record", "output", "avatar", "official", "authors"),
    [
        (WHY, "B", 1, 1, 1),
        (WHY, "<answer>B</answer>", 1, 1, 1),
        (WHY, "B\n", 1, 1, 1),
        (WHY, "<answer>B. She says goodbye.</answer>", 1, 0, 1),
        (WHY, "<answer>b</answer>", 1, 0, 0),
        (WHY, "(A) or (B)", 0, 0, 1),  # theirs takes the last
        (WHY, "Both", 0, 0, 1),  # or any
        (WHY, "", 0, 0, 0),
        (MOOD, "<answer>B,E</answer>", 1, 1, 0),  # the A of "answer" is a letter for them
        (MOOD, "B,E", 1, 1, 1),
        (MOOD, "B, E", 1, 0.5, 1),  # " E" is another than "E"
        (MOOD, "<answer>E, B</answer>", 1, 0.5, 0),
        (MOOD, "E", 2 / 3, 2 / 3, 0),  # F1 of 1 in 1 and 1 in 2
        (MOOD, "B,E,E", 1, 0.8, 1),  # what comes twice lengthens the list: 2 in 3 and 2 in 2
        (MOOD, "<answer>B,E,F</answer>", 0.8, 0.8, 0),
        (MOOD, "be", 0, 0, 1),
        (MOOD, "", 0, 0, 0),
        (LIE, "<answer>yes</answer>", 1, 1, 1),
        (LIE, "Yes, he lies.", 1, 1, 1),
        (LIE, "Yes and No", 0, 1, 1),
        (LIE, "There is no doubt: yes", 1, 1, 0),
        (LIE, "A", 0, 0, 0),
        (HONEST, "No.", 1, 1, 1),
        (HONEST, "Nothing to see", 0, 1, 0),  # "no" in any word
        (HONEST, "I don't know", 0, 1, 0),
        (HONEST, "No idea", 0, 1, 1),
        (HONEST, "<answer>No, he is not lying</answer>", 1, 1, 1),
        (HONEST, "<answer>no</answer><answer>yes</answer>", 0, 1, 1),
        (HONEST, "", 0, 0, 0),
    ],
)
def test_three_rules_read_a_reply_each_in_its_way(tmp_path, record, output, avatar, official, authors):
    (question,) = questions(tmp_path, record)
    benchmark = IntentBench()
    for asked in (question, benchmark.question_of_row(json.loads(json.dumps(question_row(question))))):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official", "authors")]
        assert scores == [pytest.approx(score) for score in (avatar, official, authors)]


def test_a_bare_letter_is_no_answer_to_yes_or_no(tmp_path):
    (question,) = questions(tmp_path, LIE)
    assert IntentBench().avatar("<answer>A</answer>", question).how == "unparsed"
    assert IntentBench().avatar("<answer>Yes</answer>", question).how == "strict"
    assert IntentBench().avatar("<answer>Yes, surely</answer>", question).how == "lenient"


def test_the_answer_of_the_solution_goes_before_the_other(tmp_path):
    (question,) = questions(tmp_path, MOOD | {"answer": "B, E"})
    assert question.gold == "B,E"
