import json
import random
from dataclasses import replace

import pytest
import torch
from tests_graded import Macro, Once, Plain, replies, reply

from avatar.benchmarks.figures.summary import summarize


def width(graded, benchmark=Plain):
    low, high = summarize(benchmark(), graded, "avatar")["interval"]
    return high - low


def test_figures_overall_and_by_group_are_those_computed_by_hand():
    graded = [
        reply("q1", 1.0, kind="b", topic=("x", "y")),
        reply("q2", 0.0, kind="b", topic=("y",), how="lenient"),
        reply("q3", 0.5, kind="a", topic=("y", "y")),
        reply("q4", 0.0, kind="b", how="unparsed"),
    ]
    found = summarize(Plain(), graded, "avatar")
    assert found["accuracy"] == 0.375  # 1.5 / 4
    assert found["accuracy/b"] == pytest.approx(1 / 3, abs=1e-6)
    kinds, topics = found["groups"]["kind"], found["groups"]["topic"]
    assert [(name, e["score"], e["n"]) for name, e in kinds.items()] == [("b", 0.333333, 3), ("a", 0.5, 1)]
    # y: (1 + 0 + 0.5) / 3, counted once where it stands twice; q4 has no topic
    assert [(name, e["score"], e["n"]) for name, e in topics.items()] == [("y", 0.5, 3), ("x", 1.0, 1)]
    assert (found["strict_share"], found["lenient_share"], found["unparsed_share"]) == (0.5, 0.25, 0.25)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_equal_scores_have_an_interval_of_no_width():
    assert summarize(Plain(), replies([0.3] * 20), "avatar")["interval"] == [0.3, 0.3]


def test_two_clips_that_differ_span_the_interval_from_one_to_the_other():
    # of four equally likely draws one gives 0 and one 1: a quarter each, more than the 2.5 % left out at each end
    assert summarize(Plain(), replies([0.0, 1.0]), "avatar")["interval"] == [0.0, 1.0]


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    chance, held = random.Random(0), 0
    for trial in range(200):
        graded = replies([float(chance.random() < 0.6) for _ in range(100)])
        low, high = summarize(Plain(), graded, "avatar", num_resamples=200, seed=trial)["interval"]
        held += low <= 0.6 <= high
    assert 0.90 <= held / 200 <= 0.99  # 0.95 expected, deviation 0.015


def test_questions_about_one_clip_that_fare_alike_widen_the_interval():
    chance = random.Random(0)
    clips = [float(chance.random() < 0.5) for _ in range(80)]
    together = [reply(f"{c}-{i}", score, clip=f"c{c}") for c, score in enumerate(clips) for i in range(5)]
    apart = [reply(f"{c}-{i}", score) for c, score in enumerate(clips) for i in range(5)]
    assert width(together) / width(apart) == pytest.approx(5**0.5, rel=0.1)  # 80 independent draws, not 400


@pytest.mark.parametrize("benchmark", [Plain, Macro, Once])
def test_the_order_of_replies_makes_no_difference(benchmark):
    chance = random.Random(1)
    graded = [
        reply(
            f"q{i}", float(i % 3 == 0), f"c{i // 4}", f"k{i % 5}", (f"t{i % 2}",), qtype=f"y{i % 3}", ident=f"{i // 2}"
        )
        for i in range(60)
    ]
    shuffled = chance.sample(graded, len(graded))
    assert shuffled != graded
    first, second = (summarize(benchmark(), one, "avatar") for one in (graded, shuffled))
    assert json.dumps(first) == json.dumps(second)


def test_a_macro_figure_and_its_interval_are_the_benchmarks_own():
    graded = [*replies([1.0] * 6, qtype="easy"), reply("h1", 0.0, qtype="hard"), reply("h2", 0.0, qtype="hard")]
    found = summarize(Macro(), graded, "avatar")
    assert found["accuracy"] == 0.5  # (1 + 0) / 2, and not 6 / 8
    # In a tenth of the draws ((6/8)^8) no hard question is drawn: that type is left out, and the figure is 1.
    assert found["interval"] == [0.5, 1.0]


