import json
import math

import pytest

from avatar.benchmarks.av_counting import AVCounting
from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.grades import Grade, Graded
from avatar.data.schema import Medium
from avatar.errors import DataError

BELLS = {
    "index": 0,
    "video": "town.mp4",
    "question": "How often does the bell ring?",
    "answer": 5,
    "type": "audio",
    "category": "event",
    "query_interval": [10.0, 90.5],
    "clue": [{"start": 10, "end": 11}],
}


def questions(root, *records):
    (root / "cg-av-counting.json").write_text(json.dumps(records))
    return AVCounting().questions(root)


def test_a_count_is_asked_of_the_whole_video(tmp_path):
    first, second = questions(tmp_path, BELLS, BELLS | {"index": 1, "answer": "12", "question_en": "How many?"})
    assert (first.key, first.text, first.gold, first.problem_type) == ("0", BELLS["question"], 5, "number")
    assert first.media == (Medium("video", "cg_videos_720p/town.mp4"),)
    assert first.groups == {"category": "event", "type": "audio"}
    assert (second.text, second.gold) == ("How many?", "12")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "many"}, "json#2: the answer must be a number, got 'many'"),
        ({"answer": None}, "field 'answer' has the wrong type NoneType"),
        ({"video": "../town.mp4"}, "leads out of"),
        ({"category": 3}, "field 'category' has the wrong type int"),
    ],
)
def test_a_broken_record_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, BELLS, BELLS | change)


@pytest.mark.parametrize(
    ("output", "avatar", "official", "authors"),
    [
        ("5", 1, 1, 1),
        ("five", 1, 1, 0),
        ("5\n", 1, 0, 1),
        ("<answer>5</answer>", 1, 0, 1),
        ("<think>1, 2</think><answer>5</answer>", 1, 0, 0),
        ("two dogs and three cats", 0, 1, 0),
        ("5 or 6", 0, 0, 1),
        ("5.4", 0, 0, 1),
        ("-5", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_three_rules_read_a_reply_each_in_its_way(tmp_path, output, avatar, official, authors):
    (question,) = questions(tmp_path, BELLS)
    benchmark = AVCounting()
    for asked in (question, benchmark.question_of_row(json.loads(json.dumps(question_row(question))))):
        grades = [benchmark.grade(output, asked, scoring) for scoring in ("avatar", "official", "authors")]
        assert [grade.score for grade in grades] == [grade.parts["acc"] for grade in grades]
        assert [grade.score for grade in grades] == [avatar, official, authors]


@pytest.mark.parametrize(
    ("scoring", "output", "pred", "error"),
    [
        ("avatar", "<answer>no idea</answer>", None, 10),  # twice the answer
        ("official", "no idea", 0, 5),
        ("authors", "no idea", 0, 5),
        ("avatar", "1000000", 1e6, 10),
        ("official", "1000000", 1e6, 10),
        ("authors", "1000000", 1e6, 999_995),
        ("official", "9" * 5000, 0, 5),  # more digits than Python takes
        ("official", "9" * 400, 1e150, 10),
        ("authors", "9" * 5000, 1e150, 1e150),
    ],
)
def test_errors_are_capped_but_for_the_authors(tmp_path, scoring, output, pred, error):
    (question,) = questions(tmp_path, BELLS)
    parts = AVCounting().grade(output, question, scoring).parts
    assert (parts.get("pred"), parts["abs_err"]) == (pred, pytest.approx(error))
    assert math.isfinite(parts["sq_err"])


def test_a_reply_without_a_number_is_right_by_their_rules_where_there_is_nothing(tmp_path):
    (question,) = questions(tmp_path, BELLS | {"answer": 0})
    grades = {s: AVCounting().grade("none", question, s) for s in ("avatar", "official", "authors")}
    assert {s: (g.score, g.how) for s, g in grades.items()} == {
        "avatar": (0, "unparsed"),
        "official": (1, "unparsed"),
        "authors": (1, "unparsed"),
    }


def test_the_figures_are_means_over_all_questions_the_missing_too(tmp_path):
    first, second, third = questions(tmp_path, BELLS, BELLS | {"answer": 3}, BELLS | {"answer": 4})
    benchmark = AVCounting()
    graded = [Graded(first, benchmark.official("5", first)), Graded(second, benchmark.official("2", second))]
    graded.append(Graded(third, Grade(0.0, "", "missing")))
    # errors 0, 1 and, where nothing could be asked, 2 * 4
    assert benchmark.figures(graded) == pytest.approx(
        {"acc": 1 / 3, "oboa": 2 / 3, "mae": 3, "rmse": math.sqrt((0 + 1 + 64) / 3)}
    )
