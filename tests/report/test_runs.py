import json
import math

import numpy as np
import pytest
from report.folders import accuracy, config, shaped, write_run

from avatar.report.runs import read_run
from avatar.report.settings import (
    accuracy_key,
    estimator_of,
    plain_keys,
    ratio_of,
    read_settings,
    shape_of,
    strength_of,
)
from avatar.report.sweeps import Place


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """40 steps of 4 new and 4 replayed completions."""
    return read_run(Place(write_run(tmp_path_factory.mktemp("run"), replayed=4, advantage=shaped())))


def test_the_learning_curve_starts_before_the_first_step(run):
    x, y = run.points("val/accuracy")
    assert x.tolist() == [0, 40, 80, 120, 160]
    np.testing.assert_allclose(y, [accuracy(c) for c in x])


def test_accuracy_at_the_end_over_the_run_and_to_a_target(run):
    assert run.last_accuracy == pytest.approx(accuracy(160))
    # trapezes of equal width: the inner points count whole, the ends half
    inner = sum(accuracy(c) for c in (40, 80, 120))
    assert run.mean_accuracy == pytest.approx((accuracy(0) / 2 + inner + accuracy(160) / 2) / 4)
    assert accuracy(40) < 0.6 < accuracy(80)
    assert run.completions_to(0.6) == 80
    assert run.completions_to(0.95) is None


def test_a_run_validated_once_is_its_own_mean_and_one_never_validated_has_none(tmp_path):
    once = read_run(Place(write_run(tmp_path / "once", every=100)))
    assert once.mean_accuracy == once.last_accuracy == accuracy(0)
    never = read_run(Place(write_run(tmp_path / "never", validated=False)))
    assert never.mean_accuracy is None
    assert never.last_accuracy is None
    assert never.completions_to(0.0) is None
    assert never.mean_length == pytest.approx(11, abs=0.1)


def test_points_rise_in_x_and_the_last_of_equal_ones_counts(run):
    columns = {"step": np.array([3.0, 1.0, 1.0, 2.0]), "y": np.array([30.0, 10.0, 11.0, math.nan])}
    shuffled = type(run)(**{**run.__dict__, "metrics": columns})
    assert [list(part) for part in shuffled.points("y", "step")] == [[1, 3], [11, 30]]
    assert [list(part) for part in shuffled.points("none", "step")] == [[], []]


def test_seconds_are_means_over_all_timed_steps(tmp_path):
    folder = write_run(tmp_path)
    # generate 0.3 + 0.5 in two steps; the tower ran in one of three timed steps alone: 0.3 / 3
    (folder / "timings.csv").write_text(
        "step,time/encode,time/generate,memory/rss_mb\n1,0.3,0.3,5\n2,,0.5,5\n3,,0.4,5\n"
    )
    run = read_run(Place(folder))
    assert run.seconds == pytest.approx({"encode": 0.1, "generate": 0.4})
    assert run.timed_steps == 3
    (folder / "timings.csv").unlink()
    assert read_run(Place(folder)).seconds == {}


def test_only_late_unhinted_judged_replies_are_kept(tmp_path):
    folder = write_run(tmp_path, steps=40)
    common = {"hinted": False, "reward/accuracy": 1.0, "length": 7}
    lines = [
        {"step": 30, **common},  # the last quarter begins after step 30 of 40
        {"step": 31, **common},
        {"step": 31, **common, "hinted": True},
        {"step": 32, **common, "reward/accuracy": None},
        {"step": 40, **common, "reward/accuracy": 0.25, "length": 9},
    ]
    (folder / "completions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(Place(folder))
    assert run.lengths.tolist() == [7, 9]
    assert run.rewards.tolist() == [1, 0.25]


def test_histograms_are_summed_and_those_of_other_bins_left_out(tmp_path):
    folder = write_run(tmp_path, generations=4)
    before = read_run(Place(folder)).histograms
    assert before["fresh"].tolist() == [2 * 4 * i for i in range(11)]  # two lines of 4 i
    assert set(before) == {"fresh"}  # nothing replayed: all zeros
    with (folder / "health.jsonl").open("a") as file:
        file.write('{"step": 9, "histogram/fresh": [1, 2]}\n')
    np.testing.assert_array_equal(read_run(Place(folder)).histograms["fresh"], before["fresh"])


# -- settings ----------------------------------------------------------------------------------------------------------


def settings(advantage, tmp_path, **more):
    import yaml

    tree = config(0, 4, 2, advantage)
    tree["model"]["init_args"] |= more
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    return read_settings(tmp_path / "config.yaml")


def test_settings_are_keyed_as_they_are_typed(tmp_path):
    found = settings(shaped(0.5), tmp_path)
    assert found["model.advantage.strength"] == 0.5
    assert found["model.replay.num_replayed"] == 2
    assert plain_keys({"model.init_args.advantage.init_args.strength": 0.5}) == {"model.advantage.strength": 0.5}
    assert ratio_of(found) == (4, 2)
    assert ratio_of({"model.num_generations": 8, "model.replay": None}) == (8, 0)
    assert ratio_of({}) is None


TAS = {
    "class_path": "TAS",
    "init_args": {
        "base": {"class_path": "avatar.advantages.RLOO"},
        "shape": {"class_path": "LinearDecay", "init_args": {"strength": 0.2, "normalize": True}},
    },
}
FLAT = {"class_path": "TAS", "init_args": {"base": None, "shape": {"class_path": "Uniform"}}}


@pytest.mark.parametrize(
    ("advantage", "name", "shape", "strength"),
    [
        (shaped(0.5), "AVATAR", "Parabolic", 0.5),
        (None, "GRPO", None, None),
        (TAS, "TAS(RLOO, LinearDecay)", "LinearDecay", 0.2),
        ({"class_path": "TAS", "init_args": {"base": None, "shape": None}}, "TAS", "Parabolic", 0.3),
        (FLAT, "TAS(Uniform)", "Uniform", 0.0),
        ({"class_path": "mine.Other"}, "Other", None, None),
        ({"class_path": "TAS", "init_args": {"shape": {"class_path": "mine.Wave"}}}, "TAS(Wave)", None, None),
    ],
)
def test_the_estimator_and_its_shape_are_read_from_a_config(tmp_path, advantage, name, shape, strength):
    found = settings(advantage, tmp_path)
    assert estimator_of(found) == name
    assert shape_of(found) is None if shape is None else type(shape_of(found)).__name__ == shape
    assert strength_of(found) == strength


def test_a_normalised_shape_stays_so(tmp_path):
    assert shape_of(settings(TAS, tmp_path)).normalize


def test_the_accuracy_reward_is_found_by_its_label_and_in_a_sum(tmp_path):
    assert accuracy_key({}) == "reward/accuracy"
    labelled = [{"class_path": "avatar.rewards.Accuracy", "init_args": {"label": "right"}}]
    assert accuracy_key(settings(None, tmp_path, rewards=labelled)) == "reward/right"
    mixed = [{"class_path": "avatar.rewards.Weighted", "init_args": {"rewards": labelled}}]
    assert accuracy_key(settings(None, tmp_path, rewards=mixed)) == "reward/right"
