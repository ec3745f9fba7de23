import json
import random

import pytest
import torch
from tests_graded import Macro, Plain, replies, reply

from avatar.benchmarks import BENCHMARKS
from avatar.benchmarks.figures.paired import compare, p_value
from avatar.benchmarks.figures.results import make_results
from avatar.benchmarks.recipe import Recipe
from avatar.errors import ConfigError


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The small benchmarks, by name."""
    len(BENCHMARKS)
    for name, cls in SMALL.items():
        monkeypatch.setitem(BENCHMARKS._entries, name, cls)


SMALL = {"plain": Plain, "macro": Macro}


def result(graded, name="plain", **facts):
    return make_results(name, SMALL[name](), graded, "avatar", **facts)


def test_a_result_does_not_differ_from_itself():
    a = result(replies([1.0, 0.0, 1.0, 0.0]))
    found = compare(a, a)
    assert (found["a"], found["b"], found["difference"], found["interval"]) == (0.5, 0.5, 0.0, [0.0, 0.0])
    assert (found["p"], found["significant"], found["warnings"]) == (1.0, False, [])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_same_clips_are_drawn_for_both():
    # B is right wherever A is, and on ten more of a hundred: each draw differs by how many of the ten are drawn,
    # binomial(100, 0.1) / 100, whose middle 95 % are 5 to 16. Unpaired it would be 10 +- 13.
    a = result(replies([float(i < 50) for i in range(100)]))
    b = result(replies([float(i < 60) for i in range(100)]))
    found = compare(a, b)
    assert (found["difference"], found["significant"]) == (0.1, True)
    assert found["interval"] == pytest.approx([0.05, 0.16], abs=0.011)
    assert found["p"] == pytest.approx(2 / 2001, abs=1e-6)  # no draw of 2000 is 0 or below


def test_the_other_way_round_everything_is_mirrored():
    chance = random.Random(0)
    a, b = (result(replies([float(chance.random() < p) for _ in range(40)])) for p in (0.4, 0.6))
    one, other = compare(a, b), compare(b, a)
    assert one["difference"] == -other["difference"]
    assert one["interval"] == pytest.approx([-end for end in reversed(other["interval"])])
    assert one["p"] == other["p"]


def test_p_counts_the_draws_on_the_rarer_side_of_zero():
    # below or at 0: 1 of 4, above or at: 3 of 4; 2 * (1 + 1) / (1 + 4); what is no number is left out
    assert p_value(torch.tensor([-1.0, 1.0, 2.0, 3.0, torch.nan])) == 0.8
    assert p_value(torch.zeros(10)) == 1.0


def test_two_that_do_not_differ_are_rarely_called_different():
    chance, wrong = random.Random(0), 0
    for trial in range(60):
        a, b = (result(replies([float(chance.random() < 0.5) for _ in range(60)])) for _ in "ab")
        wrong += compare(a, b, num_resamples=200, seed=trial)["significant"]
    assert wrong <= 8  # 3 expected, deviation 1.7


def test_the_difference_is_of_the_benchmarks_own_figure():
    def graded(hard):
        return replies([1.0] * 6, qtype="easy") + [reply(f"h{i}", s, qtype="hard") for i, s in enumerate(hard)]

    found = compare(result(graded([0.0, 0.0]), "macro"), result(graded([1.0, 0.0]), "macro"))
    assert (found["a"], found["b"], found["difference"]) == (0.5, 0.75, 0.25)  # (1 + 0.5) / 2; micro: 7 / 8


def test_what_the_rule_leaves_out_of_one_stays_in_the_other_and_what_is_not_judged_in_neither():
    a = result([reply("q1", 1.0), reply("q2", 0.0), reply("q3", 0.0, counted=False), reply("q4", 1.0)])
    b = result([reply("q1", 1.0), reply("q2", 1.0), reply("q3", 0.0), reply("q4", None)])
    found = compare(a, b)
    assert (found["a"], found["b"], found["n"]) == (0.5, pytest.approx(2 / 3, abs=1e-6), 3)  # q1 q2; q1 q2 q3
    assert found["warnings"] == ["1 question is not judged in one of them and left out"]


def test_groups_are_compared_each_for_itself_and_one_clip_is_too_few_for_an_interval():
    a = result([reply(i, float(i < 2), kind="ab"[i == 3]) for i in range(4)])
    b = result([reply(i, 1.0, kind="ab"[i == 3]) for i in range(4)])
    kinds = compare(a, b)["groups"]["kind"]
    assert {name: (e["a"], e["b"], e["n"]) for name, e in kinds.items()} == {
        "a": (0.666667, 1.0, 3),
        "b": (0.0, 1.0, 1),
    }
    assert (kinds["b"]["difference"], kinds["b"]["interval"], kinds["b"]["p"]) == (1.0, None, None)
    assert kinds["b"]["significant"] is None


def test_questions_of_one_alone_are_left_out_and_counted():
    a, b = result(replies([1.0, 0.0, 0.0])), result([*replies([1.0, 0.0]), reply("new", 1.0), reply("newer", 1.0)])
    found = compare(a, b)
    assert (found["n"], found["difference"]) == (2, 0.0)
    assert found["warnings"] == ["1 question is only in A and left out", "2 questions are only in B and left out"]


def test_another_recipe_is_told_with_what_differs():
    a = result(replies([1.0, 0.0]), recipe=Recipe(max_frames=8), stamp="aa")
    b = result(replies([1.0, 0.0]), recipe=Recipe(max_frames=16), stamp="bb")
    (warning,) = compare(a, b)["warnings"]
    assert warning.startswith("they were asked differently: max_frames 8 and 16;")
    assert compare(a, {**a, "rows": b["rows"]})["warnings"] == []


def test_two_models_asked_alike_are_not_said_to_be_asked_differently():
    a = result(replies([1.0, 0.0]), recipe=Recipe(), stamp="aa")
    b = result(replies([1.0, 1.0]), recipe=Recipe(), stamp="bb")  # the stamp hashes the weights, too
    assert compare(a, b)["warnings"] == []
    (warning,) = compare(a, {**b, "swap": "audio"})["warnings"]
    assert warning.startswith("they were asked differently: swap None and audio;")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"benchmark": "macro"}, r"A is of plain and B of macro\. Give two results of one benchmark$"),
        ({"version": 2}, "version is 1 in A and 2 in B"),
        ({"scoring": "official"}, "scoring is 'avatar' in A and 'official' in B"),
        ({"rows": result(replies([1.0], gold="B"))["rows"]}, "gold answer of 1 question.* first is 'q0'"),
        ({"rows": result([reply("else", 1.0)])["rows"]}, "A has 2 questions and B 1, and none is in both"),
        ({"rows": result(replies([1.0]))["rows"] * 2}, "B has 1 question twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(change, message):
    a = result(replies([1.0, 0.0]))
    with pytest.raises(ConfigError, match=message):
        compare(a, {**a, **change})
