import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.errors import ConfigError
from avatar.rewards import Accuracy, Format, Reward, Scored, SelfConsistency, Weighted, rehearse, score
from avatar.types import Completion, Prompt

PROMPTS = [Prompt("a", [], (), "3", "number"), Prompt("b", [], (), "B", "choice", ("red", "green"))]
numbers = st.floats(-10, 10, width=32)


class Table(Reward):
    """Gives what it was told to."""

    def __init__(self, rewards, valid=None, weight=1.0, label=None, parts=None, earns=True):
        super().__init__(weight, label)
        self.parts, self.earns = parts or {}, earns
        self.rewards = torch.as_tensor(rewards)
        self.valid = torch.ones(len(rewards), dtype=torch.bool) if valid is None else torch.as_tensor(valid)

    def __call__(self, prompts, completions, group):
        return Scored(self.rewards, self.valid, self.parts)


class Other(Table):
    """Same under another name."""


class Third(Table):
    """And another."""


def written(num, text=""):
    return [Completion(torch.tensor([1]), torch.zeros(1), text, True) for _ in range(num)]


def total(*rewards, num=3):
    return score(rewards, PROMPTS, written(num), torch.arange(num) % 2)


def test_the_total_is_the_weighted_sum():
    scored = total(Table([1.0, 0.0, 1.0], weight=0.5), Other([0.0, 1.0, 0.2], weight=2.0))
    torch.testing.assert_close(scored.rewards, torch.tensor([0.5, 2.0, 0.9]))  # the last: 0.5 * 1 + 2 * 0.2
    assert scored.valid.tolist() == [True, True, True]


def test_one_reward_of_weight_one_is_itself():
    assert total(Table([1.0, -2.0, 0.5])).rewards.tolist() == [1.0, -2.0, 0.5]


def test_a_reward_of_weight_zero_is_shown_but_neither_counts_nor_makes_anything_invalid():
    scored = total(Table([1.0, 2.0]), Other([5.0, 7.0], [True, False], weight=0.0), num=2)
    assert scored.rewards.tolist() == [1.0, 2.0]
    assert scored.valid.tolist() == [True, True]
    assert scored.parts["other"][0] == 5.0
    assert scored.parts["other"][1].isnan()


def test_the_parts_are_by_name_without_their_weights():
    rewards = [Table([1.0, 0.0], weight=0.5), Other([3.0, 4.0], weight=-2.0)]
    assert {k: v.tolist() for k, v in total(*rewards, num=2).parts.items()} == {
        "table": [1.0, 0.0],
        "other": [3.0, 4.0],
    }


def test_a_completion_is_valid_where_every_reward_could_be_given():
    scored = total(Table([1.0, 1.0, 1.0], [True, False, True]), Other([1.0, 1.0, 1.0], [True, True, False]))
    assert scored.valid.tolist() == [True, False, False]
    assert scored.rewards[0] == 2.0


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 1e30])
def test_what_stands_where_a_reward_could_not_be_given_does_not_reach_the_total(junk):
    scored = total(Table([1.0, junk, 3.0], [True, False, True]), Other([0.5, 0.25, 0.5]))
    assert scored.rewards.tolist() == [1.5, 0.25, 3.5]  # 0 + 0.25 in the middle
    assert scored.valid.tolist() == [True, False, True]


@given(
    st.integers(0, 4).flatmap(
        lambda num: st.tuples(
            st.lists(st.lists(numbers, min_size=num, max_size=num), min_size=3, max_size=3),
            st.lists(st.lists(st.booleans(), min_size=num, max_size=num), min_size=3, max_size=3),
        )
    ),
    st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0, -1.0]), min_size=3, max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_the_total_is_that_of_a_plain_loop_over_completions(table, weights):
    values, valid = table
    num = len(values[0])
    kinds = (Table, Other, Third)
    rewards = [
        kind(torch.tensor(r), torch.tensor(v, dtype=torch.bool), w)
        for kind, r, v, w in zip(kinds, values, valid, weights, strict=True)
    ]
    scored = total(*rewards, num=num)
    for i in range(num):
        expected = sum(w * r[i] for r, v, w in zip(values, valid, weights, strict=True) if v[i])
        assert scored.rewards[i].item() == pytest.approx(expected, abs=1e-5)
        assert scored.valid[i].item() == all(v[i] for v, w in zip(valid, weights, strict=True) if w)
    torch.testing.assert_close(total(*reversed(rewards), num=num).rewards, scored.rewards)


