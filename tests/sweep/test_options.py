"""Options from plan and command line, and what of them is refused before anything is read."""

import json

import pytest
from tests_sweep import checked

from avatar.commands.sweep.options import Options, as_json, check_options, read_options
from avatar.errors import ConfigError

PLAN = """
title: A plan
config: [base.yaml]
axis: ['arm:config=a.yaml,b.yaml', 'seed_everything=0,1']
set: [data.val=dev]
completions: 320
targets: [0.5]
over: [seed]
out: runs/planned
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return str(path)


def test_lists_are_given_one_by_one_in_either_spelling():
    options = read_options(["--config", "a.yaml", "--config=b.yaml", "--axis", "x=1,2", "--axis=y=3", "--set", "k=v"])
    assert (options.config, options.axis, options.set) == (["a.yaml", "b.yaml"], ["x=1,2", "y=3"], ["k=v"])


def test_the_folder_is_named_after_the_last_config():
    assert str(read_options(["--config=x/base.yaml", "--config=x/pool.yaml"]).folder) == "runs/sweeps/pool"
    assert str(read_options(["--config=x/base.yaml", "--out=there"]).folder) == "there"


def test_a_plan_is_read(plan):
    options = read_options([f"--plan={plan}"])
    assert options == Options(
        title="A plan", config=["base.yaml"], axis=["arm:config=a.yaml,b.yaml", "seed_everything=0,1"],
        set=["data.val=dev"], completions=320, targets=[0.5], over=["seed"], out="runs/planned",
    )  # fmt: skip


def test_the_command_line_goes_over_the_plan(plan):
    options = read_options([f"--plan={plan}", "--completions=16", "--out=other", "--targets=[0.25]"])
    assert (options.completions, options.out, options.targets, options.title) == (16, "other", [0.25], "A plan")


def test_configs_and_settings_add_to_the_plan_and_an_axis_takes_the_place_of_its_namesake(plan):
    options = read_options(
        [
            "--config=over.yaml",
            f"--plan={plan}",
            "--set=data.val=test",
            "--axis=seed_everything=7",
            "--axis=lr:o.lr=1,2",
        ]
    )
    assert options.config == ["base.yaml", "over.yaml"]
    assert options.set == ["data.val=dev", "data.val=test"]  # the later one counts
    assert options.axis == ["arm:config=a.yaml,b.yaml", "seed_everything=7", "lr:o.lr=1,2"]


def test_a_switch_may_stand_alone():
    for args in (
        ["--dry_run"],
        ["--dry_run", "--jobs=2"],
        ["--dry_run", "true"],
        ["--dry_run=true", "--restart=false"],
    ):
        options = read_options(["--config=x.yaml", *args])
        assert options.dry_run
        assert not options.restart
    assert read_options(["--restart", "--config=x.yaml"]).restart


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean '--axis'"):
        read_options(["--axes=seed_everything=0,1"])


def test_an_option_without_value_is_refused():
    with pytest.raises(ConfigError, match="--axis wants a value"):
        read_options(["--axis"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": []}, "give --config FILE"),
        ({"config": ["not/there.yaml"]}, "not/there.yaml: there is no such file"),
        ({"axis": []}, "nothing to vary"),
        ({"jobs": 0}, "--jobs must be at least 1, got 0"),
        ({"completions": 0}, "--completions must be at least 1"),
        ({"validate_every": -4}, "--validate_every must be at least 1"),
        ({"targets": [0.5, 80]}, "--targets are accuracies above 0 and up to 1"),
        ({"targets": [0]}, "--targets are accuracies"),
        ({"set": ["data.val"]}, "wanted KEY=VALUE"),
        ({"over": ["sed"]}, "--over: no 'sed'. Did you mean 'seed'"),
        ({"baseline": "am=x"}, "--baseline: no 'am'. Did you mean 'arm'"),
        ({"baseline": "arm=grpo"}, "--baseline arm: no 'grpo'. Did you mean 'GRPO'"),
        ({"baseline": "arm"}, "--baseline arm: no ''"),
        ({"baseline": "seed=0"}, "--baseline: no 'seed'"),  # repeats are no rows
    ],
)
def test_what_does_not_fit_is_refused_with_what_is_known(options, message):
    with pytest.raises(ConfigError) as error:
        checked(*options.pop("axis", ["arm:m=GRPO,TAS", "seed_everything=0,1"]), **options)
    assert message in str(error.value)


def test_means_are_over_the_seed_unless_said_otherwise():
    axes = ["arm:m=GRPO,TAS", "start:p=a,b", "seed_everything=0,1"]
    assert checked(*axes).over == ("seed",)
    assert checked(*axes).compared == ["arm", "start"]
    assert checked(*axes, over=["start", "seed"]).compared == ["arm"]
    assert checked(*axes, over=[]).compared == ["arm", "start", "seed"]
    assert checked("arm:m=GRPO,TAS").over == ()


def test_a_baseline_names_labels_of_some_axes():
    sweep = checked("arm:config=x/a.yaml,x/b.yaml", "lr:o.lr=1e-4,2e-4", baseline="arm=b,lr=2e-4")
    assert sweep.baseline == {"arm": "b", "lr": "2e-4"}
    assert checked("arm:m=GRPO,TAS").baseline == {}


def test_what_is_written_of_a_sweep_is_all_that_a_table_needs():
    sweep = checked("arm:config=x/a.yaml,x/b.yaml", "seed_everything=0", baseline="arm=a", targets=[0.5])
    content = json.loads(as_json(sweep, ["avatar", "sweep"], ["a-0", "b-0"]))
    assert content == {
        "version": 1,
        "title": "s",  # of the folder, as none is given
        "command": ["avatar", "sweep"],
        "axes": [
            {"name": "arm", "key": "config", "labels": ["a", "b"], "values": ["x/a.yaml", "x/b.yaml"]},
            {"name": "seed", "key": "seed_everything", "labels": ["0"], "values": ["0"]},
        ],
        "over": ["seed"],
        "baseline": {"arm": "a"},
        "targets": [0.5],
        "cells": ["a-0", "b-0"],
    }


def test_options_are_left_as_they_are():
    options = Options(config=[__file__], axis=["m=1,2"], out="x")
    assert check_options(options).options is options
