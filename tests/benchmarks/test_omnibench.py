import json

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.omnibench import OmniBench
from avatar.data.schema import Medium
from avatar.errors import DataError

TRAIN = {
    "task type": "Plot Inference",
    "audio type": "Speech ",
    "question": "Why does the train stop?",
    "audio content": "a long text",
    "image content": "a longer text",
    "audio_path": "t1.mp4.mp3.mp3",
    "image_path": "t1.png",
    "index": 7,
    "answer": "A cow stands on the track. ",
    "options": ["It is late.", "A cow stands on the track.", "It has no coal.", "It is a toy."],
}
WIND = TRAIN | {"audio type": "sound event", "index": 8, "answer": "It is a toy."}


def write(root, *records):
    (root / "dataset").mkdir()
    (root / "dataset/batch-5_1142_20240817.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return root


def questions(root, *records):
    return OmniBench().questions(write(root, *records))


def test_a_question_shows_a_picture_and_a_sound_and_its_gold_letter_is_by_place(tmp_path):
    first, second = questions(tmp_path, TRAIN, WIND)
    assert (first.key, first.text, first.gold) == ("7", "Why does the train stop?", "B")  # whatever "A cow" begins with
    assert first.options == tuple(TRAIN["options"])
    assert first.media == (Medium("image", "mm_data/image/t1.png"), Medium("audio", "mm_data/audio/t1.mp4.mp3.mp3"))
    assert first.groups == {"audio_type": "speech", "task_type": "Plot Inference"}
    assert (second.gold, second.groups["audio_type"]) == ("D", "sound event")


def test_an_index_that_comes_twice_gives_two_keys(tmp_path):
    assert [q.key for q in questions(tmp_path, TRAIN, TRAIN)] == ["7", "7#2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "It is early."}, r"jsonl:2: the answer 'It is early.' is none of the options"),
        ({"options": "A. x B. y"}, "jsonl:2: field 'options' has the wrong type str"),
        ({"image_path": "../../x.png"}, "leads out of"),
        ({"index": None}, "field 'index' has the wrong type"),
    ],
)
def test_a_broken_record_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, TRAIN, WIND | change)


@pytest.mark.parametrize(
    ("output", "avatar", "official", "authors"),
    [
        ("B", 1, 1, 1),
        ("<answer>B</answer>", 1, 0, 1),  # its rule wants "(B)", "B " or "B."
        ("<answer>(B)</answer>", 1, 1, 0),
        ("<answer> b </answer>", 1, 0, 1),  # theirs compares in capitals
        ("B\n", 1, 0, 1),
        ("C or B", 0, 1, 1),  # the last; we do not guess
        ("(C) B", 0, 0, 1),
        ("so it is that a cow stands on the track. yes", 1, 1, 0),
        ("It has no coal.", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_three_rules_read_a_reply_each_in_its_way(tmp_path, output, avatar, official, authors):
    (question,) = questions(tmp_path, TRAIN)
    benchmark = OmniBench()
    row = benchmark.question_of_row(question_row(question))
    for asked in (question, row):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official", "authors")]
        assert scores == [avatar, official, authors]


def test_a_reply_without_an_answer_counts(tmp_path):
    (question,) = questions(tmp_path, TRAIN)
    grade = OmniBench().official("who knows", question)
    assert (grade.score, grade.how, grade.counted) == (0, "unparsed", True)
