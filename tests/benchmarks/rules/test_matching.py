from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.benchmarks.rules.matching import best_pairs

SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]) | st.floats(0, 1)
TABLES = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda size: st.lists(st.lists(SCORES, min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0])
)


def best_of_all(table):
    if len(table) > len(table[0]):
        table = list(zip(*table, strict=True))
    columns = range(len(table[0]))
    return max(sum(row[c] for row, c in zip(table, p, strict=True)) for p in permutations(columns, len(table)))


@given(TABLES)
def test_no_other_pairing_scores_more_and_nothing_is_used_twice(table):
    pairs = best_pairs(table)
    rows, columns = zip(*pairs, strict=True)
    assert len(set(rows)) == len(set(columns)) == len(pairs) == min(len(table), len(table[0]))
    assert sum(table[r][c] for r, c in pairs) == pytest.approx(best_of_all(table))


def test_the_largest_score_may_have_to_go():
    # 0.9 + 0.1 is less than 0.8 + 0.8
    assert best_pairs([[0.9, 0.8], [0.8, 0.1]]) == [(0, 1), (1, 0)]


def test_without_columns_nothing_is_paired():
    assert best_pairs([]) == best_pairs([[], []]) == []
