import pytest
from report.folders import accuracy, write_run

from avatar.report import (
    arms_table,
    completions_to,
    mean_of,
    plot_health,
    plot_learning_curves,
    read_curve,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "avatar", replayed=4)


def test_a_column_is_read_as_a_curve(run):
    metrics = run / "metrics.csv"
    points = read_curve(metrics, "completions/generated", "val/accuracy")
    assert points == [(x, accuracy(x)) for x in (0, 40, 80, 120, 160)]
    assert read_curve(metrics, "step", "none") == []
    assert mean_of(metrics, "completions/generated") == 4 * 20.5  # steps 1 to 40
    assert mean_of(metrics, "none") is None


def test_a_target_is_reached_at_the_first_validation_that_is_as_good(run):
    assert completions_to(run / "metrics.csv", accuracy(80)) == 80
    assert completions_to(run / "metrics.csv", 0.0) == 0
    assert completions_to(run / "metrics.csv", 1.0) is None


def test_the_pictures_of_the_demo_are_drawn(run, tmp_path):
    step = run / "metrics.csv"
    text = step.read_text().replace("ess/fresh", "advantage/zero_spread_share")
    (tmp_path / "metrics.csv").write_text(text)
    plot_learning_curves({"AVATAR": tmp_path / "metrics.csv"}, tmp_path / "new" / "curve.png")
    plot_health(run, tmp_path / "health.png")
    assert (tmp_path / "new" / "curve.png").stat().st_size > 10_000
    assert (tmp_path / "health.png").stat().st_size > 10_000


def test_the_table_of_the_demo_has_a_column_an_arm():
    arm = {
        "accuracy": 0.9, "by_kind": {"beeps": 1.0}, "target": 0.8, "completions_generated": 1280, "seconds": 20.0,
        "completions_to_target": None, "zero_spread_share": 0.4, "replay_hit_rate": None, "seconds_per_step": 0.05,
    }  # fmt: skip
    before = {"num_questions": 5, "seed": 0, "by_kind_before": {"beeps": 0.3}, "accuracy_before": 0.3}
    table = arms_table(before | {"arms": {"GRPO": arm, "AVATAR": arm}, "seconds": {"total": 60.0}})
    assert [column.header for column in table.columns] == ["question kind", "before", "GRPO", "AVATAR"]
    assert list(table.columns[3].cells)[:2] == ["1.000", "0.900"]
