import json
import math

import pytest

from avatar.benchmarks.rules.clue_answers import frame_times, gold_boxes, is_json, payload, score_clues

EVENTS = [{"start": 10, "end": 14}, {"start": 61.5, "end": 63}]
BOX, OTHER = [10, 10, 20, 20], [50, 50, 70, 70]
OBJECTS = [{"timestamp": 9.5, "bbox": BOX}, {"timestamp": 2.0, "bbox": OTHER}]


def labelled(label, box):
    return {"bbox": box, "label": label}


KINDS = [[OBJECTS[0]], [OBJECTS[1], {"timestamp": 9.5, "bbox": OTHER}]]


@pytest.mark.parametrize(
    "text",
    [
        "[[10, 14], [61.5, 63]]",
        '[["10", "14 s"], ["1:01.5", "0:01:03"]]',
        "They are [[10, 14], [61.5, 63]], I think.",
        "so] and no} [[10, 14], [61.5, 63]]",  # what closes nothing is passed over
        "[maybe] [[10, 14], [61.5, 63]]",  # the first that is JSON
        "[[10, 14, 7], [61.5, 63]]",
    ],
)
def test_events_are_read_in_seconds_or_minutes_from_json_or_around_it(text):
    assert score_clues(text, "event", EVENTS) == pytest.approx(1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "none", "[[10]]", "[10, 14]", "null", "{no] [[10, 14]]", '[{"start": 10, "end": 14}]', "[[null, 14]]"),
        *('[["ten", "12"]]', '[["1:2:3:4", "1:05"]]', '[["1:01.5.2", "1:5"]]'),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_events_of_another_shape_are_a_format_error(text):
    assert score_clues(text, "event", EVENTS) is None


def test_no_events_are_an_answer_too():
    assert score_clues("[]", "event", EVENTS) == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"Frame1": [BOX], "Frame 2": [OTHER]}, 1),
        ({"Frame1": [BOX[:2], BOX[2:]], "Frame2": [OTHER]}, 1),  # two corners
        ({"Frame1": [BOX], "Frame2": []}, 0.5),
        ({"Frame1": [BOX, "x", [1, 2]], "Frame2": [OTHER]}, 1),  # what is no box is passed over
        ({"Frame2": [BOX], "Frame1": [OTHER]}, 0),  # by the order of the clues, not by their times
        ({"frame1": [BOX], "note": 3}, 0),
        ({}, 0),
        ({"Frame one": [BOX]}, None),
        ({"Frame1": None}, None),
        ({"Frame1": [["10", "10", "20", "20"]]}, None),  # texts cannot be compared with numbers
        ([[10, 14]], None),
    ],
)
def test_objects_are_read_frame_by_frame(answer, expected):
    assert score_clues(json.dumps(answer), "object", OBJECTS) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"Frame 1": [labelled("a", BOX), labelled("b", OTHER)], "Frame 2": [{"bbox_2d": OTHER, "label": "b"}]}, 1),
        # one label for all, best held against the second kind: its first frame has one box too many, so (0 + 1) / 2 of
        # that kind, and nothing of the first
        ({"Frame 1": [labelled("a", BOX), labelled("a", OTHER)], "Frame 2": [labelled("a", OTHER)]}, 0.25),
        ({"Frame 1": [labelled("a", BOX)]}, 0.5),
        ({"Frame 1": [{"bbox": BOX}]}, None),
        ({"Frame 1": [labelled("a", 7)]}, None),
        ({"Frame 1": [labelled("a", [1, 2])]}, 0),
    ],
)
def test_attributes_are_read_by_label(answer, expected):
    score = score_clues(json.dumps(answer), "attribute", KINDS)
    assert score == (expected if expected is None else pytest.approx(expected))


def test_coordinates_that_are_no_numbers_never_make_a_score_that_is_none():
    for text in ("[[NaN, 14]]", "[[-Infinity, Infinity]]", "[[10, 1e999]]", f"[[10, {'9' * 400}]]"):
        score = score_clues(text, "event", EVENTS)
        assert score is None or math.isfinite(score)


def test_the_single_quotes_of_the_benchmarks_own_example_are_no_json():
    assert score_clues('{"Frame 1": [{"bbox": [1, 1, 2, 2], \'label\': "a"}]}', "attribute", KINDS) is None


def test_frames_are_numbered_as_the_clues_come():
    assert frame_times(KINDS) == [9.5, 2.0]
    assert gold_boxes(KINDS) == [[(0, BOX)], [(1, OTHER), (0, OTHER)]]


def test_the_first_tag_is_the_answer_and_without_one_the_reply():
    assert payload("x <answer> [1]\n</answer> <answer>2</answer>") == "[1]"
    assert payload(" [1] ") == "[1]"
    assert is_json("[1]")
    assert not is_json("x [1]")
