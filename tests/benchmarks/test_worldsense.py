import json

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.worldsense import WorldSense
from avatar.data.schema import Medium
from avatar.errors import DataError

WHERE = {
    "task_domain": "Recognition",
    "task_type": "Audio Source Localization",
    "question": "Where does the horn sound?",
    "answer": "B",
    "candidates": ["A. Left.", "B. Right.", "C. Above."],
}
WHY = {
    "task_domain": "Reasoning",
    "task_type": "Causal Reasoning",
    "question": "Why?",
    "answer": "D",
    "candidates": ["A. a", "B. b", "C. c", "D. d"],
}
STREET = {
    "video_duration": 31.5,
    "duration": "<1min",
    "domain": "Daily Life",
    "sub_category": "Travel",
    "audio_class": ["Speech", "Event"],
    "video_caption": "A street.",
    "task0": WHERE,
    "task1": WHY,
}


def questions(root, **videos):
    (root / "worldsense_qa.json").write_text(json.dumps(videos))
    return WorldSense().questions(root)


def test_each_task_of_a_video_is_a_question(tmp_path):
    first, second = questions(tmp_path, abc=STREET)
    assert (first.key, first.text, first.gold) == ("abc_task0", "Where does the horn sound?", "B")
    assert (second.key, second.gold, len(second.options)) == ("abc_task1", "D", 4)
    assert first.options == ("A. Left.", "B. Right.", "C. Above.")
    assert first.groups == {
        "domain": "Daily Life",
        "duration": "<1min",
        "sub_category": "Travel",
        "audio_class": ("Speech", "Event"),  # it counts for both
        "task_domain": "Recognition",
        "task_type": "Audio Source Localization",
    }
    assert set(first.groups) == set(WorldSense.groups)


def test_videos_lie_in_a_folder_or_beside_the_annotation(tmp_path):
    assert questions(tmp_path, abc=STREET)[0].media == (Medium("video", "videos/abc.mp4"),)
    (tmp_path / "abc.mp4").touch()
    assert questions(tmp_path, abc=STREET)[0].media == (Medium("video", "abc.mp4"),)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/abc.mp4").touch()
    assert questions(tmp_path, abc=STREET)[0].media == (Medium("video", "videos/abc.mp4"),)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (STREET | {"task1": WHERE | {"answer": "D"}}, "json: abc: task1: field 'answer' .* A to C, got 'D'"),
        (STREET | {"task0": "x"}, "json: abc: task0: field 'candidates' is missing"),
        (STREET | {"audio_class": "Speech"}, "json: abc: field 'audio_class' has the wrong type"),
        ([], "json: abc: field 'domain' is missing"),
    ],
)
def test_a_broken_record_is_named(tmp_path, record, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, abc=record)


def test_a_file_of_another_shape_is_refused(tmp_path):
    (tmp_path / "worldsense_qa.json").write_text("[]")
    with pytest.raises(DataError, match="must be an object of videos, got list"):
        WorldSense().questions(tmp_path)


def test_a_video_that_leads_out_of_the_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="leads out of"):
        questions(tmp_path, **{"../abc": STREET})


@pytest.mark.parametrize(
    ("output", "avatar", "official", "authors"),
    [
        ("B", 1, 1, 1),
        ("b", 1, 0, 1),  # theirs falls back on small letters
        ("Answer: B", 1, 1, 1),
        ("A train, so B", 0, 0, 1),  # the first against the last
        ("B, not A", 0, 1, 0),
        ("<answer>B</answer> A", 1, 1, 0),  # theirs has no eye for tags
        ("<answer>b</answer>", 1, 0, 0),  # the first letter of any size is that of the tag
        ("Right.", 1, 0, 0),  # no letter at all
        ("B I think", 0, 1, 1),  # I is no letter of theirs here
        ("", 0, 0, 0),
    ],
)
def test_three_rules_read_a_reply_each_in_its_way(tmp_path, output, avatar, official, authors):
    question = questions(tmp_path, abc=STREET)[0]
    benchmark = WorldSense()
    row = benchmark.question_of_row(question_row(question))
    assert row.groups == question.groups
    for asked in (question, row):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official", "authors")]
        assert scores == [avatar, official, authors]
    assert benchmark.official(output, question).counted
