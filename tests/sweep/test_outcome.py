"""What a run came to, from files written by hand: its curve, areas, when it got where, and files that end early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.commands.sweep.outcome import area, last_validation, outcome, reached
from avatar.errors import DataError

METRICS = """\
step,val/accuracy,val/accuracy/color,completions/generated,reward/accuracy,grad_norm
0,0.1,0.25,,,
1,,,80,0.2,1.0
2,0.5,0.5,160,0.4,2.0
3,,,240,0.9,6.0
4,0.9,0.75,320,1.0,
"""
TIMINGS = """\
step,time/generate,time/update,cpu/step,memory/peak
1,1.0,0.5,0.6,99
2,1.0,0.5,0.6,99
3,2.0,1.0,0.8,99
4,2.0,,,99
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "timings.csv").write_text(TIMINGS)
    return tmp_path


def test_a_run_by_hand(run):
    # Seconds: 1.5 + 1.5 = 3 up to step 2, + 3 + 2 = 8 up to step 4; memory is no time.
    # Area: (160 (0.1 + 0.5) / 2 + 160 (0.5 + 0.9) / 2) / 320 = (48 + 112) / 320 = 0.5
    # Start: reward/accuracy up to 200 completions: (0.2 + 0.4) / 2 = 0.3
    assert outcome(run) == {
        "curve": [[0.0, 0.1], [160.0, 0.5], [320.0, 0.9]],
        "seconds": [0.0, 3.0, 8.0],
        "accuracy": 0.9,
        "mean_accuracy": 0.5,
        "by_kind": {"color": 0.75},
        "completions": 320,
        "steps": 4,
        "seconds_per_step": 2.0,
        "cpu_per_step": 0.5,  # (0.6 + 0.6 + 0.8) / 4
        "start": pytest.approx(0.3),
        "means": {"grad_norm": 3.0},
    }


def test_without_timings_all_but_the_seconds_is_there(run):
    whole = outcome(run)
    (run / "timings.csv").unlink()
    assert outcome(run) == {**whole, "seconds": [0.0, 0.0, 0.0], "seconds_per_step": 0.0, "cpu_per_step": 0.0}


def test_a_line_from_nought_to_one_has_mean_a_half():
    assert area([[0, 0.0], [100, 1.0]]) == 0.5
    assert area([[0, 0.0], [25, 0.25], [100, 1.0]]) == 0.5  # a point on the line changes nothing


def test_unevenly_spaced_points_weigh_by_their_distance():
    # 0 over 90 of 100, then 0 to 1 over 10: 10 / 2 / 100
    assert area([[0, 0.0], [90, 0.0], [100, 1.0]]) == pytest.approx(0.05)


def test_where_a_curve_starts_does_not_count_in_its_mean_height():
    assert area([[50, 0.2], [150, 0.4]]) == pytest.approx(area([[0, 0.2], [100, 0.4]])) == pytest.approx(0.3)


CURVE = [[0, 0.1], [100, 0.5], [200, 0.4], [300, 0.9]]


@pytest.mark.parametrize(
    ("target", "at"),
    [
        (0.05, 0),  # it starts there
        (0.1, 0),
        (0.3, 50),  # half of the way from 0.1 to 0.5
        (0.5, 100),
        (0.45, 87.5),  # first reached before the dip: 100 (0.45 - 0.1) / 0.4
        (0.8, 280),  # 200 + 100 (0.8 - 0.4) / 0.5
        (0.9, 300),
        (0.91, None),
    ],
)
def test_a_target_is_reached_on_the_line_between_two_validations(target, at):
    assert reached(CURVE, target) == (at if at is None else pytest.approx(at))


def test_the_same_place_in_seconds():
    assert reached(CURVE, 0.3, xs=[0, 8, 9, 20]) == pytest.approx(4)
    assert reached(CURVE, 0.05, xs=[3, 8, 9, 20]) == 3
    assert reached(CURVE, 0.95, xs=[0, 8, 9, 20]) is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_target_is_never_reached_sooner(heights, one, two):
    curve = [[i, y] for i, y in enumerate(heights)]
    low, high = sorted((one, two))
    if (second := reached(curve, high)) is not None:
        assert reached(curve, low) <= second <= len(heights) - 1


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_run_with_fewer_than_two_validations_has_no_curve(run, rows):
    (run / "metrics.csv").write_text("".join(METRICS.splitlines(keepends=True)[: 1 + rows]))
    with pytest.raises(DataError, match="fewer than two validations; give the config"):
        outcome(run)


def test_a_run_that_logged_nothing_is_said_to_have(tmp_path):
    with pytest.raises(DataError, match="logged nothing"):
        outcome(tmp_path)


def test_a_file_cut_off_anywhere_in_its_last_row_gives_the_rows_before(run):
    lines = METRICS.splitlines(keepends=True)
    above = "".join(lines[:-1])
    for end in range(len(lines[-1])):
        (run / "metrics.csv").write_text(above + lines[-1][:end])
        result = outcome(run)
        assert result["curve"][:2] == [[0.0, 0.1], [160.0, 0.5]]
        assert len(result["curve"]) == 2 or result["curve"][2][1] in (0.0, 0.9)  # "0", "0." and "0.9" can be read


def test_what_the_board_reads_of_a_run_under_way_is_never_an_error(run):
    for end in range(len(METRICS)):
        (run / "metrics.csv").write_text(METRICS[:end])
        steps, accuracy = last_validation(run)
        assert 0 <= steps <= 4
        assert accuracy is None or 0 <= accuracy <= 0.9
    (run / "metrics.csv").write_text(METRICS)
    assert last_validation(run) == (4, 0.9)


def test_a_run_that_has_not_begun_has_made_no_step(tmp_path):
    assert last_validation(tmp_path) == (0, None)


def test_a_run_that_generates_nothing_has_a_curve_over_its_steps(run):
    (run / "metrics.csv").write_text("step,val/accuracy\n0,0.1\n2,0.5\n4,0.9\n")
    assert outcome(run)["mean_accuracy"] == pytest.approx(0.5)
