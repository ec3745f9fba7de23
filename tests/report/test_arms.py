from pathlib import Path

import pytest
from report.folders import write_cell, write_plan, write_run, write_sweep

from avatar.errors import ConfigError
from avatar.report.arms import differing_parts, group_runs, seed_key
from avatar.report.find import find_runs
from avatar.report.runs import read_run

SHORT = {"steps": 2, "every": 1}


def grouped(*paths, baseline=None):
    return group_runs([read_run(place) for place in find_runs(paths)], baseline)


def arms(*paths, baseline=None):
    """(label, runs, baseline) of each arm."""
    return [(arm.label, len(arm.runs), arm.baseline) for arm in grouped(*paths, baseline=baseline).arms]


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["runs/demo/grpo"], ["grpo"]),
        (["runs/demo/grpo", "runs/demo/avatar"], ["grpo", "avatar"]),
        (["runs/s0/grpo", "runs/s1/grpo"], ["s0", "s1"]),
        (["a/s0/grpo", "b/s0/avatar", "a/s0/avatar"], ["a/grpo", "b/avatar", "a/avatar"]),
        (["runs/a/grpo", "runs/b/more/grpo"], ["a", "b/more"]),
        (["runs/a", "runs/a/b"], ["a", "b"]),
        (["b", "b/b"], ["b", "b/b"]),  # both would be called b
    ],
)
def test_a_plain_run_is_called_by_what_its_path_differs_in(paths, labels):
    assert differing_parts([Path(path) for path in paths]) == labels


def test_cells_that_differ_on_averaged_axes_alone_are_one_arm(tmp_path):
    write_sweep(tmp_path, {"grpo4": SHORT, "avatar": SHORT}, seeds=(0, 1, 2))
    assert arms(tmp_path) == [("grpo4", 3, None), ("avatar", 3, "grpo4")]
    assert [seed_key(run) for run in grouped(tmp_path).arms[1].runs] == [(0,), (1,), (2,)]
    assert grouped(tmp_path).targets == (0.6, 0.8)


def test_runs_of_an_arm_are_in_the_order_of_the_axis_and_not_of_their_names(tmp_path):
    write_sweep(tmp_path, {"a": SHORT}, seeds=(9, 10))
    assert [run.place.point["seed"] for run in grouped(tmp_path).arms[0].runs] == ["9", "10"]


def test_a_number_is_named_by_its_axis_and_an_axis_of_one_label_is_not_named(tmp_path):
    write_plan(tmp_path, {"arm": ["avatar"], "strength": ["0.1", "0.3"], "seed": ["0"]})
    for strength in ("0.1", "0.3"):
        write_cell(tmp_path, {"arm": "avatar", "strength": strength, "seed": "0"}, **SHORT)
    assert arms(tmp_path) == [("strength 0.1", 1, None), ("strength 0.3", 1, "strength 0.1")]


def test_a_sweep_over_seeds_alone_is_one_arm_of_its_title(tmp_path):
    write_plan(tmp_path, {"seed": ["0", "1"]}, title="seeds")
    for seed in ("0", "1"):
        write_cell(tmp_path, {"seed": seed}, **SHORT)
    assert arms(tmp_path) == [("seeds", 2, None)]


def test_on_a_grid_an_arm_is_held_against_the_baseline_of_its_own_row(tmp_path):
    write_plan(tmp_path, {"arm": ["grpo", "avatar"], "lr": ["1e-4", "2e-4"], "seed": ["0"]}, baseline={"arm": "grpo"})
    for arm in ("grpo", "avatar"):
        for lr in ("1e-4", "2e-4"):
            write_cell(tmp_path, {"arm": arm, "lr": lr, "seed": "0"}, **SHORT)
    held = {label: baseline for label, _, baseline in arms(tmp_path)}
    assert held["avatar, lr 1e-4"] == "grpo, lr 1e-4"
    assert held["avatar, lr 2e-4"] == "grpo, lr 2e-4"
    assert held["grpo, lr 2e-4"] is None


def test_where_the_baseline_has_not_finished_nothing_stands_in_for_it(tmp_path):
    write_plan(tmp_path, {"arm": ["grpo", "a", "b"], "seed": ["0"]}, baseline={"arm": "grpo"})
    for arm in ("a", "b"):
        write_cell(tmp_path, {"arm": arm, "seed": "0"}, **SHORT)
    runs = [read_run(place) for place in find_runs([tmp_path]) if not place.trouble]
    assert [arm.baseline for arm in group_runs(runs).arms] == [None, None]


def test_arms_of_several_sources_are_told_apart_and_held_against_their_own(tmp_path):
    write_sweep(tmp_path / "one", {"grpo4": SHORT, "avatar": SHORT}, seeds=(0,), title="first")
    write_sweep(tmp_path / "two", {"grpo4": SHORT, "avatar": SHORT}, seeds=(0,), title="second")
    write_run(tmp_path / "plain" / "grpo4", **SHORT)
    assert arms(tmp_path / "one", tmp_path / "two", tmp_path / "plain") == [
        ("first: grpo4", 1, None),
        ("first: avatar", 1, "first: grpo4"),
        ("second: grpo4", 1, None),
        ("second: avatar", 1, "second: grpo4"),
        ("grpo4", 1, None),
    ]


def test_sweeps_of_one_title_are_called_by_their_folders(tmp_path):
    for name in ("one", "two"):
        write_sweep(tmp_path / name, {"a": SHORT, "b": SHORT}, seeds=(0,))
    assert [label for label, _, _ in arms(tmp_path)] == ["one: a", "one: b", "two: a", "two: b"]


def test_a_baseline_that_is_asked_for_is_that_of_all(tmp_path):
    for name in ("avatar", "grpo"):
        write_run(tmp_path / name, **SHORT)
    assert arms(tmp_path) == [("avatar", 1, None), ("grpo", 1, "avatar")]
    assert arms(tmp_path, baseline="grpo") == [("avatar", 1, "grpo"), ("grpo", 1, None)]
    with pytest.raises(ConfigError, match=r"no arm 'grp'\. Did you mean 'grpo'\? There are: avatar, grpo"):
        grouped(tmp_path, baseline="grp")
