from itertools import accumulate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avatar.replay.sumtree import SumTree

SLOTS = st.integers(0, 40)


def tree_of(weights):
    tree = SumTree()
    for slot, weight in enumerate(weights):
        tree[slot] = weight
    return tree


@given(st.lists(st.tuples(SLOTS, st.integers(0, 9)), max_size=60), st.integers(0, 400))
@settings(max_examples=200, deadline=None)
def test_it_sums_and_finds_like_a_list(writes, amount):
    # Whole weights, so that all sums are exact and the slot is the first whose running sum is above the amount.
    tree, model = SumTree(), [0] * 41
    for slot, weight in writes:
        tree[slot], model[slot] = weight, weight
        assert tree.total == sum(model)
    assert [tree[slot] for slot in range(41)] == model
    if amount < sum(model):
        assert tree.find(amount) == next(i for i, end in enumerate(accumulate(model)) if amount < end)


@given(
    st.lists(st.just(0.0) | st.floats(1e-280, 1e280), min_size=1, max_size=40).filter(any),
    st.floats(0, 1) | st.sampled_from([0.0, 1.0, 1 - 2**-53]),
)
@example([1.0, 0.0], 1.0)
@example([0.1] * 3 + [0.0], 1.0)
@example([0.0, 1e280, 1e-280, 0.0], 1.0)
@settings(max_examples=300, deadline=None)
def test_a_weight_of_zero_is_never_found_whatever_the_rounding(weights, share):
    tree = tree_of(weights)
    assert weights[tree.find(share * tree.total)] > 0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_total_is_exactly_zero_again_when_all_weights_are(weights, rng):
    tree, order = tree_of(weights), list(range(len(weights)))
    rng.shuffle(order)
    for slot in order:
        tree[slot] = 0.0
    assert tree.total == 0.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.integers(0, 39), st.floats(0, 1e6))
@settings(max_examples=100, deadline=None)
def test_sums_depend_on_the_weights_alone_and_not_on_what_was_there_before(weights, slot, other):
    slot %= len(weights)
    tree = tree_of(weights)
    tree[slot] = other
    tree[slot] = weights[slot]
    assert tree.total == tree_of(weights).total


def test_it_grows_to_any_slot_and_keeps_what_it_holds():
    tree = tree_of([3.0])
    tree[1000] = 2.0
    assert (tree[0], tree[1000], tree.total) == (3.0, 2.0, 5.0)
    assert [tree.find(amount) for amount in (0.0, 2.9, 3.0, 4.9)] == [0, 0, 1000, 1000]


def test_a_slot_never_written_weighs_nothing():
    assert SumTree()[7] == 0.0


@pytest.mark.parametrize("weights", [[], [0.0], [0.0] * 5])
def test_there_is_nothing_to_find_among_zeros(weights):
    with pytest.raises(ValueError, match="all weights are 0"):
        tree_of(weights).find(0.0)
