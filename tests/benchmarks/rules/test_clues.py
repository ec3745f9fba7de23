import math

import pytest

from avatar.benchmarks.rules.clues import (
    box_overlap,
    greedy_overlap,
    overlap,
    score_boxes,
    score_clusters,
    score_intervals,
)

A, B, FAR = (0, 0, 10, 10), (50, 50, 70, 70), (90, 90, 99, 99)


def test_intervals_overlap_by_what_they_share_of_their_whole_reach():
    assert overlap((0, 4), (2, 6)) == pytest.approx(2 / 6)
    assert overlap((0, 1), (3, 4)) == 0
    assert overlap((2, 2), (2, 2)) == 0  # no length at all


def test_boxes_overlap_whatever_corners_they_are_given_by():
    # two of 100, shifted by half: 50 of 150
    assert box_overlap(A, (5, 0, 15, 10)) == box_overlap((10, 10, 0, 0), (15, 0, 5, 10)) == pytest.approx(1 / 3)
    assert box_overlap(A, B) == box_overlap((1, 1, 1, 1), (1, 1, 1, 1)) == 0


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([(10, 14), (30, 33)], 1.0),
        ([(10, 14), (30, 33), (50, 51)], math.sqrt(0.5)),  # all found, one too many of two: 1 * (1 - 1/2)
        ([(10, 14)], 0.5),  # half found, half as many: sqrt(.5 * .5)
        ([(10, 14), (10, 14)], math.sqrt(0.5)),  # one interval twice: as many, half found
        ([(10, 33)] * 4, 0.0),  # twice too many
        ([], 0.0),
    ],
)
def test_events_score_the_root_of_place_times_number(said, expected):
    assert score_intervals([(10, 14), (30, 33)], said) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([(0, A), (0, B), (1, A)], 1.0),
        ([(0, A)], 0.25),  # first frame sqrt(.5 * .5), second 0; the mean
        ([(0, A), (1, A)], 0.75),  # .5 and 1
        ([(0, A), (0, B), (1, A), (4, A)], 2 / 3),  # a third frame, without a gold box
        ([(0, FAR), (0, FAR), (1, FAR)], 0.0),
    ],
)
def test_objects_score_frame_by_frame_over_all_frames_that_are_named(said, expected):
    assert score_boxes([(0, A), (0, B), (1, A)], said) == pytest.approx(expected)


def test_boxes_are_paired_greedily_and_not_for_the_best_sum():
    gold, said = [(0, 0, 10, 1), (4.5, 0, 14.5, 1)], [(-2.5, 0, 7.5, 1), (2, 0, 12, 1)]
    # overlaps 7.5/12.5 and 8/12 of the first, 3/17 and 7.5/12.5 of the second: 8/12 is taken, and 3/17 is left
    assert greedy_overlap(gold, said) == pytest.approx(8 / 12 + 3 / 17)


def test_clusters_are_paired_as_is_best_for_all_and_those_left_alone_count_0():
    def score(a, b):
        return {("x", 1): 0.9, ("x", 2): 0.8, ("y", 1): 0.8}.get((a, b), 0.0)

    assert score_clusters(["x", "y"], [1, 2], score) == pytest.approx(0.8)  # (.8 + .8) / 2
    assert score_clusters(["x", "y"], [1], score) == pytest.approx(0.45)  # .9 / 2
    assert score_clusters(["x"], [1, 2, 3], score) == pytest.approx(0.9)  # too many cost nothing
    assert score_clusters(["x"], [], score) == 0


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        score_clusters(["x"], ["y"], lambda a, b: math.nan)
