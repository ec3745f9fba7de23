import json
import math

import pytest
import torch

from avatar.benchmarks.av_counting import AVCounting
from avatar.benchmarks.av_counting_clues import AVCountingClues
from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.files import to_record
from avatar.benchmarks.grades import Grade, Graded
from avatar.data.schema import Medium
from avatar.errors import ConfigError, DataError

BOX, OTHER = [0, 0, 10, 10], [50, 50, 70, 70]
BELLS = {
    "index": 0,
    "video": "town.mp4",
    "question": "How often does the bell ring?",
    "answer": 2,
    "type": "audio",
    "category": "event",
    "clue": [{"start": 10, "end": 14}, {"start": 30, "end": 33}],
}
DOGS = BELLS | {"category": "object", "clue": [{"timestamp": 9, "bbox": BOX}, {"timestamp": 2.5, "bbox": OTHER}]}
HATS = BELLS | {"category": "attribute", "clue": [[DOGS["clue"][0]], [DOGS["clue"][1]]]}
ALL_BELLS = "[[10, 14], [30, 33]]"


def questions(root, *records):
    (root / "cg-av-counting.json").write_text(json.dumps(records))
    return AVCountingClues().questions(root)


def test_events_are_asked_of_the_video_and_boxes_of_frames_in_the_order_of_the_clues(tmp_path):
    bells, dogs, hats = questions(tmp_path, BELLS, DOGS, HATS)
    assert (bells.media, bells.parts) == ((Medium("video", "cg_videos_720p/town.mp4"),), ())
    assert bells.text.startswith("How often does the bell ring? Say when")
    assert [(medium.start, medium.end) for medium in dogs.media] == [(9, 9.1), (2.5, 2.6)]
    assert [part.get("text") for part in dogs.parts] == ["Frame1: ", None, "Frame2: ", None, f"\n{dogs.text}"]
    assert hats.media == dogs.media
    assert [q.qtype for q in (bells, dogs, hats)] == ["clue_event", "clue_object", "clue_attribute"]
    assert hats.gold == {"category": "attribute", "clue": HATS["clue"], "answer": 2}
    assert len(to_record(hats).messages[0]["content"]) == 5


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (DOGS | {"clue": BELLS["clue"]}, "json#2: field 'clue' is none of category 'object'"),
        (BELLS | {"clue": DOGS["clue"]}, "is none of category 'event'"),
        (HATS | {"clue": DOGS["clue"]}, "is none of category 'attribute'"),
        (HATS | {"clue": []}, "is none of"),
        (DOGS | {"clue": [{"timestamp": "9", "bbox": BOX}]}, "field 'timestamp' has the wrong type str"),
        (BELLS | {"category": "smell"}, "category must be one of event, object, attribute"),
    ],
)
def test_clues_that_cannot_be_scored_are_named(tmp_path, record, message):
    with pytest.raises(DataError, match=message):
        questions(tmp_path, BELLS, record)


@pytest.mark.parametrize(
    ("output", "avatar", "official", "how"),
    [
        (ALL_BELLS, 1, 1, "strict"),
        (f"<think>{ALL_BELLS}</think><answer>[[10, 14]]</answer>", 0.5, 0.5, "strict"),  # half of half: sqrt(.25)
        (f"<answer>[[10, 14]]</answer> or <answer>{ALL_BELLS}</answer>", 0, 0.5, "unparsed"),  # theirs takes the first
        (f"They are {ALL_BELLS}.", 1, 1, "lenient"),
        ("<think>[[1, 2]]</think> none", 0, 0, "unparsed"),
        ("no events", 0, 0, "unparsed"),
        ("", 0, 0, "unparsed"),
    ],
)
def test_both_rules_read_a_reply_each_in_its_way(tmp_path, output, avatar, official, how):
    (question,) = questions(tmp_path, BELLS)
    benchmark = AVCountingClues()
    for asked in (question, benchmark.question_of_row(json.loads(json.dumps(question_row(question))))):
        grades = [benchmark.grade(output, asked, scoring) for scoring in ("avatar", "official")]
        assert [grade.score for grade in grades] == [pytest.approx(avatar), pytest.approx(official)]
        assert grades[0].how == how
        assert grades[0].parts["ifa"] == (how != "unparsed")


def test_boxes_and_labels_are_scored(tmp_path):
    dogs, hats = questions(tmp_path, DOGS, HATS)
    benchmark = AVCountingClues()
    assert benchmark.official(json.dumps({"Frame1": [BOX], "Frame2": [OTHER]}), dogs).score == 1
    one = {"Frame 1": [{"bbox": BOX, "label": "red"}]}
    assert benchmark.official(f"<answer>{json.dumps(one)}</answer>", hats).score == pytest.approx(0.5)


def test_the_figures_are_of_all_questions_the_missing_too(tmp_path):
    (question,) = questions(tmp_path, BELLS)
    benchmark = AVCountingClues()
    outputs = (ALL_BELLS, "[[10, 14], [30, 33], [50, 51]]", "none")
    graded = [Graded(question, benchmark.official(output, question)) for output in outputs]
    graded.append(Graded(question, Grade(0.0, "", "missing")))
    wcs = (1 + math.sqrt(0.5) + 0 + 0) / 4
    assert benchmark.figures(graded) == pytest.approx({"wcs": 100 * wcs, "ifa": 50})
    assert benchmark.overall(graded, torch.ones(4, dtype=torch.float64)).item() == pytest.approx(wcs)


def test_the_authors_score_no_clues(tmp_path):
    (question,) = questions(tmp_path, BELLS)
    grade = AVCounting().authors(ALL_BELLS, question)
    assert (grade.score, grade.how, grade.counted) == (None, "unparsed", False)
    with pytest.raises(ConfigError, match="published no script"):
        AVCountingClues().grade(ALL_BELLS, question, "authors")
