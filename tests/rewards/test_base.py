import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.errors import ConfigError
from avatar.rewards import Accuracy, Format, Reward, Scored, score
from avatar.types import Completion, Prompt

PROMPTS = [Prompt("a", [], (), "3", "number"), Prompt("b", [], (), "B", "choice", ("red", "green"))]
numbers = st.floats(-10, 10, width=32)


class Table(Reward):
    """Gives what it was told to."""

    def __init__(self, rewards, valid=None, weight=1.0):
        super().__init__(weight)
        self.rewards = torch.as_tensor(rewards)
        self.valid = torch.ones(len(rewards), dtype=torch.bool) if valid is None else torch.as_tensor(valid)

    def __call__(self, prompts, completions, group):
        return Scored(self.rewards, self.valid)


class Other(Table):
    """Same under another name."""


class Third(Table):
    """And another."""


def written(num, text=""):
    return [Completion(torch.tensor([1]), torch.zeros(1), text, True) for _ in range(num)]


def total(*rewards, num=3):
    scored, _ = score(rewards, PROMPTS, written(num), torch.arange(num) % 2)
    return scored


def test_the_total_is_the_weighted_sum():
    scored = total(Table([1.0, 0.0, 1.0], weight=0.5), Other([0.0, 1.0, 0.2], weight=2.0))
    torch.testing.assert_close(scored.rewards, torch.tensor([0.5, 2.0, 0.9]))  # the last: 0.5 * 1 + 2 * 0.2
    assert scored.valid.tolist() == [True, True, True]


def test_one_reward_of_weight_one_is_itself():
    assert total(Table([1.0, -2.0, 0.5])).rewards.tolist() == [1.0, -2.0, 0.5]


def test_a_reward_of_weight_zero_is_shown_but_does_not_count():
    scored, parts = score([Table([1.0, 2.0]), Other([5.0, 7.0], weight=0.0)], PROMPTS, written(2), torch.tensor([0, 1]))
    assert scored.rewards.tolist() == [1.0, 2.0]
    assert parts["other"].tolist() == [5.0, 7.0]


def test_the_parts_are_by_name_without_their_weights():
    rewards = [Table([1.0, 0.0], weight=0.5), Other([3.0, 4.0], weight=-2.0)]
    _, parts = score(rewards, PROMPTS, written(2), torch.tensor([0, 1]))
    assert {k: v.tolist() for k, v in parts.items()} == {"table": [1.0, 0.0], "other": [3.0, 4.0]}


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
        assert scored.valid[i].item() == all(v[i] for v in valid)
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


def test_the_shipped_rewards_add_up_over_two_groups():
    texts = ["<think>x</think><answer>3</answer>", "3", "<think>x</think><answer>A</answer>", "no"]
    completions = [written(1, t)[0] for t in texts]
    scored, parts = score([Format(0.5), Accuracy(0.5)], PROMPTS, completions, torch.tensor([0, 0, 1, 1]))
    assert parts["format"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert parts["accuracy"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert scored.rewards.tolist() == [1.0, 0.5, 0.5, 0.0]  # stage 1 of the paper: half and half
