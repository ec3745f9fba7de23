import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.video_holmes import VideoHolmes, first_in_alphabet
from avatar.errors import DataError

SAMPLE = Path(__file__).parents[3] / "shared/data/benchmarks/video_holmes"
OPTIONS = {"A": "The clock", "B": "The B-side of the tape", "C": "A letter", "D": "Rain", "E": "Nothing", "F": "Dust"}


def record(**changes):
    found = {
        "video ID": "film1",
        "Question ID": 1,
        "Question Type": "SR",
        "Question": "What gives her away?",
        "Options": OPTIONS,
        "Answer": "C",
        "Explanation": "none",
    }
    return {**found, **changes}


def write(root, *records):
    (root / "test_Video-Holmes.json").write_text(json.dumps(records))
    return root


def test_keys_are_unique_though_ids_are_not(tmp_path):
    other = {"video ID": "film2", "Question Type": "TA"}
    loaded = VideoHolmes().questions(write(tmp_path, record(), record(**other), record()))
    assert [question.key for question in loaded] == ["film1/1", "film2/1", "film1/1#2"]
    assert loaded[1].groups == {"question_type": "TA"}
    assert loaded[0].options == tuple(OPTIONS.values())
    assert (loaded[0].gold, loaded[0].media[0].name) == ("C", "videos/film1.mp4")


def test_cropped_videos_are_taken_where_there_are_no_others(tmp_path):
    (tmp_path / "videos_cropped").mkdir()
    (tmp_path / "videos_cropped/film1.mp4").touch()
    assert VideoHolmes().questions(write(tmp_path, record()))[0].media[0].name == "videos_cropped/film1.mp4"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (record(Answer="G"), r"json#2: field 'Answer' must be the letter"),
        (record(Answer="E", Options={"A": "x", "B": "y", "C": "", "D": ""}), "field 'Answer'"),  # blank ones are none
        (record(Options={"A": "x", "C": "y"}), r"json#2: field 'Options' must have keys A, B, C"),
        (record(Options={"A": "", "B": " "}), r"json#2: field 'Options' has no option"),
        (record(Options=["x", "y"]), r"json#2: field 'Options'"),
        ({k: v for k, v in record().items() if k != "video ID"}, r"json#2: field 'video ID' is missing"),
    ],
)
def test_a_broken_record_is_named(tmp_path, broken, words):
    with pytest.raises(DataError, match=words):
        VideoHolmes().questions(write(tmp_path, record(), broken))


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("C", "C"),
        ("<answer>A</answer> no, <answer>\nC </answer>", "C"),  # the last one
        ("<think>A </think><answer>C", "A"),  # an open tag is none
        ("</answer><answer>C</answer>", "C"),
        ("D, not C ", "C"),  # a blank behind goes before none
        ("F: [E] ", "E"),  # by the alphabet, not by the text
        ("D: not A", "D"),  # a colon does as well as a blank
        ("FED", "D"),
        ("C. Any A4 paper", "A"),  # parts of words count
        ("c", ""),
        ("", ""),
    ],
)
def test_officially_the_alphabet_decides(reply, letter):
    assert first_in_alphabet(reply) == letter


def test_time_grows_with_the_length_of_the_reply_only():
    start = time.perf_counter()
    for reply in ("<answer>" * 100_000, "<answer>" + " " * 500_000, "</answer>" * 100_000):
        first_in_alphabet(reply)
    assert time.perf_counter() - start < 2


def test_the_authors_take_the_first_tag_and_fall_back_as_far_as_f(tmp_path):
    question = VideoHolmes().questions(write(tmp_path, record()))[0]
    replies = ["<answer>A</answer> no, <answer>C</answer>", "c", "f", "<answer>c</answer>"]
    assert [VideoHolmes().grade(reply, question, "authors").parsed for reply in replies] == ["A", "C", "F", "c"]
    assert [VideoHolmes().grade(reply, question, "authors").score for reply in replies] == [0, 1, 0, 0]


@pytest.mark.parametrize("scoring", VideoHolmes.scorings)
def test_a_saved_row_is_graded_as_the_question_is(tmp_path, scoring):
    question = VideoHolmes().questions(write(tmp_path, record()))[0]
    again = VideoHolmes().question_of_row(json.loads(json.dumps(question_row(question))))
    assert again == replace(question, media=(), shown="videos/film1.mp4")
    for reply in ["C", "A letter", "c", "<answer>C</answer>", "[C"]:
        assert VideoHolmes().grade(reply, again, scoring) == VideoHolmes().grade(reply, question, scoring)


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"{SAMPLE} is not there: annotations are not in the repository")
@pytest.mark.parametrize("film", ["RSmjqss0XKQ", "dGS48Kcax5k"])
def test_the_published_examples_load(tmp_path, film):
    source = SAMPLE / f"example_questions_{film}.json"
    shutil.copy(source, tmp_path / "test_Video-Holmes.json")
    loaded = VideoHolmes().questions(tmp_path)
    records = json.loads(source.read_text())
    assert len(loaded) == len({question.key for question in loaded}) == len(records) > 5
    assert [question.gold for question in loaded] == [record["Answer"] for record in records]
    assert {question.media[0].name for question in loaded} == {f"videos/{film}.mp4"}
    assert all(VideoHolmes().grade(f"<answer>{question.gold}</answer>", question).score == 1 for question in loaded)
