"""Each figure over runs whose numbers are known, and what holds for all of them."""

import itertools
import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report.folders import accuracy, shaped, write_cell, write_plan, write_run, write_sweep

from avatar.report.arms import group_runs
from avatar.report.figures import FIGURES
from avatar.report.find import find_runs
from avatar.report.look import LOOKS, MOST_ARMS, style
from avatar.report.runs import read_run

DRAW = {kind.name: kind.draw for kind in FIGURES}


def load(*paths, baseline=None):
    return group_runs([read_run(place) for place in find_runs(paths)], baseline)


def drawn(name, runs):
    with style():
        return DRAW[name](runs)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """GRPO with 4 and with 8, and AVATAR, of two seeds each."""
    return load(write_sweep(tmp_path_factory.mktemp("three")))


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """Ten arms with long names, of two seeds each, that differ in all that can be drawn."""
    arms = {
        f"arm number {i}": {
            "replayed": 1 + i % 3, "top": 0.6 + 0.04 * i, "shift": i, "steps": 20, "advantage": shaped(0.1 * i)
        }
        for i in range(10)
    }  # fmt: skip
    return load(write_sweep(tmp_path_factory.mktemp("ten"), arms, baseline="arm number 0"))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One run without replay."""
    return load(write_run(tmp_path_factory.mktemp("one") / "grpo"))


# -- all ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FIGURES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("which", ["three", pytest.param("ten", marks=pytest.mark.slow)])
def test_no_words_lie_over_others_or_beyond_the_edge(kind, which, request):
    with style():
        figure = kind.draw(request.getfixturevalue(which))
        if figure is None:  # these arms share one strength
            assert kind.name == "strength"
            return
        canvas = FigureCanvasAgg(figure.picture)
        canvas.draw()
        boxes = [(text, text.get_window_extent(canvas.get_renderer())) for text in words(figure.picture)]
    assert len(boxes) > 5
    for text, box in boxes:
        assert box.x0 > -1, text
        assert box.y0 > -1, text
        assert box.x1 < canvas.get_width_height()[0] + 1, text
        assert box.y1 < canvas.get_width_height()[1] + 1, text
    level = [(text, box.padded(-0.5)) for text, box in boxes if not text.get_rotation() % 90]
    for (a, box), (b, other) in itertools.combinations(level, 2):
        assert not box.overlaps(other), f"{a} lies over {b}"


def words(picture):
    """All that is to be read; ticks beyond the ends of an axis exist and are not drawn."""
    texts = [*picture.texts, *(text for legend in picture.legends for text in legend.get_texts())]
    for axes in picture.axes:
        if not axes.axison:
            continue
        texts += [*axes.texts, axes.title]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [
                tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible()
            ]
            texts += [axis.label, *(tick.label1 for tick in ticks)]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("kind", FIGURES, ids=lambda kind: kind.name)
def test_every_figure_says_what_it_shows_of_how_many_runs_and_is_json(kind, three, ten):
    figure = drawn(kind.name, three) or drawn(kind.name, ten)
    assert len(figure.caption) > 80
    assert figure.caption.endswith(".")
    assert any(word in figure.caption for word in ("runs", "all runs"))
    assert figure.alt.endswith(".")
    json.dumps(figure.numbers, allow_nan=False)


@pytest.mark.parametrize("kind", FIGURES, ids=lambda kind: kind.name)
def test_of_more_arms_than_fit_the_first_are_drawn_and_all_are_told(kind, ten):
    figure = drawn(kind.name, ten)
    if kind.name in ("strength", "ratio"):  # a line an estimator or a label, and not an arm
        return
    assert f"the first {MOST_ARMS} are drawn; report.json has all." in figure.caption
    assert "arm number 9" in json.dumps(figure.numbers) or kind.name == "credit"


def test_a_lone_run_without_replay_leaves_out_what_it_cannot_show(one):
    left = [kind.name for kind in FIGURES if drawn(kind.name, one) is None]
    assert left == ["credit", "lengths", "ratio", "strength", "tiers", "staleness", "samples"]
    assert "Every arm is one run" in drawn("accuracy", one).caption


def test_looks_differ_without_colour():
    assert len({(look.line, look.marker) for look in LOOKS}) == len({look.hatch for look in LOOKS}) == MOST_ARMS


def test_an_arm_looks_the_same_in_every_figure(three):
    lines = drawn("accuracy", three).picture.axes[0].get_lines()
    by_label = {line.get_label(): line.get_color() for line in lines}
    (ess,) = drawn("samples", three).picture.axes[0].get_lines()
    assert (ess.get_label(), ess.get_color()) == ("avatar", by_label["avatar"])


# -- each --------------------------------------------------------------------------------------------------------------


def test_accuracy_is_a_mean_over_seeds_at_completions_generated(three):
    arms = drawn("accuracy", three).numbers["arms"]
    assert arms["grpo4"]["x"] == arms["grpo8"]["x"] == [0, 40, 80, 120, 160]  # twice as many in half the steps
    # tops 0.85 and 0.86, so between the two runs and, for two, the range of them
    low, high = accuracy(80, 0.85), accuracy(80, 0.86)
    assert arms["grpo4"]["mean"][2] == pytest.approx((low + high) / 2, abs=1e-5)
    assert (arms["grpo4"]["low"][2], arms["grpo4"]["high"][2]) == pytest.approx((low, high), abs=1e-5)
    assert drawn("accuracy", three).numbers["mean_curve_reaches"]["avatar"] == {"0.6": 40, "0.8": 120}


def test_runs_without_validation_are_in_no_figure_of_accuracy(tmp_path):
    runs = load(write_run(tmp_path / "a", validated=False), write_run(tmp_path / "b", generations=8, validated=False))
    assert drawn("accuracy", runs) is None
    assert drawn("ratio", runs) is None
    assert drawn("seconds", runs) is not None


def test_advantages_are_counted_over_runs_and_the_share_at_zero_is_told(three):
    figure = drawn("advantages", three)
    # two seeds, two lines each, of 4 completions times 0 .. 10
    assert figure.numbers["counts"]["avatar"]["fresh"] == [2 * 2 * 4 * i for i in range(11)]
    assert figure.numbers["counts"]["avatar"]["replayed"] == figure.numbers["counts"]["avatar"]["fresh"][::-1]
    assert set(figure.numbers["counts"]["grpo4"]) == {"fresh"}
    assert figure.numbers["share_at_zero"]["avatar"]["fresh"] == pytest.approx(5 / 55, abs=1e-6)


def test_credit_is_that_of_the_shapes_that_runs_were_trained_with(three):
    numbers = drawn("credit", three).numbers
    assert numbers["length"] == 11  # 10, 11 and 12 in turn
    (weights,) = numbers["weights"].values()
    assert weights[0] == weights[-1] == pytest.approx(1.3)
    assert weights[5] == 1


def test_a_gain_is_over_the_baseline_by_length_in_the_last_quarter(tmp_path):
    # both are right in what they write of 10 + shift tokens; the baseline never writes 12 or more, so there is no gain
    runs = load(write_run(tmp_path / "base"), write_run(tmp_path / "other", shift=2))
    numbers = drawn("lengths", runs).numbers
    assert numbers["baseline"] == {"other": "base"}
    assert sum(numbers["replies"].values()) == 2 * 10 * 4  # runs x steps x completions
    gain = dict(zip(numbers["bins"], numbers["gain"]["other"]["mean"], strict=True))
    # base writes 10 to 13, right at 10; other 12 to 15, right at 12
    assert gain["12"] == 1
    assert gain["13"] == 0
    assert gain["10-11"] is None
    assert gain["14-15"] is None


def test_the_ratio_is_sorted_by_what_is_replayed_and_a_line_is_an_estimator(three):
    numbers = drawn("ratio", three).numbers
    assert {name: list(spots) for name, spots in numbers.items()} == {"GRPO": ["4:0", "8:0"], "AVATAR": ["4:4"]}
    mean, low, high = numbers["AVATAR"]["4:4"]["at the end"]
    assert (low, high) == pytest.approx((accuracy(160, 0.93), accuracy(160, 0.94)), abs=1e-5)
    assert mean == pytest.approx((low + high) / 2, abs=1e-5)
    assert numbers["GRPO"]["8:0"]["num_runs"] == 2
    assert "Runs were not of one length" not in drawn("ratio", three).caption
    assert "ratios 4:0, 8:0, 4:4," in drawn("ratio", three).alt  # along x, across estimators


def test_runs_of_other_lengths_are_told_of(tmp_path):
    runs = load(write_run(tmp_path / "a", generations=4), write_run(tmp_path / "b", generations=8))
    assert "Runs were not of one length: 160 to 320 completions." in drawn("ratio", runs).caption


def test_what_a_sweep_varies_beside_the_strength_is_a_line_of_its_own(tmp_path):
    write_plan(tmp_path, {"strength": ["0", "0.3"], "lr": ["1e-4", "2e-4"], "seed": ["0"]})
    for strength in ("0", "0.3"):
        for lr in ("1e-4", "2e-4"):
            point = {"strength": strength, "lr": lr, "seed": "0"}
            write_cell(tmp_path, point, advantage=shaped(float(strength)), replayed=4, steps=10)
    numbers = drawn("strength", load(tmp_path)).numbers
    assert {name: list(spots) for name, spots in numbers.items()} == {
        "AVATAR, lr 1e-4": ["0", "0.3"],
        "AVATAR, lr 2e-4": ["0", "0.3"],
    }


def test_tiers_are_counted_in_completions(three):
    tiers = drawn("tiers", three).numbers["avatar"]
    # at step 40 each tier is at 0.4 of its quota: 0.4, 0.35 and 0.25 of 1,000
    assert {tier: band["mean"][-1] for tier, band in tiers.items()} == pytest.approx(
        {"hard": 160, "medium": 140, "easy": 100}
    )
    assert set(drawn("tiers", three).numbers) == {"avatar"}


def test_staleness_is_of_what_was_replayed(three):
    numbers = drawn("staleness", three).numbers
    assert list(numbers["counts"]) == ["avatar"]
    assert numbers["shares"]["avatar"] == pytest.approx([1 / 9] * 9, abs=1e-6)


def test_samples_are_of_replayed_tokens_where_there_are_some(three):
    numbers = drawn("samples", three).numbers
    assert numbers["of"] == "replayed"
    assert list(numbers["arms"]) == ["avatar"]
    # the last of 20 means is of 1 - 0.01 step for steps 21 to 40
    assert numbers["arms"]["avatar"]["mean"][-1] == pytest.approx(1 - 0.01 * np.mean(range(21, 41)))


def test_samples_are_of_fresh_tokens_where_they_are_trained_on_again(tmp_path):
    folder = write_run(tmp_path / "again")
    text = (folder / "metrics.csv").read_text().splitlines()
    place = text[0].split(",").index("ess/fresh")
    rows = [line.split(",") for line in text[1:]]
    lines = [",".join([*row[:place], "0.5" if row[place] else "", *row[place + 1 :]]) for row in rows]
    (folder / "metrics.csv").write_text("\n".join([text[0], *lines]) + "\n")
    assert drawn("samples", load(folder)).numbers["of"] == "fresh"


def test_seconds_stack_to_a_step(three):
    numbers = drawn("seconds", three).numbers
    # 0.01 to 0.07 s by phase; the fourth, replay, in one arm alone
    assert sum(numbers["avatar"].values()) == pytest.approx(0.28)
    assert sum(numbers["grpo4"].values()) == pytest.approx(0.24)
