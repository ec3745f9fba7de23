import json
from dataclasses import replace

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.mvbench import BOUNDED, FOLDERS, MVBench, check_option
from avatar.errors import DataError

COUNT = {"video": "v_1.mp4", "question": "How many hops?", "candidates": ["1", "2", "3"], "answer": "3"}
SCENE = {
    "video": "show_e01_clip",
    "question": "Why does she leave?",
    "candidates": ["The phone rings. ", "It rains."],
    "answer": "The phone rings.",
    "start": 4,
    "end": 9.5,
    "accurate_start": 1.0,
}
LETTER = {"video": "v_2.mp4", "question": "Which letter comes first?", "candidates": ["l", "e", "a"], "answer": "l"}


def write(root, **tasks):
    (root / "json").mkdir(exist_ok=True)
    for task, records in tasks.items():
        (root / f"json/{task}.json").write_text(json.dumps(records))
    return root


def test_questions_come_task_by_task_with_the_gold_letter_by_index(tmp_path):
    loaded = MVBench().questions(write(tmp_path, episodic_reasoning=[SCENE], action_count=[COUNT, COUNT]))
    assert [q.key for q in loaded] == ["action_count/0", "action_count/1", "episodic_reasoning/0"]
    assert [q.gold for q in loaded] == ["C", "C", "A"]  # the third: blanks around a text do not count
    assert [q.groups["task"] for q in loaded] == ["action_count", "action_count", "episodic_reasoning"]
    assert loaded[2].options == ("The phone rings. ", "It rains.")


def test_only_the_bounded_tasks_show_a_part_and_one_of_them_a_folder_of_frames(tmp_path):
    bounded = {**COUNT, "start": 1, "end": 2}
    counts, scene = MVBench().questions(write(tmp_path, episodic_reasoning=[SCENE], action_count=[bounded]))
    assert (counts.media[0].name, counts.media[0].start) == ("perception/videos/v_1.mp4", None)
    assert scene.media[0].name == "tvqa/frames_fps3_hq/show_e01_clip"
    assert (scene.media[0].start, scene.media[0].end) == (4.0, 9.5)
    assert len(FOLDERS) == 20
    assert set(FOLDERS) >= BOUNDED


@pytest.mark.parametrize("place", ["perception", "video/perception", "video/perception/perception"])
def test_videos_are_found_where_the_archives_were_unpacked(tmp_path, place):
    (tmp_path / place / "videos").mkdir(parents=True)
    (tmp_path / place / "videos/v_1.mp4").touch()
    loaded = MVBench().questions(write(tmp_path, action_count=[COUNT]))
    assert loaded[0].media[0].name == f"{place}/videos/v_1.mp4"


@pytest.mark.parametrize(
    ("task", "record", "words"),
    [
        ("action_count", {**COUNT, "answer": "4"}, r"action_count\.json#2: answer '4' is none"),
        ("action_count", {k: v for k, v in COUNT.items() if k != "video"}, r"action_count\.json#2: field 'video'"),
        ("action_count", {**COUNT, "video": "../v.mp4"}, r"action_count\.json#2: .* leads out"),
        ("action_count", {**COUNT, "candidates": [1, 2]}, r"action_count\.json#2: field 'candidates'"),
        ("action_sequence", {**COUNT, "start": "1", "end": 2}, r"field 'start'"),
    ],
)
def test_a_broken_record_is_named(tmp_path, task, record, words):
    with pytest.raises(DataError, match=words):
        MVBench().questions(write(tmp_path, **{task: [{**COUNT, "start": 0, "end": 1}, record]}))


def test_a_file_of_no_task_is_refused(tmp_path):
    with pytest.raises(DataError, match="'action_counting' is no task"):
        MVBench().questions(write(tmp_path, action_counting=[COUNT]))


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("B", True),
        ("b)", True),
        ("(b.", True),  # full stops do not count
        ("B. It rains.", True),  # first word b
        ("x(B)y", True),  # the option is part of the word
        ("", True),  # part of anything
        (" A", True),  # the first word is empty
        ("( A", True),
        ("B: rain", False),
        ("B\n", False),  # words end at blanks only
        ("B\nA", False),
        ("A", False),
        ("The answer is B", False),
        ("<answer>B</answer>", False),
    ],
)
def test_officially_the_first_word_is_part_of_the_option_or_the_other_way_round(reply, right):
    assert check_option(reply, "B") == right


def test_the_authors_have_no_fallback_and_compare_as_it_stands(tmp_path):
    question = MVBench().questions(write(tmp_path, action_count=[COUNT]))[0]
    graded = {
        reply: MVBench().grade(reply, question, "authors").score for reply in ["It is C", "c", "<answer>c</answer>"]
    }
    assert graded == {"It is C": 1, "c": 0, "<answer>c</answer>": 0}


def test_options_that_are_letters_do_not_make_the_gold_letter_ambiguous(tmp_path):
    question = MVBench().questions(write(tmp_path, character_order=[LETTER]))[0]
    assert MVBench().grade("<answer>A. l</answer>", question).score == 1
    assert MVBench().grade("<answer>L</answer>", question).score == 1
    assert MVBench().grade("<answer>e</answer>", question).score == 0
    assert MVBench().grade("<answer>A</answer>", question).how == "unparsed"  # option A, or the option "a"


def test_one_candidate_can_be_answered(tmp_path):
    only = {**COUNT, "candidates": ["none"], "answer": "none"}
    question = MVBench().questions(write(tmp_path, counterfactual_inference=[only]))[0]
    assert MVBench().grade("<answer>A</answer>", question).score == 1


@pytest.mark.parametrize("scoring", MVBench.scorings)
def test_a_saved_row_is_graded_as_the_question_is(tmp_path, scoring):
    for question in MVBench().questions(write(tmp_path, episodic_reasoning=[SCENE], action_count=[COUNT])):
        again = MVBench().question_of_row(json.loads(json.dumps(question_row(question))))
        assert again == replace(question, media=(), shown=question.clip)
        for reply in ["A", "(c) 3", "It rains.", ""]:
            assert MVBench().grade(reply, again, scoring) == MVBench().grade(reply, question, scoring)
