import json

import pytest
import torch

from avatar.benchmarks.av_odyssey import AVOdyssey
from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.grades import Graded
from avatar.data.schema import Medium
from avatar.errors import DataError

HORN = {
    "question_id": "1_0",
    "question_type_id": 1,
    "question": "Hear [audio1]. Who plays it, as in [img1]?",
    "options": ["A. dog", "B. horn", "C. rain", "D. drum"],
    "answer": "B",
    "subfield": "Timbre",
    "data_type": "image+audio",
    "image_path": ["images/1.png"],
    "audio_path": ["audio/1.wav"],
    "video_path": None,
}


def text(words):
    return {"type": "text", "text": words}


IMAGE, AUDIO, VIDEO = {"type": "image"}, {"type": "audio"}, {"type": "video"}
SHOT, SOUND = Medium("image", "images/1.png"), Medium("audio", "audio/1.wav")


def questions(root, *records):
    (root / "av_odyssey.json").write_text(json.dumps(records))
    return AVOdyssey().questions(root)


def parts_and_media(root, **change):
    (question,) = questions(root, HORN | change)
    return list(question.parts), list(question.media)


def test_media_stand_where_the_question_has_them(tmp_path):
    (question,) = questions(tmp_path, HORN)
    assert question.parts == (text("Hear "), AUDIO, text(". Who plays it, as in "), IMAGE, text("?"))
    assert question.media == (SOUND, SHOT)
    assert (question.key, question.ident, question.gold, question.options) == (
        "1_0",
        "1_0",
        "B",
        tuple(HORN["options"]),
    )
    assert question.groups == {"subfield": "Timbre", "data_type": "image+audio", "question_type": "1"}


def test_a_video_and_a_sound_are_two_media(tmp_path):
    parts, media = parts_and_media(
        tmp_path, question="[video1][audio1]?", image_path=[], video_path=["v/1.mp4"], data_type="video+audio"
    )
    assert parts == [VIDEO, AUDIO, text("?")]
    assert media == [Medium("video", "v/1.mp4"), SOUND]


def test_what_the_question_does_not_name_comes_first_with_its_tag(tmp_path):
    parts, media = parts_and_media(tmp_path, question="Hear [audio1].")
    assert parts == [text("[img1]"), IMAGE, text("Hear "), AUDIO, text(".")]
    assert media == [SHOT, SOUND]


def test_tags_stay_where_options_name_media(tmp_path):
    parts, media = parts_and_media(
        tmp_path,
        question="Which fits [img1]?",
        options=["A. [audio1]", "B. [audio2]", "C. both", "D. none"],
        audio_path=["audio/1.wav", "audio/2.wav"],
    )
    assert parts == [text("[audio1]"), AUDIO, text("[audio2]"), AUDIO, text("Which fits [img1]"), IMAGE, text("?")]
    assert media == [SOUND, Medium("audio", "audio/2.wav"), SHOT]


def test_media_are_counted_by_their_place_in_the_list(tmp_path):
    _, media = parts_and_media(tmp_path, question="[audio3] [img1]", audio_path=[None, "", "audio/1.wav", None])
    assert media == [SOUND, SHOT]


def test_an_id_that_comes_twice_gives_two_keys(tmp_path):
    assert [(q.key, q.ident) for q in questions(tmp_path, HORN, HORN)] == [("1_0", "1_0"), ("1_0#2", "1_0")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "[img2]?"}, r"json#2: the question has \[img2\], but names \[img1\], \[audio1\]"),
        ({"image_path": "images/1.png"}, "json#2: field 'image_path' must be a list of paths"),
        ({"audio_path": ["/x.wav"]}, "leads out of"),
        ({"answer": "dog"}, "'answer' must be the letter"),
    ],
)
def test_a_broken_record_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, HORN, HORN | change)


def test_a_table_of_paths_is_read_and_one_of_the_media_themselves_is_refused(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name in ("paths", "bytes"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.Table.from_pylist([HORN]), tmp_path / "paths/test-00000-of-00001.parquet")
    assert AVOdyssey().questions(tmp_path / "paths") == questions(tmp_path, HORN)
    embedded = {name: value for name, value in HORN.items() if not name.endswith("_path")} | {"image_1": b"...."}
    pq.write_table(pa.Table.from_pylist([embedded]), tmp_path / "bytes/av_odyssey_part1.parquet")
    with pytest.raises(DataError, match=r"av_odyssey_part1\.parquet: holds the media themselves"):
        AVOdyssey().questions(tmp_path / "bytes")


@pytest.mark.parametrize(
    ("output", "avatar", "official", "authors"),
    [
        ("B", 1, 1, 1),
        ("<answer>B</answer>", 1, 1, 1),
        ("Answer: B", 1, 0, 1),  # the A of Answer
        ("D or (B)", 1, 1, 1),  # brackets; ours has no eye for a lone letter beside them
        ("Drum, or C", 0, 0, 0),
        ("i am sure it is b. horn", 1, 1, 0),  # the option as the file has it; theirs takes the first of a to d
        ("i am sure it is the horn", 1, 0, 0),  # not without its letter
        ("B I think", 0, 1, 0),
        ("horn", 1, 0, 0),
    ],
)
def test_three_rules_read_a_reply_each_in_its_way(tmp_path, output, avatar, official, authors):
    (question,) = questions(tmp_path, HORN)
    benchmark = AVOdyssey()
    row = benchmark.question_of_row(question_row(question))
    for asked in (question, row):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official", "authors")]
        assert scores == [avatar, official, authors]


def test_by_its_own_rule_what_says_nothing_is_an_a(tmp_path):
    (question,) = questions(tmp_path, HORN | {"answer": "A"})
    assert [AVOdyssey().grade("", question, rule).score for rule in ("avatar", "official", "authors")] == [0, 1, 0]


def test_by_its_own_rule_an_id_counts_once_in_a_subfield(tmp_path):
    again, elsewhere = HORN | {"question": "[img1] again"}, HORN | {"subfield": "Tone"}
    asked = questions(tmp_path, HORN, again, elsewhere)
    benchmark = AVOdyssey()
    graded = [Graded(q, benchmark.official(reply, q)) for q, reply in zip(asked, ("C", "B", "B"), strict=True)]
    settled = benchmark.settle(graded, "official")
    assert [g.grade.counted for g in settled] == [True, False, True]
    counted = [g for g in settled if g.grade.scored]
    assert benchmark.overall(counted, torch.ones(2)) == 1 / 2  # 0 and 1; what came second is not seen
    assert [g.grade.counted for g in benchmark.settle(graded, "avatar")] == [True] * 3
