import json

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.video_mme import VideoMME
from avatar.data.schema import Medium
from avatar.errors import DataError

BEES = {
    "video_id": "001",
    "duration": "short",
    "domain": "Knowledge",
    "sub_category": "Biology & Medicine",
    "url": "somewhere",
    "videoID": "aB-3",
    "question_id": "001-1",
    "task_type": "Counting Problem",
    "question": "How many bees are there?",
    "options": ["A. One.", "B. Two.", "C. Three.", "D. None."],
    "answer": "C",
}
SECOND = BEES | {"question_id": "001-2", "question": "How many wasps?", "answer": "D"}


def questions(root, *records):
    (root / "videomme.json").write_text(json.dumps(records))
    return VideoMME().questions(root)


def test_a_question_shows_a_video_with_its_sound(tmp_path):
    first, second = questions(tmp_path, BEES, SECOND)
    assert (first.key, second.key, first.text, first.gold) == ("001-1", "001-2", BEES["question"], "C")
    assert first.options == tuple(BEES["options"])
    assert first.media == second.media == (Medium("video", "data/aB-3.mp4"),)
    assert first.groups == {
        "duration": "short",
        "domain": "Knowledge",
        "task_type": "Counting Problem",
        "sub_category": "Biology & Medicine",
    }


def test_the_table_of_the_hub_and_an_export_by_columns_give_the_same_questions(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "hub/videomme").mkdir(parents=True)
    table = pa.Table.from_pylist([BEES, SECOND])
    pq.write_table(table, tmp_path / "hub/videomme/test-00000-of-00001.parquet")
    (tmp_path / "videomme.json").write_text(json.dumps(table.to_pydict()))
    of_table, of_columns = VideoMME().questions(tmp_path / "hub"), VideoMME().questions(tmp_path)
    assert of_table == of_columns == questions(tmp_path, BEES, SECOND)


@pytest.mark.parametrize("name", ["data/aB-3.MP4", "data/aB-3.mkv", "aB-3.mp4"])
def test_videos_have_several_endings_and_places(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / name).touch()
    assert questions(tmp_path, BEES)[0].media == (Medium("video", name),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "E"}, r"videomme.json#2: field 'answer' must be the letter of an option, A to D, got 'E'"),
        ({"videoID": "/etc/x"}, "leads out of"),
        ({"duration": 3}, "videomme.json#2: field 'duration' has the wrong type int"),
    ],
)
def test_a_broken_record_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, BEES, SECOND | change)


@pytest.mark.parametrize(
    ("output", "avatar", "official", "authors"),
    [
        ("C", 1, 1, 1),
        ("Answer: C. It hums", 1, 1, 1),
        ("Best answer: C", 1, 0, 1),  # B: that phrase is not dropped, for want of a comma
        ("Count them: A", 0, 1, 0),
        ("<think>A?</think><answer>C</answer>", 1, 0, 1),
        ("C I think", 0, 1, 0),
        ("<answer>c</answer>", 1, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_three_rules_read_a_reply_each_in_its_way(tmp_path, output, avatar, official, authors):
    (question,) = questions(tmp_path, BEES)
    benchmark = VideoMME()
    row = benchmark.question_of_row(question_row(question))
    for asked in (question, row):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official", "authors")]
        assert scores == [avatar, official, authors]


def test_by_its_own_rule_a_reply_without_a_letter_is_left_out_of_the_mean(tmp_path):
    (question,) = questions(tmp_path, BEES)
    assert not VideoMME().official("c", question).counted
    assert VideoMME().official("A", question).counted
    assert VideoMME().authors("c", question).counted
    assert VideoMME().avatar("who knows", question).counted
