import json
from dataclasses import replace

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.lvbench import LVBench, first_mark
from avatar.errors import DataError

QUESTION = "Who opens the gate?\n(A) A guard\n(B) The cook\n(C) Nobody\n(D) A dog"


def record(**changes):
    found = {
        "uid": "7",
        "question": QUESTION,
        "answer": "B",
        "question_type": ["entity recognition", "reasoning"],
        "time_reference": "00:15-00:19",
    }
    return {**found, **changes}


def write(root, *records, key="abc", folder="."):
    line = {"key": key, "type": "cartoon", "video_info": {"duration_minutes": 61}, "qa": list(records)}
    (root / folder).mkdir(exist_ok=True)
    (root / folder / "video_info.meta.jsonl").write_text(json.dumps(line) + "\n")
    return root


def test_options_are_taken_out_of_the_text(tmp_path):
    question = LVBench().questions(write(tmp_path, record()))[0]
    assert question.text == "Who opens the gate?"
    assert question.options == ("(A) A guard", "(B) The cook", "(C) Nobody", "(D) A dog")
    assert question.texts == ("A guard", "The cook", "Nobody", "A dog")
    assert (question.key, question.ident, question.gold) == ("abc/7", "7", "B")
    assert question.groups == {"capability": ("entity recognition", "reasoning"), "type": "cartoon"}


def test_ids_that_come_twice_are_told_apart(tmp_path):
    keys = [question.key for question in LVBench().questions(write(tmp_path, record(), record(uid=8), record()))]
    assert keys == ["abc/7", "abc/8", "abc/7#2"]


@pytest.mark.parametrize("name", ["videos/abc.mp4", "abc.mp4", "all_videos/abc.mp4", "scripts/videos/abc.mp4"])
def test_the_official_folders_are_searched_for_the_video(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    assert LVBench().questions(write(tmp_path, record(), folder="data"))[0].media[0].name == name


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (record(question="Who?"), r"jsonl:1, qa\[1\]: field 'question' must end with options"),
        (record(question="Who?\n(A) x\n(C) y"), r"qa\[1\]: field 'question' must end with options"),
        (record(answer="E"), r"qa\[1\]: field 'answer' must be the letter"),
        (record(question_type="reasoning"), r"qa\[1\]: field 'question_type'"),
    ],
)
def test_a_broken_record_is_named(tmp_path, broken, words):
    with pytest.raises(DataError, match=words):
        LVBench().questions(write(tmp_path, record(), broken))


def test_a_video_outside_of_the_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="leads out"):
        LVBench().questions(write(tmp_path, record(), key="../abc"))


@pytest.mark.parametrize(
    ("reply", "mark"),
    [
        ("B", "B"),
        ("(B) The cook", "B"),
        ("The answer is (B).", "B"),
        ("B) or C", "B"),  # what stands before the first bracket that closes
        ("Answer: B", "A"),
        ("b", "b"),  # and b is not B
        ("<answer>B</answer>", "<"),
        ("<answer>(B)</answer>", "B"),
        ("A, not ( B )", "B"),
        (") B", ""),
        ("(", ""),
        ("  ", ""),
    ],
)
def test_officially_one_character_decides(tmp_path, reply, mark):
    assert first_mark(reply) == mark
    question = LVBench().questions(write(tmp_path, record()))[0]
    grade = LVBench().grade(reply, question, "official")
    assert (grade.score, grade.how) == (float(mark == "B"), "strict" if mark else "unparsed")


def test_the_authors_fall_back_as_far_as_e(tmp_path):
    question = LVBench().questions(write(tmp_path, record()))[0]
    graded = {reply: LVBench().grade(reply, question, "authors").parsed for reply in ["B or D", "f b", "fff"]}
    assert graded == {"B or D": "D", "f b": "B", "fff": ""}


@pytest.mark.parametrize("scoring", LVBench.scorings)
def test_a_saved_row_is_graded_as_the_question_is(tmp_path, scoring):
    question = LVBench().questions(write(tmp_path, record()))[0]
    again = LVBench().question_of_row(json.loads(json.dumps(question_row(question))))
    assert again == replace(question, media=(), shown="videos/abc.mp4")
    for reply in ["B", "(B) The cook", "The cook", "b", "D"]:
        assert LVBench().grade(reply, again, scoring) == LVBench().grade(reply, question, scoring)
