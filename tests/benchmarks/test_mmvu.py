import json
from dataclasses import replace

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.mmvu import MMVU, VERDICT
from avatar.errors import DataError

ADDRESS = "https://huggingface.co/datasets/yale-nlp/MMVU/resolve/main/videos/Art/0.mp4"
CHOICES = {"A": "A pan", "B": "A tilt", "C": "A zoom", "D": "A cut", "E": ""}


def record(**changes):
    found = {
        "id": "validation_0",
        "video": ADDRESS,
        "question_type": "multiple-choice",
        "metadata": {"subject": "Art", "textbook": "none"},
        "question": "How does the camera move?",
        "choices": CHOICES,
        "answer": "B",
    }
    return {**found, **changes}


OPEN = record(id="validation_1", question_type="open-ended", choices=dict.fromkeys("ABCDE", ""), answer="Tilt")


def load(root, *records):
    (root / "validation.json").write_text(json.dumps(records))
    return MMVU().questions(root)


def test_both_types_load(tmp_path):
    choice, words = load(tmp_path, record(), OPEN)
    assert (choice.problem_type, choice.options, choice.gold) == ("choice", tuple(CHOICES.values())[:4], "B")
    assert (words.problem_type, words.options, words.gold) == ("free", (), "Tilt")
    assert (choice.key, choice.media[0].name) == ("validation_0", "videos/Art/0.mp4")
    assert words.groups == {"question_type": "open-ended", "subject": "Art"}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (record(answer="E"), r"json#2: field 'answer' must be the letter"),  # option E is blank
        (record(question_type="essay"), "json#2: question_type must be multiple-choice or open-ended"),
        (record(video="https://example.org/a.mp4"), r"json#2: video must be below videos/"),
        (record(video=ADDRESS.replace("Art", "..")), r"json#2: .* leads out"),
        (record(metadata={}), r"json#2: field 'subject' is missing"),
    ],
)
def test_a_broken_record_is_named(tmp_path, broken, words):
    with pytest.raises(DataError, match=words):
        load(tmp_path, record(), broken)


def test_officially_only_a_judge_can_tell(tmp_path):
    for question in load(tmp_path, record(), OPEN):
        assert [MMVU().grade(reply, question, "official").score for reply in ["B", "Tilt", ""]] == [None] * 3
        request = MMVU().judge_request("<think>B?</think>It is B", question, "official")
        assert "<think>B?</think>It is B" in request.messages[1]["content"]
        assert request.schema == VERDICT


def test_by_our_rule_options_are_read_and_words_judged(tmp_path):
    choice, words = load(tmp_path, record(), OPEN)
    assert MMVU().grade("<answer>B</answer>", choice).score == 1
    assert MMVU().judge_request("<answer>B</answer>", choice, "avatar") is None
    assert MMVU().judge_request("no idea", choice, "avatar") is None  # unparsed, and so wrong
    grade = MMVU().grade("<think>long</think><answer>a tilt</answer>", words)
    assert (grade.score, grade.parsed, grade.how) == (None, "a tilt", "strict")
    empty = MMVU().grade("<answer></answer>", words)
    assert (empty.score, empty.how) == (0, "unparsed")
    assert MMVU().judge_request("<answer></answer>", words, "avatar") is None


def test_the_judge_of_our_rule_sees_what_was_read_and_nothing_else(tmp_path):
    _, words = load(tmp_path, record(), OPEN)
    said = MMVU().judge_request("<think>secret</think><answer>a tilt</answer>", words, "avatar").messages[1]["content"]
    assert 'Question: "How does the camera move?"' in said
    assert 'Correct answer: "Tilt"' in said
    assert "a tilt" in said
    assert "secret" not in said
    assert "Options" not in said


def test_a_verdict_becomes_a_grade(tmp_path):
    _, words = load(tmp_path, record(), OPEN)
    grade = MMVU().judged({"extracted_answer": "a tilt", "correct": True}, words, "avatar")
    assert (grade.score, grade.parsed, grade.how) == (1, "a tilt", "judge")
    assert MMVU().judged({"extracted_answer": "", "correct": False}, words, "official").score == 0


def test_the_authors_have_multiple_choice_only_and_look_past_tags(tmp_path):
    choice, words = load(tmp_path, record(), OPEN)
    replies = ["<answer>B</answer> A", "<answer>B</answer>", "b", "B I think", "f b"]
    assert [MMVU().grade(reply, choice, "authors").parsed for reply in replies] == ["A", "B", "B", "I", "B"]
    grade = MMVU().grade("Tilt", words, "authors")
    assert (grade.score, grade.counted) == (None, False)
    assert MMVU().judge_request("Tilt", words, "authors") is None


@pytest.mark.parametrize("scoring", MMVU.scorings)
def test_a_saved_row_is_graded_as_the_question_is(tmp_path, scoring):
    for question in load(tmp_path, record(), OPEN):
        again = MMVU().question_of_row(json.loads(json.dumps(question_row(question))))
        assert again == replace(question, media=(), shown="videos/Art/0.mp4")
        for reply in ["B", "A tilt", "b", "<answer>B</answer>", ""]:
            assert MMVU().grade(reply, again, scoring) == MMVU().grade(reply, question, scoring)
            assert MMVU().judge_request(reply, again, scoring) == MMVU().judge_request(reply, question, scoring)


def test_a_row_without_our_names_of_types_is_read_by_its_own():
    row = {"id": "1", "options": None, "gold": "Tilt", "qtype": "open-ended"}
    assert MMVU().question_of_row(row).problem_type == "free"
    row = {"id": "2", "options": CHOICES, "gold": "B", "qtype": "multiple-choice"}
    assert MMVU().question_of_row(row).problem_type == "choice"
