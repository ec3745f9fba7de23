import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.errors import ConfigError
from avatar.rewards import REWARDS, SelfConsistency
from avatar.types import Completion, Prompt


class Unread(str):
    """A gold answer that nobody may look at."""

    __slots__ = ()

    def _refuse(self, *args):
        raise AssertionError("the gold answer was read")

    __eq__ = __len__ = __iter__ = __contains__ = __str__ = __format__ = __getitem__ = _refuse
    __hash__ = split = lower = strip = encode = replace = startswith = _refuse


COUNT = Prompt("count", [], (), Unread("3"), "number")
COLOUR = Prompt("colour", [], (), Unread("B"), "choice", ("red", "green", "blue"))
TYPES = {kind: dataclasses.replace(COUNT, key=kind, problem_type=kind) for kind in ("exact", "ocr", "free", "location")}


def written(text, finished=True):
    return Completion(torch.tensor([1]), torch.zeros(1), text, finished)


def agree(texts, prompt=COUNT, **settings):
    completions = [t if isinstance(t, Completion) else written(t) for t in texts]
    scored = SelfConsistency(**settings)([prompt], completions, torch.zeros(len(texts), dtype=torch.long))
    assert scored.valid.all()
    assert scored.rewards.dtype == torch.float32
    return scored.rewards.tolist()


def test_the_answer_of_most_is_taken_for_the_truth():
    assert agree(["3", "4", "3", "5", "3"]) == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert agree(["3", "4", "3"]) == [1.0, 0.0, 1.0]


def test_most_may_be_fewer_than_half():
    assert agree(["1", "2", "2", "3", "4"]) == [0.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("texts", [["3", "4"], ["3", "3", "4", "4"], ["3", "3", "4", "4", "5"], ["1", "2", "3"], ["3"]])
def test_a_tie_for_the_first_place_or_nobody_agreeing_gives_nobody_anything(texts):
    assert agree(texts) == [0.0] * len(texts)


def test_a_tie_for_the_second_place_changes_nothing():
    assert agree(["3", "3", "4", "5"]) == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(("min_votes", "wanted"), [(1, 1.0), (2, 1.0), (3, 1.0), (4, 0.0)])
def test_so_many_must_agree(min_votes, wanted):
    assert agree(["3", "3", "3", "4"], min_votes=min_votes) == [wanted] * 3 + [0.0]
    assert agree(["7"], min_votes=min_votes) == [float(min_votes == 1)]


def test_as_many_as_there_must_be_is_asked_for_sensibly():
    with pytest.raises(ConfigError, match="min_votes must be at least 1, got 0"):
        SelfConsistency(min_votes=0)


def test_an_answer_that_cannot_be_read_neither_votes_nor_earns():
    none = ["", "no idea", "<think>3</think>", "<answer></answer>", "<answer>4</answer><answer>5</answer>"]
    assert agree([*none, "3", "3"]) == [0.0] * 5 + [1.0, 1.0]
    assert agree(none) == [0.0] * 5  # five of a kind, and no answer


def test_what_was_cut_off_does_not_vote_but_may_agree():
    cut = written("<answer>4</answer> and", finished=False)
    assert agree([cut, cut, cut, "3", "3", "4"]) == [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    assert agree([written("<answer>3</answer> so", finished=False), "3", "3"]) == [1.0, 1.0, 1.0]
    assert agree([cut, "4"]) == [0.0, 0.0]  # one vote


def test_numbers_are_one_vote_when_they_are_equal():
    assert agree(["3", "3.0", "three", "There are 3.", "3.001"]) == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert agree(["0", "-0", "1"]) == [1.0, 1.0, 0.0]


def test_options_are_one_vote_by_letter_or_by_text():
    assert agree(["B", "green", "(b)", "A", "red"], COLOUR) == [1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", ["exact", "ocr", "free"])
def test_texts_are_one_vote_but_for_capitals_blanks_and_a_full_stop(kind):
    assert agree(["A dog.", "a  DOG", "the dog", "dog"], TYPES[kind]) == [1.0, 1.0, 0.0, 0.0]


def test_places_are_one_vote_in_any_order():
    texts = ["Left: a | Right: b", "right: B | left: a", "Left: b | Right: a", "a"]
    assert agree(texts, TYPES["location"]) == [1.0, 1.0, 0.0, 0.0]


def test_each_group_of_whatever_size_votes_by_itself():
    prompts = [COUNT, COLOUR, dataclasses.replace(COUNT, key="again")]
    rows = [
        ("3", 0),
        ("B", 1),
        ("5", 2),
        ("3", 0),
        ("A", 1),
        ("5", 2),
        ("4", 0),
        ("5", 2),
        ("5", 0),
        ("5", 0),
        ("5", 2),
    ]
    scored = SelfConsistency()(prompts, [written(t) for t, _ in rows], torch.tensor([g for _, g in rows]))
    # group 0: 3 3 4 5 5, a tie; group 1: B A, a tie; group 2: 5 5 5 5
    assert [r for r, (_, g) in zip(scored.rewards.tolist(), rows, strict=True) if g == 2] == [1.0] * 4
    assert scored.rewards.sum() == 4.0


def by_hand(texts, group, finished):
    rewards = []
    for text, g in zip(texts, group, strict=True):
        votes = [t for t, h, f in zip(texts, group, finished, strict=True) if h == g and f and t]
        counts = sorted((votes.count(v) for v in set(votes)), reverse=True)
        first = bool(counts) and counts[0] >= 2 and counts.count(counts[0]) == 1
        rewards.append(float(bool(text) and first and votes.count(text) == counts[0]))
    return rewards


rows = st.lists(st.tuples(st.sampled_from(["1", "2", "3", ""]), st.integers(0, 2), st.booleans()), max_size=14)


@given(rows, st.data())
@settings(max_examples=200, deadline=None)
def test_the_order_within_a_batch_says_nothing(rows, data):
    prompts = [dataclasses.replace(COUNT, key=str(i)) for i in range(3)]

    def rewards_of(rows):
        completions = [written(t, f) for t, _, f in rows]
        return SelfConsistency()(prompts, completions, torch.tensor([g for _, g, _ in rows])).rewards.tolist()

    straight, order = rewards_of(rows), data.draw(st.permutations(range(len(rows))))
    assert rewards_of([rows[i] for i in order]) == [straight[i] for i in order]
    assert straight == by_hand(*zip(*rows, strict=True)) if rows else straight == []


def test_it_is_known_by_its_name_and_counts_as_earned():
    assert REWARDS["SelfConsistency"] is SelfConsistency
    assert SelfConsistency().name == "selfconsistency"
    assert SelfConsistency.earns


def test_the_guard_of_the_gold_answer_would_catch_a_look():
    with pytest.raises(AssertionError, match="was read"):
        f"<answer>{COUNT.answer}</answer>"