def test_what_depends_on_other_replies_is_settled_first_by_the_numbers_in_keys():
    graded = [reply("q10", 0.0, ident="same"), reply("q9", 1.0, ident="same"), reply("q11", 0.0, ident="other")]
    found = summarize(Once(), graded, "avatar")
    assert found["accuracy"] == 0.5  # q9 and q11; q10 comes second and does not count
    assert (found["num_scored"], found["num_uncounted"], found["figures"]) == (2, 1, {"right": 1.0})


def test_every_question_is_scored_uncounted_or_not_judged_and_a_missing_one_is_scored():
    graded = [
        reply("q1", 1.0),
        reply("q2", 0.0, how="missing"),
        reply("q3", None),
        reply("q4", 1.0, counted=False, how="unparsed"),
        reply("q5", None, counted=False),
    ]
    found = summarize(Plain(), graded, "avatar")
    assert found["accuracy"] == 0.5  # q1 and q2
    names = ("num_questions", "num_scored", "num_uncounted", "num_not_judged", "num_missing")
    assert [found[name] for name in names] == [5, 2, 2, 1, 1]
    assert (found["strict_share"], found["unparsed_share"]) == (0.75, 0.25)  # of the four that replied
    assert found["groups"]["kind"]["a"]["n"] == 2


def test_without_a_scored_reply_there_is_no_accuracy_and_nothing_that_is_no_number():
    for graded in ([], [reply("q1", None)]):
        found = summarize(Plain(), graded, "avatar")
        assert not {"accuracy", "interval"} & set(found)
        assert (found["groups"], found["figures"], found["num_scored"]) == ({}, {}, 0)
    assert "unparsed_share" not in summarize(Plain(), [], "avatar")


def test_one_clip_alone_has_no_interval():
    graded = [reply(f"q{i}", float(i), clip="one") for i in range(2)]
    found = summarize(Plain(), graded, "avatar")
    assert (found["accuracy"], found["interval"]) == (0.5, None)
    assert found["groups"]["kind"]["a"] == {"score": 0.5, "interval": None, "n": 2}


def test_the_largest_label_comes_first_and_equal_ones_by_name():
    kinds = ["b", "c10", "c9", "c9", "c10", "a", "d", "d", "d"]
    graded = [reply(f"q{i}", 1.0, kind=kind) for i, kind in enumerate(kinds)]
    assert list(summarize(Plain(), graded, "avatar")["groups"]["kind"]) == ["d", "c9", "c10", "a", "b"]


def test_the_seed_settles_the_interval():
    graded = replies([float(i % 7 < 3) for i in range(50)])
    first, again, other = (summarize(Plain(), graded, "avatar", 100, seed)["interval"] for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_the_interval_of_a_large_benchmark_is_that_of_the_normal_approximation():
    score = torch.arange(5130) % 10 < 4
    low, high = summarize(Plain(), replies(score.double().tolist()), "avatar")["interval"]
    # 0.4 +- 1.96 sqrt(0.4 * 0.6 / 5130) = 0.4 +- 0.0134
    assert (low, high) == (pytest.approx(0.3866, abs=0.001), pytest.approx(0.4134, abs=0.001))


def test_groups_that_a_benchmark_does_not_name_are_reported_after_its_own():
    graded = [replace_groups(one, place=label) for one, label in zip(replies([1.0, 0.0]), "xy", strict=True)]
    found = summarize(Plain(), graded, "avatar")
    assert list(found["groups"]) == ["kind", "place"]
    assert {label: entry["score"] for label, entry in found["groups"]["place"].items()} == {"x": 1.0, "y": 0.0}
    assert "accuracy/x" not in found  # these are of the first title of its own


def replace_groups(graded, **more):
    return replace(graded, question=replace(graded.question, groups={**graded.question.groups, **more}))


def test_a_benchmark_that_names_no_groups_is_reported_by_all_that_its_questions_have():
    class Own(Plain):
        groups = ()

    found = summarize(Own(), [reply("q1", 1.0, topic="x"), reply("q2", 0.0, kind="b")], "avatar")
    assert list(found["groups"]) == ["kind", "topic"]
    assert found["accuracy/a"] == 1.0
