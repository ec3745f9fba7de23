import json
from dataclasses import replace

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.tomato import TOMATO, plain_letter
from avatar.errors import DataError

NUMBERS = ("2", "1", "3", "4")


def record(**changes):
    found = {
        "question": "How often does the wheel turn?",
        "options": list(NUMBERS),
        "answer": 2,
        "key": "0001-00",
        "video_source_url": "",
        "motion_type": "count",
        "variation": {"counterfactual": 0, "composite": 1, "zoom": 0, "first_person": 1},
        "demonstration_type": "object",
        "note": "",
    }
    return {**found, **changes}


def load(root, **tasks):
    (root / "data").mkdir(exist_ok=True)
    for task, records in tasks.items():
        (root / f"data/{task}.json").write_text(json.dumps(records))
    return TOMATO().questions(root)


def test_the_gold_letter_is_that_of_the_index(tmp_path):
    loaded = load(tmp_path, **{"count": {"0": record()}, "shape&trend": {"0": record(answer=0), "5": record()}})
    assert [question.key for question in loaded] == ["count/0", "shape&trend/0", "shape&trend/5"]
    assert [question.gold for question in loaded] == ["C", "A", "C"]  # index 2 is C, whatever the options say
    assert loaded[0].media[0].name == "videos/object/0001-00.mp4"
    assert loaded[0].groups == {
        "motion": "count",
        "demonstration": "object",
        "variation": ("composite", "first_person"),
    }


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (record(answer=4), r"count\.json\['1'\]: answer must be the index of one of 4 options, is 4"),
        (record(answer=-1), "answer must be the index"),
        (record(answer="C"), r"count\.json\['1'\]: field 'answer'"),
        (record(options=[1, 2]), r"count\.json\['1'\]: field 'options'"),
        (record(key="../x"), "leads out"),
    ],
)
def test_a_broken_record_is_named(tmp_path, broken, words):
    with pytest.raises(DataError, match=words):
        load(tmp_path, count={"0": record(), "1": broken})


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("c", "C"),
        (" C\n", "C"),
        ("C: 3", "C"),
        ("c: 3", "C"),
        ("C: 4", ""),  # that is D's
        ("E", ""),  # there are four options
        ("Answer is:C", "C"),
        ("Answer is(c)", "C"),
        ("Answer is: C", ""),  # no blank
        ("Answer is:E", ""),
        ("C. 3", ""),
        ("(C)", ""),
        ("3", ""),
        ("<answer>C</answer>", ""),
        ("", ""),
    ],
)
def test_officially_three_forms_are_read_and_the_rest_is_for_a_judge(tmp_path, reply, letter):
    assert plain_letter(reply, NUMBERS) == letter
    grade = TOMATO().grade(reply, load(tmp_path, count={"0": record()})[0], "official")
    assert (grade.score, grade.parsed) == ((1.0, "C") if letter else (None, ""))


def test_officially_an_option_with_small_letters_never_matches_as_a_text():
    assert plain_letter("A: Left.", ("Left.", "Right.")) == ""
    assert plain_letter("A: LEFT.", ("LEFT.", "Right.")) == "A"


def test_the_judge_may_say_that_no_option_is_meant(tmp_path):
    question = load(tmp_path, count={"0": record()})[0]
    request = TOMATO().judge_request("It must be three", question, "official")
    assert request.schema["properties"]["option"]["enum"] == ["A", "B", "C", "D", "none"]
    assert '"C": "3"' in request.messages[1]["content"]
    assert TOMATO().judged({"option": "C"}, question, "official").score == 1
    none = TOMATO().judged({"option": "none"}, question, "official")
    assert (none.score, none.parsed, none.how) == (0, "", "judge")
    for reply, scoring in (("C", "official"), ("no idea", "avatar"), ("no idea", "authors")):
        assert TOMATO().judge_request(reply, question, scoring) is None


def test_the_authors_fall_back_as_far_as_e(tmp_path):
    question = load(tmp_path, count={"0": record()})[0]
    replies = ["C", "c", "g", "C I think", "<answer>C. 3</answer>"]
    assert [TOMATO().grade(reply, question, "authors").score for reply in replies] == [1, 1, 0, 0, 0]


def test_by_our_rule_a_number_is_the_option_of_that_text(tmp_path):
    question = load(tmp_path, count={"0": record()})[0]
    assert TOMATO().grade("<answer>3</answer>", question).score == 1  # C
    assert TOMATO().grade("<answer>2</answer>", question).score == 0  # A, and not the second or third


@pytest.mark.parametrize("scoring", TOMATO.scorings)
def test_a_saved_row_is_graded_as_the_question_is(tmp_path, scoring):
    question = load(tmp_path, count={"0": record()})[0]
    again = TOMATO().question_of_row(json.loads(json.dumps(question_row(question))))
    assert again == replace(question, media=(), shown=question.clip)
    for reply in ["C", "C: 3", "3", "c", "It is C", ""]:
        assert TOMATO().grade(reply, again, scoring) == TOMATO().grade(reply, question, scoring)
        assert TOMATO().judge_request(reply, again, scoring) == TOMATO().judge_request(reply, question, scoring)
