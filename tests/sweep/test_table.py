"""The table of a sweep: means, differences and ratios by hand, over the runs that both sides have."""

import json
from random import Random

import pytest
from tests_sweep import a_record, a_result, a_sweep, level, write_sweep

from avatar.commands.sweep.table import (
    Estimate,
    leaves_out,
    read_cells,
    read_sweep,
    rows_of,
    summarize,
    to_target,
)
from avatar.errors import ConfigError

GRPO, TAS = {"advantage": "GRPO"}, {"advantage": "TAS"}
TWO_ARMS = a_sweep("model.advantage=GRPO,TAS", "seed_everything=0,1,2", baseline=GRPO)


def by_seed(point, results):
    """Records of one row; None is a run that is not there."""
    return [a_record(r, **point, seed=str(seed)) for seed, r in enumerate(results) if r is not None]


def levels(*heights):
    return [None if height is None else level(height) for height in heights]


def entries_of(grpo, tas, sweep=TWO_ARMS):
    return summarize(sweep, by_seed(GRPO, grpo) + by_seed(TAS, tas))


def test_means_over_runs():
    grpo, tas = entries_of(levels(0.2, 0.4, 0.6), levels(0.3, 0.4, 0.8))
    assert (grpo["point"], grpo["runs"], grpo["of"]) == (GRPO, 3, 3)
    assert grpo["accuracy"].mean == pytest.approx(0.4)  # (0.2 + 0.4 + 0.6) / 3
    assert tas["accuracy"].mean == pytest.approx(0.5)  # (0.3 + 0.4 + 0.8) / 3
    assert grpo["cpu_per_completion"].mean == pytest.approx(0.125)  # half a second for each step of four


def test_an_interval_lies_within_the_runs_and_holds_the_mean():
    (grpo, _) = entries_of(levels(0.2, 0.4, 0.6), levels(0.3, 0.4, 0.8))
    low, high = grpo["accuracy"].interval
    # Of 27 equally likely draws of three, one is all 0.2 and one all 0.6: 3.7 % each, so 2.5 % falls on them.
    assert (low, high) == (0.2, 0.6)


def test_equal_runs_have_an_interval_of_no_width():
    (grpo, tas) = entries_of(levels(0.4, 0.4, 0.4), levels(0.5, 0.5, 0.5))
    assert grpo["accuracy"] == Estimate(0.4, (0.4, 0.4))
    assert tas["accuracy_difference"].mean == pytest.approx(0.1)
    assert tas["accuracy_difference"].significant


def test_one_run_has_no_interval():
    grpo, tas = entries_of(levels(0.4), levels(0.5))
    assert grpo["accuracy"] == Estimate(0.4, None)
    assert tas["accuracy_difference"] == Estimate(0.1, None)
    assert not tas["accuracy_difference"].significant  # nobody knows how far another run would lie


def test_differences_are_paired_so_what_both_share_drops_out():
    # Runs differ by 0.6 among themselves and by 0.1 each time from their partner: the difference is sure.
    _, tas = entries_of(levels(0.1, 0.4, 0.7), levels(0.2, 0.5, 0.8))
    assert tas["accuracy_difference"].mean == pytest.approx(0.1)
    assert tas["accuracy_difference"].interval == pytest.approx((0.1, 0.1))
    assert tas["accuracy"].interval[0] < 0.7 - 0.1  # while the rows themselves overlap


def test_a_difference_is_over_the_seeds_that_both_have():
    # GRPO lacks seed 1: (0.5 - 0.2 + 0.9 - 0.6) / 2 = 0.3, while means are 0.4 and (0.5 + 0.0 + 0.9) / 3
    grpo, tas = entries_of(levels(0.2, None, 0.6), levels(0.5, 0.0, 0.9))
    assert (grpo["runs"], grpo["of"]) == (2, 3)
    assert grpo["accuracy"].mean == pytest.approx(0.4)
    assert tas["accuracy"].mean == pytest.approx(1.4 / 3, abs=1e-6)
    assert tas["accuracy_difference"].mean == pytest.approx(0.3)


def test_rows_with_no_seed_in_common_have_no_difference():
    _, tas = entries_of(levels(0.2, None, None), levels(None, 0.5, 0.9))
    assert tas["accuracy_difference"] == Estimate(None)
    assert tas["targets"]["0.8"]["completions_ratio"] == Estimate(None)


def test_the_baseline_has_no_difference_to_itself():
    grpo, tas = entries_of(levels(0.2, 0.4), levels(0.3, 0.4))
    assert "accuracy_difference" not in grpo
    assert "completions_ratio" not in grpo["targets"]["0.8"]
    assert "accuracy_difference" in tas


def test_without_a_baseline_there_are_no_differences():
    sweep = TWO_ARMS | {"baseline": None}
    assert not any("accuracy_difference" in entry for entry in entries_of(levels(0.2), levels(0.3), sweep))


def test_a_baseline_is_taken_at_each_place_of_the_other_axes():
    sweep = a_sweep("model.advantage=GRPO,TAS", "regime:config=a.yaml,b.yaml", "seed_everything=0", baseline=GRPO)
    heights = {("GRPO", "a"): 0.1, ("GRPO", "b"): 0.5, ("TAS", "a"): 0.3, ("TAS", "b"): 0.6}
    entries = summarize(
        sweep, [a_record(level(y), advantage=arm, regime=where, seed="0") for (arm, where), y in heights.items()]
    )
    differences = {
        tuple(e["point"].values()): e["accuracy_difference"].mean for e in entries if "accuracy_difference" in e
    }
    assert differences == {("TAS", "a"): pytest.approx(0.2), ("TAS", "b"): pytest.approx(0.1)}


