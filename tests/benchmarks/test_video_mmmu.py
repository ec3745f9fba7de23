import json

import pytest

from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.video_mmmu import VideoMMMU, knowledge_gain
from avatar.data.schema import Medium
from avatar.errors import DataError

WORK = {
    "id": "validation_Physics_7",
    "question": "What work is done? <image 1>",
    "options": ["none at all", "1 J of work", "2 J of work", "3 J", "4 J", "5 J"],
    "answer": "C",
}
USE = WORK | {"question_type": "multiple-choice"}
MASS = {
    "id": "dev_Public_Health_12",
    "question": "How heavy?",
    "options": [],
    "answer": "1,250",
    "question_type": "open",
}
NAME = MASS | {"id": "test_Art_Theory_1", "answer": "golden mean"}


def questions(root, **tracks):
    (root / "data").mkdir(exist_ok=True)
    for track, records in tracks.items():
        content = {track: {str(number): record for number, record in enumerate(records)}}
        (root / f"data/{track.lower()}_video.json").write_text(json.dumps(content))
    return VideoMMMU().questions(root)


def test_three_tracks_ask_of_one_video(tmp_path):
    use, work, seen = questions(tmp_path, Adaptation=[USE], Comprehension=[WORK], Perception=[WORK])
    assert [q.key for q in (use, work, seen)] == [
        f"{track}/validation_Physics_7" for track in ("Adaptation", "Comprehension", "Perception")
    ]
    assert {q.media for q in (use, work, seen)} == {(Medium("video", "Science/validation_Physics_7.mp4"),)}
    assert use.groups == {"track": "Adaptation", "discipline": "Science", "subject": "Physics"}
    assert "last frame" in use.text
    assert work.text == seen.text != use.text


def test_what_has_no_type_is_a_choice_in_two_tracks_and_open_in_the_third(tmp_path):
    untyped, seen = questions(tmp_path, Adaptation=[USE | {"question_type": None}], Perception=[WORK])
    assert [q.qtype for q in (untyped, seen)] == ["open", "multiple-choice"]
    assert [q.problem_type for q in (untyped, seen)] == ["choice", "choice"]  # as our rule has it, by the options


def test_an_open_question_needs_no_options(tmp_path):
    mass, name = questions(tmp_path, Adaptation=[MASS, NAME])
    assert [q.options for q in (mass, name)] == [(), ()]
    assert mass.groups["subject"] == "Public Health"
    assert name.media == (Medium("video", "Art/test_Art_Theory_1.mp4"),)


@pytest.mark.parametrize(
    ("track", "record", "message"),
    [
        ("Perception", WORK | {"options": []}, "Perception 0: field 'options' is missing"),
        ("Perception", WORK | {"answer": "G"}, "must be the letter of an option, A to F, got 'G'"),
        (
            "Perception",
            WORK | {"id": "validation_Alchemy_1"},
            "Perception 0: id 'validation_Alchemy_1' is not of the form",
        ),
        ("Adaptation", WORK, "Adaptation 0: field 'question_type' is missing"),
        ("Adaptation", USE | {"options": []}, "Adaptation 0: field 'options' is missing"),
        ("Reception", WORK, "the track must be one of Perception, Comprehension, Adaptation"),
    ],
)
def test_a_broken_record_is_named(tmp_path, track, record, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, **{track: [record]})


def test_the_hubs_tables_hold_the_same(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for track, record in (("Adaptation", USE), ("Perception", WORK | {"question_type": None})):
        (tmp_path / track).mkdir()
        table = pyarrow.Table.from_pylist([record | {"image": {"bytes": b"x", "path": "p.png"}}])
        parquet.write_table(table, tmp_path / track / "test-00000-of-00001.parquet")
    (tmp_path / "json").mkdir()
    assert VideoMMMU().questions(tmp_path) == questions(tmp_path / "json", Adaptation=[USE], Perception=[WORK])


@pytest.mark.parametrize(
    ("record", "output", "avatar", "official"),
    [
        (USE, "C", 1, 1),
        (USE, "<answer>C</answer>", 1, 0),  # no form of a letter that its rule knows
        (USE, "c", 1, 0),
        (USE, "(A) C.", 0, 0),  # C. at the end is cut to C, and (A) goes before it
        (USE, "A: no. C: yes", 0, 1),  # the last
        (USE, "C. A: B: ", 0, 1),  # full stops go before colons
        (USE, "it comes to 2 J of work here", 1, 1),  # by its text, in a reply of more than five words
        (USE, "2 J of work", 1, 0),
        (USE, "  ", 0, 0),
        (MASS, "1250 g", 1, 1),
        (MASS, "1200 or 1250", 0, 1),
        (MASS, "<answer>1250</answer> <answer>1200</answer>", 0, 1),
        (MASS, "1251", 1, 0),  # ours has a tolerance of a thousandth
        (NAME, "<answer>the golden mean</answer>", 1, 1),
        (NAME, "<think>golden mean?</think><answer>ratio</answer>", 0, 1),
        (NAME, "<answer></answer>", 0, 0),
    ],
)
def test_both_rules_read_a_reply_each_in_its_way(tmp_path, record, output, avatar, official):
    (question,) = questions(tmp_path, Adaptation=[record])
    benchmark = VideoMMMU()
    for asked in (question, benchmark.question_of_row(json.loads(json.dumps(question_row(question))))):
        scores = [benchmark.grade(output, asked, scoring).score for scoring in ("avatar", "official")]
        assert scores == [avatar, official]


@pytest.mark.parametrize("record", [USE, MASS])
def test_an_empty_reply_leaves_the_mean_by_its_rule_and_not_by_ours(tmp_path, record):
    (question,) = questions(tmp_path, Adaptation=[record])
    grades = {scoring: VideoMMMU().grade("", question, scoring) for scoring in ("avatar", "official")}
    assert {name: (g.score, g.how, g.counted) for name, g in grades.items()} == {
        "avatar": (0, "unparsed", True),
        "official": (0, "unparsed", False),
    }


def test_knowledge_gain_is_a_share_of_what_was_not_known():
    assert knowledge_gain(40, 55) == pytest.approx(25)  # 15 of 60
    assert knowledge_gain(50, 45) == pytest.approx(-10)
    with pytest.raises(ValueError, match="nothing to learn"):
        knowledge_gain(100, 100)
