import json

import pytest
from report.folders import write_cell, write_plan, write_run, write_sweep

from avatar.errors import ConfigError
from avatar.report.find import find_runs
from avatar.report.sweeps import TARGETS, places_of, read_sweep


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two plain runs, a sweep of two, and what is no run."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "demo" / "grpo", steps=2)
    write_run(root / "demo" / "avatar", steps=2)
    (root / "demo" / "data").mkdir()
    (root / "crashed").mkdir()
    (root / "crashed" / "config.yaml").write_text("model: null\n")
    write_sweep(root / "sweep", {"a": {"steps": 2}}, seeds=(0, 1))
    return root


def found(*paths):
    return [place.folder.name for place in find_runs(paths)]


def test_a_folder_stands_for_all_runs_below_it_each_once(tree):
    assert found(tree / "demo") == ["avatar", "grpo"]
    assert found(tree / "demo" / "grpo", tree / "demo") == ["grpo", "avatar"]
    assert found(tree) == ["crashed", "avatar", "grpo", "a-0", "a-1"]


def test_a_link_to_a_run_is_that_run(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree / "demo" / "grpo")
    assert len(find_runs([tmp_path / "link", tree / "demo"])) == 2


def test_a_run_that_logged_nothing_is_found_and_says_so(tree):
    (place,) = find_runs([tree / "crashed"])
    assert place.trouble == "no metrics.csv: it made no step"


def test_folders_without_runs_are_refused_with_a_way_out(tree, tmp_path):
    with pytest.raises(ConfigError, match="holds no run: a folder with metrics"):
        find_runs([tree / "demo" / "data"])
    with pytest.raises(ConfigError, match=r"there is no folder .*dem\. Did you mean 'demo'\?"):
        find_runs([tree / "dem"])
    with pytest.raises(ConfigError, match=r"metrics.csv is a file; give the folder"):
        find_runs([tree / "demo" / "grpo" / "metrics.csv"])
    with pytest.raises(ConfigError, match="there is no folder"):
        find_runs([tmp_path / "none" / "none"])


def test_runs_that_lie_too_deep_are_not_looked_for(tmp_path):
    write_run(tmp_path / "1/2/3/4", steps=1)
    assert found(tmp_path) == ["4"]
    write_run(tmp_path / "b/2/3/4/5", steps=1)
    assert found(tmp_path) == ["4"]


# -- sweeps ------------------------------------------------------------------------------------------------------------


def test_every_cell_is_told_with_its_point_and_what_is_wrong_with_it(tmp_path):
    write_plan(tmp_path, {"arm": ["a"], "seed": ["0", "1", "2", "3", "4"]})
    write_cell(tmp_path, {"arm": "a", "seed": "0"}, steps=1)
    write_cell(tmp_path, {"arm": "a", "seed": "1"}, "failed", "Traceback ...\nConfigError: no such file", steps=1)
    write_cell(tmp_path, {"arm": "a", "seed": "2"}, "running", steps=1)
    broken = write_cell(tmp_path, {"arm": "a", "seed": "3"}, steps=1)
    (broken / "cell.json").write_text('{"version": 1, "na')
    places = places_of(read_sweep(tmp_path))
    assert places[0].point == {"arm": "a", "seed": "0"}
    assert [place.trouble for place in places] == [
        "",
        "failed: ConfigError: no such file",
        "running",
        "cell.json cannot be read",
        "not started",
    ]


def test_settings_of_a_cell_are_keyed_as_they_are_typed(tmp_path):
    write_plan(tmp_path, {"seed": ["0"]})
    cell = write_cell(tmp_path, {"seed": "0"}, steps=1)
    record = json.loads((cell / "cell.json").read_text())
    record["settings"] = {"model.init_args.num_generations": 6}
    (cell / "cell.json").write_text(json.dumps(record))
    assert places_of(read_sweep(tmp_path))[0].settings == {"model.num_generations": 6}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a sweep"),
        ("[]", "cannot be read as a sweep"),
        ('{"version": 1}', "it lacks 'axes'"),
        ('{"version": 2}', "is of version 2, this avatar reads 1: update avatar"),
    ],
)
def test_a_plan_that_is_not_ours_is_refused(tmp_path, text, message):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        find_runs([tmp_path])


def test_a_plan_may_leave_out_what_has_a_default(tmp_path):
    plan = {"version": 1, "axes": [{"name": "seed", "key": "s", "labels": [0, 1]}], "cells": ["0"], "baseline": None}
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    sweep = read_sweep(tmp_path)
    assert (sweep.title, sweep.targets, sweep.command) == (tmp_path.name, TARGETS, "")
    assert dict(sweep.axes) == {"seed": ("0", "1")}