def test_repeats_are_all_combinations_of_what_means_are_over():
    sweep = a_sweep("model.advantage=GRPO,TAS", "start:p=x,y", "seed_everything=0,1", over=("start", "seed"))
    records = [
        a_record(level(0.5), advantage="GRPO", start=start, seed=seed) for start in ("x", "y") for seed in ("0", "1")
    ]
    (row,) = rows_of(sweep, records[:3])
    assert (row.point, len(row.records), row.num) == (GRPO, 3, 4)
    (entry,) = summarize(sweep | {"baseline": GRPO}, records)
    assert (entry["runs"], entry["of"]) == (4, 4)


def test_a_run_that_never_reaches_counts_with_all_it_was_given():
    ramp = a_result([[0, 0.0], [100, 1.0]])  # reaches 0.8 at 80
    grpo, tas = entries_of([level(0.5), ramp, ramp], [ramp, ramp, ramp])
    to = grpo["targets"]["0.8"]
    assert to["reached"] == 2
    assert to["completions"].mean == pytest.approx(260 / 3, abs=1e-6)  # (100 + 80 + 80) / 3: a lower bound
    assert tas["targets"]["0.8"]["reached"] == 3


def test_a_ratio_is_of_means_and_not_a_mean_of_ratios():
    def ramp(end):
        return a_result([[0, 0.0], [end, 1.0]])

    # To 0.8: 80, 160 and 8, 800. Of means: 808 / 240 = 3.367; mean of ratios: (0.1 + 5) / 2 = 2.55.
    _, tas = entries_of([ramp(100), ramp(200)], [ramp(10), ramp(1000)])
    ratio = tas["targets"]["0.8"]["completions_ratio"]
    assert ratio.mean == pytest.approx(808 / 240, abs=1e-6)
    assert ratio.interval == pytest.approx((0.1, 5.0))  # both draws from one seed: 8 / 80 and 800 / 160


def test_seconds_have_targets_of_their_own():
    run = a_result([[0, 0.0], [100, 1.0]], seconds=[0.0, 20.0])
    assert to_target(run, 0.8, "completions") == (pytest.approx(80), True)
    assert to_target(run, 0.8, "seconds") == (pytest.approx(16), True)
    assert to_target(level(0.5), 0.8, "completions") == (100, False)
    assert to_target(level(0.9), 0.8, "completions") == (0, True)


def test_an_interval_leaves_out_what_lies_beyond_its_ends():
    assert leaves_out((0.1, 0.2), 0.0)
    assert leaves_out((-0.2, -0.1), 0.0)
    assert not leaves_out((-0.1, 0.2), 0.0)
    assert not leaves_out((0.0, 0.2), 0.0)  # an end belongs to it
    assert not leaves_out(None, 0.0)


def test_only_finished_runs_count():
    records = by_seed(GRPO, levels(0.2, 0.4))
    records.append(a_record(level(0.9), status="failed", **GRPO, seed="2"))
    (entry,) = summarize(TWO_ARMS, records)
    assert (entry["runs"], entry["accuracy"].mean) == (2, pytest.approx(0.3))


def test_a_row_with_nothing_finished_says_so():
    (entry,) = summarize(TWO_ARMS, [a_record(None, status="failed", **GRPO, seed="0")])
    assert (entry["runs"], entry["accuracy"], entry["targets"]["0.8"]["reached"]) == (0, Estimate(None), 0)
    assert summarize(TWO_ARMS, []) == []


def test_rows_come_in_the_order_of_the_grid_and_numbers_do_not_depend_on_the_order_of_cells():
    rng = Random(0)
    records = by_seed(TAS, levels(0.3, 0.4, 0.8)) + by_seed(GRPO, levels(0.2, 0.4, 0.7))
    first = summarize(TWO_ARMS, records)
    assert [entry["point"] for entry in first] == [GRPO, TAS]
    for _ in range(3):
        rng.shuffle(records)
        assert summarize(TWO_ARMS, records) == first


def test_a_sweep_comes_back_from_its_folder(tmp_path):
    records = by_seed(GRPO, levels(0.2, 0.4, 0.6)) + by_seed(TAS, levels(0.3, None, None))
    folder = write_sweep(tmp_path / "s", TWO_ARMS, records)
    sweep = read_sweep(folder)
    assert summarize(sweep, read_cells(folder, sweep["cells"])) == summarize(TWO_ARMS, records)


def test_a_cell_that_is_no_longer_in_the_grid_is_left_out(tmp_path):
    folder = write_sweep(tmp_path / "s", TWO_ARMS, [a_record(level(0.2), advantage="OLD", seed="0")])
    assert read_cells(folder, read_sweep(folder)["cells"]) == []


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is no sweep: there is no sweep\.json"):
        read_sweep(tmp_path)


def test_entries_can_be_written_as_json():
    from dataclasses import asdict

    text = json.dumps(entries_of(levels(0.2, 0.4), levels(0.3, 0.4)), default=asdict)
    assert json.loads(text)[0]["accuracy"]["mean"] == pytest.approx(0.3)


@pytest.mark.parametrize("num", [2, 5])
def test_intervals_are_those_of_a_plain_bootstrap(num):
    """Percentiles of means of draws with replacement, drawn one by one; 10,000 draws lie within 0.01 of it."""
    rng = Random(1)
    heights = [0.1 * i for i in range(num)]
    means = sorted(sum(rng.choices(heights, k=num)) / num for _ in range(20_000))
    sweep = a_sweep("model.advantage=GRPO", f"seed_everything={','.join(map(str, range(num)))}")
    (entry,) = summarize(sweep, by_seed(GRPO, levels(*heights)))
    assert entry["accuracy"].interval == pytest.approx((means[500], means[-500]), abs=0.021)