def test_every_reward_sees_the_whole_batch_with_its_groups():
    seen = []

    class Watching(Table):
        def __call__(self, prompts, completions, group):
            seen.append((prompts, completions, group))
            return super().__call__(prompts, completions, group)

    completions, group = written(3), torch.tensor([1, 0, 1])
    score([Watching([0.0, 0.0, 0.0])], PROMPTS, completions, group)
    assert seen == [(PROMPTS, completions, group)]


@pytest.mark.parametrize("rewards", [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [[1.0], [2.0], [3.0]], []])
def test_another_number_of_rewards_than_completions_is_refused(rewards):
    with pytest.raises(ConfigError, match=r"reward 'table' must return \[N\] rewards and \[N\] valid for N = 3, got"):
        total(Table(torch.tensor(rewards), [True, True, True]))


@pytest.mark.parametrize("valid", [[True], [True] * 4, [[True]] * 3])
def test_another_number_of_valid_marks_than_completions_is_refused(valid):
    with pytest.raises(ConfigError, match=r"reward 'table' must return \[N\] rewards and \[N\] valid for N = 3, got"):
        total(Table([1.0, 2.0, 3.0], valid))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_valid_reward_that_is_not_finite_is_refused_with_the_way_out(bad):
    with pytest.raises(ConfigError, match="reward 'table' gave a NaN or an infinity; mark the completion as not valid"):
        total(Other([1.0, 1.0, 1.0]), Table([0.0, bad, 1.0]))


def test_two_rewards_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two rewards are called 'table'"):
        total(Table([1.0, 1.0, 1.0]), Other([1.0, 1.0, 1.0]), Table([2.0, 2.0, 2.0]))


def test_two_rewards_whose_names_differ_in_capitals_alone_are_refused():
    shouting = type("TABLE", (Table,), {})
    with pytest.raises(ConfigError, match="two rewards are called 'table'"):
        total(Table([1.0, 1.0, 1.0]), shouting([1.0, 1.0, 1.0]))


def test_no_completions_get_an_empty_total():
    scored = total(Table(torch.zeros(0)), num=0)
    assert scored.rewards.shape == scored.valid.shape == (0,)


def test_without_rewards_every_completion_gets_nothing():
    assert total().rewards.tolist() == [0.0, 0.0, 0.0]


def test_a_batch_without_any_valid_reward_is_all_invalid():
    scored = total(Table([math.nan] * 3, [False] * 3))
    assert scored.rewards.tolist() == [0.0, 0.0, 0.0]
    assert scored.valid.tolist() == [False, False, False]


def test_a_label_lets_two_rewards_of_one_class_in():
    scored = total(Table([1.0, 2.0], label="first"), Table([3.0, 5.0], weight=2.0, label="second-2"), num=2)
    assert list(scored.parts) == ["first", "second-2"]
    assert scored.rewards.tolist() == [7.0, 12.0]  # 1 + 2 * 3, 2 + 2 * 5
    with pytest.raises(ConfigError, match="two rewards are called 'same'; give one of them another name: label: same2"):
        total(Table([1.0], label="same"), Other([1.0], label="same"), num=1)
    with pytest.raises(ConfigError, match="two rewards are called 'other'"):
        total(Table([1.0], label="other"), Other([1.0]), num=1)


@pytest.mark.parametrize("label", ["", "a/b", "Two words", "ÄH", "-x", "a\n"])
def test_a_label_that_makes_no_column_is_refused(label):
    with pytest.raises(ConfigError, match="label of a reward must be small letters"):
        Table([1.0], label=label)


@pytest.mark.parametrize("name", ["mean", "std", "invalid_share"])
def test_a_reward_may_not_take_the_column_of_the_sum(name):
    with pytest.raises(ConfigError, match=f"like the column reward/{name} of the sum; give it a label"):
        total(Table([1.0], label=name), num=1)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_weight_is_a_number(weight):
    with pytest.raises(ConfigError, match="weight of a reward must be a finite number"):
        Table([1.0], weight=weight)


