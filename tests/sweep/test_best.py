"""What another sweep found best, handed on to the cells of this one."""

import pytest
from tests_sweep import a_record, a_sweep, checked, level, write_sweep

from avatar.commands.sweep.best import best_of
from avatar.errors import ConfigError

TUNE = ("advantage:m=GRPO,TAS", "lr:o.lr=1e-4,2e-4,4e-4", "seed_everything=100,101")
SCORES = {
    ("GRPO", "1e-4"): (0.1, 0.2), ("GRPO", "2e-4"): (0.5, 0.7), ("GRPO", "4e-4"): (0.9, 0.1),
    ("TAS", "1e-4"): (0.1, 0.2), ("TAS", "2e-4"): (0.5, 0.5), ("TAS", "4e-4"): (0.8, 0.4),
}  # fmt: skip


def tuned(folder, scores=SCORES, axes=TUNE, **changes):
    """A finished sweep over rates; its last accuracies tell the opposite of its mean ones."""
    records = []
    for (arm, lr), heights in scores.items():
        for seed, height in zip(("100", "101"), heights, strict=True):
            result = level(height) | {"accuracy": 1 - height}
            records.append(a_record(result, advantage=arm, lr=lr, seed=seed))
    return write_sweep(folder, a_sweep(*axes, **changes), records)


OURS = ("advantage:m=GRPO,TAS", "seed_everything=0,1")


def test_the_highest_mean_accuracy_over_repeats_is_taken_for_each_arm(tmp_path):
    choices, extra = best_of(tuned(tmp_path / "t"), checked(*OURS))
    # GRPO: 0.15, 0.6, 0.5; TAS: 0.15, 0.5, 0.6
    assert [(c.shared, c.chosen, c.at_edge) for c in choices] == [
        ({"advantage": "GRPO"}, {"lr": "2e-4"}, False),
        ({"advantage": "TAS"}, {"lr": "4e-4"}, True),
    ]
    assert choices[0].scores == {"1e-4": 0.15, "2e-4": 0.6, "4e-4": 0.5}
    assert extra == {
        "GRPO-0": ["--o.lr=2e-4"], "GRPO-1": ["--o.lr=2e-4"], "TAS-0": ["--o.lr=4e-4"], "TAS-1": ["--o.lr=4e-4"],
    }  # fmt: skip


def test_of_equals_the_first_is_taken(tmp_path):
    scores = {(arm, lr): (0.5, 0.5) for arm in ("GRPO", "TAS") for lr in ("1e-4", "2e-4", "4e-4")}
    choices, _ = best_of(tuned(tmp_path / "t", scores), checked(*OURS))
    assert [choice.chosen for choice in choices] == [{"lr": "1e-4"}] * 2


def test_the_ends_of_two_values_are_no_edge(tmp_path):
    scores = {(arm, lr): (0.5, 0.5) for arm in ("GRPO", "TAS") for lr in ("1e-4", "2e-4")}
    axes = ("advantage:m=GRPO,TAS", "lr:o.lr=1e-4,2e-4", "seed_everything=100,101")
    choices, _ = best_of(tuned(tmp_path / "t", scores, axes), checked(*OURS))
    assert not any(choice.at_edge for choice in choices)


def test_what_this_sweep_varies_more_is_given_to_all_of_it(tmp_path):
    _, extra = best_of(tuned(tmp_path / "t"), checked("advantage:m=GRPO", "beta:o.beta=0,0.1", "seed_everything=0"))
    assert extra == {"GRPO-0-0": ["--o.lr=2e-4"], "GRPO-0.1-0": ["--o.lr=2e-4"]}


def test_without_a_shared_axis_one_value_is_best_for_all(tmp_path):
    # Over both arms: 0.15, 0.55, 0.55: of equals the first.
    choices, extra = best_of(
        tuned(tmp_path / "t", over=("advantage", "seed")), checked("beta:o.beta=0,0.1", "seed_everything=0")
    )
    assert [(c.shared, c.chosen) for c in choices] == [({}, {"lr": "2e-4"})]
    assert set(map(tuple, extra.values())) == {("--o.lr=2e-4",)}


def test_the_value_of_a_label_is_handed_on_and_not_the_label(tmp_path):
    axes = ("advantage:m=GRPO,TAS", "lr:config=rates/low.yaml,rates/high.yaml", "seed_everything=100,101")
    scores = {(arm, lr): (0.5, 0.5) for arm in ("GRPO", "TAS") for lr in ("low", "high")}
    _, extra = best_of(tuned(tmp_path / "t", scores, axes), checked(*OURS))
    assert extra["GRPO-0"] == ["--config=rates/low.yaml"]


def test_a_sweep_that_is_not_finished_is_refused(tmp_path):
    folder = tuned(tmp_path / "t", {k: v for k, v in SCORES.items() if k != ("TAS", "4e-4")})
    with pytest.raises(ConfigError, match="2 of its 12 cells are not finished; run it first"):
        best_of(folder, checked(*OURS))


def test_a_sweep_without_an_axis_of_its_own_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no axis that this sweep lacks"):
        best_of(tuned(tmp_path / "t"), checked("advantage:m=GRPO", "lr:o.lr=1e-4", "seed_everything=0"))


def test_an_arm_that_the_other_has_not_run_is_refused_by_the_cell(tmp_path):
    with pytest.raises(ConfigError, match="it has run nothing for cell AVATAR-0"):
        best_of(tuned(tmp_path / "t"), checked("advantage:m=GRPO,AVATAR", "seed_everything=0"))


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no sweep"):
        best_of(tmp_path, checked(*OURS))