def test_finer_figures_stand_beside_their_reward_and_are_nan_where_it_is_not_valid():
    finer = {"sound": torch.tensor([0.25, 9.0, math.nan]), "count": torch.tensor([1, 2, 3])}
    parts = total(Table([1.0, math.nan, 0.5], [True, False, True], parts=finer), Other([1.0, 2.0, 3.0])).parts
    assert list(parts) == ["table", "table/sound", "table/count", "other"]
    wanted = {"table": [1, math.nan, 0.5], "table/sound": [0.25, math.nan, math.nan], "table/count": [1, math.nan, 3]}
    for name, values in wanted.items():
        torch.testing.assert_close(parts[name], torch.tensor(values, dtype=torch.float32), equal_nan=True)
    assert parts["other"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("part", [torch.zeros(2), torch.zeros(3, 1), torch.tensor([0.0, math.inf, 0.0])])
def test_a_finer_figure_that_fits_no_column_is_refused(part):
    with pytest.raises(ConfigError, match=r"part 'sound' of reward 'table' must be \[N\] for N = 3, finite or NaN"):
        total(Table([1.0, 1.0, 1.0], parts={"sound": part}))


def test_valid_marks_are_true_or_false():
    with pytest.raises(ConfigError, match="must return valid as bool"):
        total(Table([1.0, 1.0, 1.0], torch.ones(3)))


def test_only_what_looks_at_the_answer_counts_as_earned():
    form = Table([1.0, 1.0, 1.0, 1.0], earns=False)
    # 2 * 1 - 1 = 1, 2 * 1 - 2 = 0, an answer that could not be judged, 0 of a negative
    answer = Other([1.0, 1.0, math.nan, 0.0], [True, True, False, True], weight=2.0)
    less = Third([1.0, 2.0, 0.0, 1.0], weight=-1.0)
    assert total(form, answer, less, num=4).earned.tolist() == [True, False, False, False]
    assert total(form, num=4).earned.tolist() == [False] * 4


# -- the rehearsal -----------------------------------------------------------------------------------------------------


class Needy(Table):
    def __init__(self, **kwargs):
        super().__init__([0.0, 0.0], **kwargs)

    def check(self, prompt):
        raise ConfigError(f"no server for {prompt.key}")


def test_the_rehearsal_asks_every_leaf_what_it_needs_before_any_scores():
    with pytest.raises(ConfigError, match="no server for a"):
        rehearse([Table([1.0]), Weighted([Other([0.0, 0.0]), Needy()])], PROMPTS[0])  # Table gives one of two


def test_the_rehearsal_scores_two_empty_completions_of_one_group():
    seen = []

    class Watching(Table):
        def __call__(self, prompts, completions, group):
            seen.append((prompts, [(c.text, c.finished) for c in completions], group.tolist()))
            return super().__call__(prompts, completions, group)

    rehearse([Watching([0.0, 0.0])], PROMPTS[1])
    assert seen == [([PROMPTS[1]], [("", True), ("", True)], [0, 0])]
    rehearse([Format(), Accuracy(), SelfConsistency()], PROMPTS[0])
    with pytest.raises(ConfigError, match="for N = 2"):
        rehearse([Table([1.0])], PROMPTS[0])


def test_the_shipped_rewards_add_up_over_two_groups():
    texts = ["<think>x</think><answer>3</answer>", "3", "<think>x</think><answer>A</answer>", "no"]
    completions = [written(1, t)[0] for t in texts]
    scored = score([Format(0.5), Accuracy(0.5)], PROMPTS, completions, torch.tensor([0, 0, 1, 1]))
    assert scored.parts["format"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert scored.parts["accuracy"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert scored.rewards.tolist() == [1.0, 0.5, 0.5, 0.0]  # stage 1 of the paper: half and half


def test_an_error_in_a_reward_keeps_its_kind_and_says_whose_it_is():
    class Broken(Reward):
        def __call__(self, prompts, completions, group):
            raise KeyError("boo")

    prompt = Prompt("p", [], (), "1", "number")
    with pytest.raises(KeyError) as raised:
        score([Broken(label="mine")], [prompt], [], torch.zeros(0, dtype=torch.long))
    assert "raised by the reward 'mine'" in raised.value.__notes__[0]
    assert raised.value.__notes__[0].endswith("Broken")
