import math
import sys
import weakref
from collections import Counter
from random import Random

import pytest
import torch

from avatar.replay import TIERS, Replay, ReplayBuffer, RewardTracker

ONE_TIER = {"hard_share": 1.0, "medium_share": 0.0, "easy_share": 0.0}


def new_buffer(**arguments):
    return ReplayBuffer(Replay(**{"minimum": 0, **arguments}), RewardTracker())


def visit(buffer, key, rewards, step=0, entries=()):
    """What the training loop does after a visit, in its order."""
    buffer.tracker.record(key, rewards, step=step)
    buffer.refile([key])
    for stored in entries:
        buffer.add(stored)


def stocked(entry, num_prompts, each=1, **arguments):
    """A buffer with ``each`` completions of p000, p001, ..., whose scores rise with their numbers."""
    buffer = new_buffer(**arguments)
    for i in range(num_prompts):
        buffer.tracker.record(f"p{i:03d}", [i / num_prompts], step=i)
    for i in range(num_prompts):
        for _ in range(each):
            buffer.add(entry(f"p{i:03d}", step=i))
    return buffer


def tiers(buffer, keys):
    return [buffer.tier_of(key) for key in keys]


def keys_of(entries):
    return [e.key for e in entries]


def tier_counts(buffer, entries):
    counts = Counter(buffer.tier_of(e.key) for e in entries)
    return [counts[tier] for tier in TIERS]


# -- tiers -----------------------------------------------------------------------------------------------------------


def test_the_bottom_40_the_next_35_and_the_top_25_of_a_hundred_prompts(entry):
    buffer = stocked(entry, 100)
    assert tiers(buffer, [f"p{i:03d}" for i in range(100)]) == ["hard"] * 40 + ["medium"] * 35 + ["easy"] * 25
    assert {name: (o.entries, o.quota, o.prompts) for name, o in buffer.occupancy().items()} == {
        "hard": (40, 4000, 40), "medium": (35, 3500, 35), "easy": (25, 2500, 25),
    }  # fmt: skip


def test_an_edge_that_is_a_whole_number_of_prompts_is_met_exactly(entry):
    # 0.55 * 100 is 55.00000000000001 in floating point: rounded up as it is, the hard tier would have 56.
    buffer = stocked(entry, 100, hard_share=0.55, medium_share=0.2, easy_share=0.25)
    assert [o.prompts for o in buffer.occupancy().values()] == [55, 20, 25]


def test_the_rank_is_among_all_tracked_prompts_and_not_only_the_stored_ones(entry):
    buffer = new_buffer()
    for i in range(9):  # nine that are better and have nothing stored
        buffer.tracker.record(f"other{i}", [1.0], step=0)
    visit(buffer, "a", [0.5], entries=[entry("a")])
    visit(buffer, "b", [0.6], entries=[entry("b")])
    assert tier_counts(buffer, buffer) == [2, 0, 0]


@pytest.mark.parametrize("num", [20, 101, 400])
def test_equal_scores_still_fill_three_tiers_the_longest_not_visited_below(entry, num):
    # 0 is what most prompts of a weak model earn; were ties one tier, that tier alone would be sampled and evicted.
    buffer = new_buffer()
    keys = [f"p{i:03d}" for i in range(num)]
    for step, key in enumerate(keys):
        visit(buffer, key, [0.0] * 4, step, [entry(key, step) for _ in range(4)])
    hard, easy = math.ceil(0.4 * num), num - math.ceil(0.75 * num)
    assert tiers(buffer, keys) == ["hard"] * hard + ["medium"] * (num - hard - easy) + ["easy"] * easy
    assert [o.prompts for o in buffer.occupancy().values()] == [hard, num - hard - easy, easy]


def test_completions_move_with_their_prompt_when_its_score_moves(entry):
    buffer = stocked(entry, 20, each=2)
    assert buffer.tier_of("p000") == "hard"
    visit(buffer, "p000", [1.0] * 20, step=99)
    assert buffer.tier_of("p000") == "easy"
    assert buffer.tier_of("p008") == "hard"  # 20 prompts: eight are hard; p008 was the ninth
    assert buffer.tier_of("p015") == "medium"  # five are easy; p015 was the fifth from above
    assert [o.entries for o in buffer.occupancy().values()] == [16, 14, 10]


def test_a_prompt_without_a_score_is_hard(entry):
    buffer = stocked(entry, 20)
    buffer.tracker.record("hinted", [], [1.0], step=50)
    buffer.refile(["hinted"])
    for key in ("hinted", "never seen"):
        buffer.add(entry(key))
        assert buffer.tier_of(key) == "hard"
    assert buffer.occupancy()["hard"].entries == 8 + 2
    visit(buffer, "hinted", [1.0], step=51)  # its first reward of its own, the best of all
    assert buffer.tier_of("hinted") == "easy"
    # 21 prompts: ceil(8.4) = 9 are hard, ceil(15.75) = 16 not easy; besides, what was never seen is hard
    assert [o.prompts for o in buffer.occupancy().values()] == [10, 7, 5]


# -- eviction --------------------------------------------------------------------------------------------------------


def test_a_full_tier_loses_its_oldest_and_the_others_lose_nothing(entry):
    buffer = stocked(entry, 20, capacity=20)  # quotas 8, 7, 5, all full
    newest = entry("p007", step=20)
    buffer.add(newest)
    assert keys_of(buffer) == [f"p{i:03d}" for i in range(1, 20)][:7] + ["p007"] + [f"p{i:03d}" for i in range(8, 20)]
    assert newest in list(buffer)
    assert buffer.num_evicted == 1


def test_what_moves_into_a_full_tier_pushes_out_the_oldest_there_be_it_its_own(entry):
    buffer = stocked(entry, 20, capacity=20)  # quotas 8, 7, 5, all full
    buffer.drop_prompt("p001")
    newer = entry("p000", step=20)
    buffer.add(newer)
    # p000 becomes easy with two completions, p015 leaves for medium and p008 for hard: 7 - 1, 7 and 4 + 2 = 6 > 5.
    visit(buffer, "p000", [1.0] * 20, step=99)
    assert [e for e in buffer if e.key == "p000"] == [newer]
    assert [o.entries for o in buffer.occupancy().values()] == [7, 7, 5]
    assert buffer.num_evicted == 1


def test_hard_prompts_keep_the_most_room(entry):
    buffer = stocked(entry, 20, each=50, capacity=100)
    assert [o.entries for o in buffer.occupancy().values()] == [40, 35, 25]
    assert buffer.num_evicted == 900


def test_a_tier_without_room_keeps_nothing(entry):
    buffer = new_buffer(capacity=10, hard_share=0.0, medium_share=0.5, easy_share=0.5)
    buffer.add(entry("never seen"))
    assert (len(buffer), buffer.num_evicted, list(buffer)) == (0, 1, [])


def test_what_has_left_does_not_stay_in_memory(entry):
    buffer, seen = new_buffer(capacity=10), []
    for _ in range(100):
        stored = entry("a")
        seen.append(weakref.ref(stored._tokens))
        buffer.add(stored)
        del stored
        assert sum(tokens() is not None for tokens in seen) == len(buffer)


def test_the_places_of_what_has_left_are_closed_up(entry):
    buffer = new_buffer(capacity=10)  # four of them hard
    for _ in range(1000):
        buffer.add(entry("a"))
        shelf = buffer._shelves["a"]
        assert len(shelf) <= 4
        assert len(shelf._items) <= 4 + 17


def test_what_is_too_old_expires_in_every_tier(entry):
    buffer = stocked(entry, 20)  # steps 0 .. 19
    assert buffer.expire(oldest_step=5) == 5
    assert [e.step for e in buffer] == list(range(5, 20))
    assert buffer.expire(oldest_step=5) == 0
    assert buffer.expire(oldest_step=100) == 15
    assert len(buffer) == 0


def test_expired_completions_are_not_counted_as_evicted(entry):
    buffer = stocked(entry, 20)
    buffer.expire(oldest_step=5)
    assert buffer.num_evicted == 0


def test_a_dropped_prompt_is_gone_and_can_come_back(entry):
    buffer = stocked(entry, 20, each=3)
    buffer.drop_prompt("p003")
    buffer.drop_prompt("never seen")
    assert "p003" not in buffer
    assert len(buffer) == 57
    assert buffer.draw(4, Random(0), key="p003") == []
    again = entry("p003")
    buffer.add(again)
    assert buffer.draw(4, Random(0), key="p003") == [again]


# -- drawing ---------------------------------------------------------------------------------------------------------

DRAWS = ["priority", "uniform", "fifo"]


@pytest.mark.parametrize("draw", DRAWS)
def test_an_empty_buffer_gives_nothing(draw):
    buffer = new_buffer(draw=draw)
    assert buffer.draw(4, Random(0)) == buffer.draw(4, Random(0), key="a") == []


@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_by_key_gives_completions_of_that_prompt_alone(entry, draw):
    buffer = stocked(entry, 20, each=3, draw=draw)
    drawn = buffer.draw(2, Random(0), key="p004")
    assert keys_of(drawn) == ["p004", "p004"]
    assert drawn[0] is not drawn[1]
    assert buffer.draw(2, Random(0), key="never seen") == []


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("num", [60, 61, 1000])
def test_as_many_as_there_are_or_more_gives_each_once(entry, draw, num):
    buffer = stocked(entry, 20, each=3, draw=draw)
    stored = list(buffer)
    assert set(buffer.draw(num, Random(0))) == set(stored)
    assert len(buffer) == (0 if draw == "fifo" else 60)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("key", [None, "p004"])
def test_a_draw_of_none_takes_none(entry, draw, key):
    buffer = stocked(entry, 20, draw=draw)
    assert buffer.draw(0, Random(0), key=key) == []
    assert len(buffer) == 20


def test_fifo_gives_the_oldest_of_the_prompt_or_of_each_tier_and_they_are_gone(entry):
    buffer = stocked(entry, 20, each=2, draw="fifo")
    p002 = [e for e in buffer if e.key == "p002"]
    assert buffer.draw(1, Random(0), key="p002") == p002[:1]
    assert buffer.draw(4, Random(0), key="p002") == p002[1:]
    assert "p002" not in buffer
    drawn = buffer.draw(20, Random(0))  # 8, 7 and 5; hard had 8 prompts of 2 and lost p002
    assert [int(key[1:]) for key in keys_of(drawn)] == [
        0, 0, 1, 1, 3, 3, 4, 4,
        8, 8, 9, 9, 10, 10, 11,
        15, 15, 16, 16, 17,
    ]  # fmt: skip
    assert len(buffer) == 38 - 20


def test_a_short_tier_is_filled_up_the_hardest_first(entry):
    # Of 20: 8 hard, 7 medium, 5 easy are wanted.
    buffer = stocked(entry, 20)  # 8, 7 and 5 are there, and exactly these are drawn
    assert tier_counts(buffer, buffer.draw(20, Random(0))) == [8, 7, 5]
    rich = stocked(entry, 20, each=3)  # 24, 21, 15
    for i in range(15, 20):
        rich.drop_prompt(f"p{i:03d}")
    assert tier_counts(rich, rich.draw(20, Random(0))) == [13, 7, 0]  # the five easy ones come from hard
    assert tier_counts(rich, rich.draw(40, Random(0))) == [24, 16, 0]  # 16 + 10 = 26 of 24, the rest from medium
    for i in range(8):
        rich.drop_prompt(f"p{i:03d}")
    assert tier_counts(rich, rich.draw(20, Random(0))) == [0, 20, 0]


def test_a_draw_is_never_larger_than_wanted_not_even_at_the_last_number_below_one(entry):
    class Last(Random):
        def random(self):
            return 1 - 2**-53  # 4 + this is 5 in floating point

    for shares in ({}, {"hard_share": 0.0, "medium_share": 0.5, "easy_share": 0.5}):
        buffer = stocked(entry, 20, each=3, **shares)
        assert all(len(buffer.draw(num, Last())) == num for num in range(1, 40))


# -- how draws are distributed ---------------------------------------------------------------------------------------


def chi_square(counts, expected):
    """Sum of squared deviations over expectations; counts and expectations by the same keys."""
    assert counts.keys() <= expected.keys()
    return sum((counts[k] - mean) ** 2 / mean for k, mean in expected.items())


# 99.9 % of chi-square by degrees of freedom; the seeds are fixed, so a test passes always or never.
CHI_999 = {2: 13.82, 5: 20.52, 7: 24.32}


@pytest.mark.parametrize("scope", ["any", "prompt"])
def test_uniform_draws_are_uniform_over_the_completions_of_a_tier_not_over_its_prompts(entry, scope):
    # Three prompts with 1, 2 and 5 completions in one tier; or one prompt with all 8.
    buffer = new_buffer(draw="uniform", **ONE_TIER)
    for key, num in (("a", 1), ("b", 2), ("c", 5)):
        for i in range(num):
            buffer.add(entry(key if scope == "any" else "a", priority=float(i)))
    rng, key = Random(1), "a" if scope == "prompt" else None
    counts = Counter(buffer.draw(1, rng, key)[0] for _ in range(8000))
    assert chi_square(counts, {e: 1000 for e in buffer}) < CHI_999[7]


def test_uniform_draws_of_several_give_each_completion_the_same_chance(entry):
    # 4 of 8 in one draw: each is in half of 8000 draws, give or take sqrt(8000) / 2 = 45.
    buffer = new_buffer(draw="uniform", **ONE_TIER)
    for key in "abbccccc":
        buffer.add(entry(key))
    rng = Random(2)
    counts = Counter(e for _ in range(8000) for e in buffer.draw(4, rng))
    assert all(abs(counts[e] - 4000) < 4 * 45 for e in buffer)


@pytest.mark.parametrize("scope", ["any", "prompt"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_priority_draws_follow_the_softmax(entry, scope, temperature):
    priorities = [-1.0, -0.4, 0.0, 0.0, 0.3, 0.9, 1.2, 1.5]
    buffer = new_buffer(draw="priority", priority_temperature=temperature, **ONE_TIER)
    for key, priority in zip("abbccccc", priorities, strict=True):
        buffer.add(entry(key if scope == "any" else "a", priority=priority))
    softmax = (torch.tensor([e.priority for e in buffer], dtype=torch.float64) / temperature).softmax(0).tolist()
    rng, key = Random(3), "a" if scope == "prompt" else None
    counts = Counter(buffer.draw(1, rng, key)[0] for _ in range(8000))
    assert chi_square(counts, {e: 8000 * p for e, p in zip(buffer, softmax, strict=True)}) < CHI_999[7]


def test_the_second_of_a_draw_follows_the_softmax_of_what_is_left(entry):
    # P(i, then j) = p_i p_j / (1 - p_i)
    buffer = new_buffer(draw="priority", **ONE_TIER)
    for key, priority in zip("aab", (0.0, 1.0, 0.5), strict=True):
        buffer.add(entry(key, priority=priority))
    p = dict(zip(buffer, torch.tensor([e.priority for e in buffer]).softmax(0).tolist(), strict=True))
    expected = {(i, j): 6000 * p[i] * p[j] / (1 - p[i]) for i in p for j in p if i is not j}
    rng = Random(4)
    counts = Counter(tuple(buffer.draw(2, rng)) for _ in range(6000))
    assert chi_square(counts, expected) < CHI_999[5]


@pytest.mark.parametrize("priorities", [(1.0, 0.4), (-0.4, -1.0)])
def test_a_low_temperature_draws_the_highest_priority_and_then_the_next(entry, priorities):
    # exp(1 / 0.01) and exp(0.4 / 0.01): weights that are cut off early would be equal.
    buffer = new_buffer(draw="priority", priority_temperature=0.01)
    best, second = (entry(priority=p) for p in priorities)
    for stored in (second, best):
        buffer.add(stored)
    rng = Random(0)
    assert all(buffer.draw(2, rng) == [best, second] for _ in range(200))


@pytest.mark.parametrize("priority", [1e6, -1e6, math.inf, -math.inf])
def test_priorities_beyond_all_bounds_can_still_be_drawn(entry, priority):
    buffer = new_buffer(draw="priority", **ONE_TIER)
    for value in (priority, 0.0, priority):
        buffer.add(entry(priority=value))
    assert set(buffer.draw(3, Random(0))) == set(buffer)


@pytest.mark.parametrize("num", [1, 2, 3, 4, 7])
def test_every_tier_has_its_share_of_draws_in_the_mean_and_of_each_within_one(entry, num):
    buffer, rng = stocked(entry, 20, each=3), Random(5)
    totals = [0, 0, 0]
    for _ in range(4000):
        counts = tier_counts(buffer, buffer.draw(num, rng))
        shares = [num * buffer.settings.share(tier) for tier in TIERS]
        assert all(math.floor(s) <= c <= math.ceil(s) for c, s in zip(counts, shares, strict=True))
        totals = [t + c for t, c in zip(totals, counts, strict=True)]
    # The deviation of one count is at most 0.5, that of the mean of 4000 at most 0.008.
    assert [t / 4000 for t in totals] == pytest.approx(shares, abs=4 * 0.008)


def test_the_same_source_of_chance_gives_the_same_draw(entry):
    buffer = stocked(entry, 20, each=3)
    assert buffer.draw(8, Random(7)) == buffer.draw(8, Random(7)) != buffer.draw(8, Random(8))


# -- size ------------------------------------------------------------------------------------------------------------


def busy(entry, num_prompts):
    """A buffer that holds four completions of each prompt, some of which have been pushed out again."""
    rng, buffer = Random(0), new_buffer(capacity=4 * num_prompts)
    for step in range(2 * num_prompts):
        key = f"p{step % num_prompts:05d}"
        rewards = [rng.choice([0.0, 0.5, 1.0]) for _ in range(4)]
        visit(buffer, key, rewards, step, [entry(key, step, priority=r) for r in rewards])
    return buffer


def test_ten_thousand_completions_are_all_where_they_belong(entry):
    buffer = busy(entry, 2500)
    stored, occupancy = list(buffer), buffer.occupancy()
    assert len(stored) == len(set(stored)) == len(buffer) == sum(o.entries for o in occupancy.values())
    assert 9900 <= len(buffer) <= 10_000  # what has moved between tiers may have left a little room
    assert {name: o.quota for name, o in occupancy.items()} == {"hard": 4000, "medium": 3500, "easy": 2500}
    assert all(o.entries <= o.quota for o in occupancy.values())
    tracker = buffer.tracker
    ordered = sorted((tracker[k].score, tracker[k].last_visit, k) for k in {f"p{i:05d}" for i in range(2500)})
    for rank, (_, _, key) in enumerate(ordered):
        assert tracker.rank(key) == rank
    belongs = {k: "hard" if r < 1000 else "medium" if r < 1875 else "easy" for r, (_, _, k) in enumerate(ordered)}
    assert Counter(belongs[e.key] for e in stored) == {name: o.entries for name, o in occupancy.items()}
    assert set(buffer.draw(20_000, Random(0))) == set(stored)
    assert list(buffer) == stored


def lines_run(function, *args):
    """How many lines of Python ``function`` takes: a measure of its work that no other job on the machine disturbs."""
    count, before = 0, sys.gettrace()

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        function(*args)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("work", ["add", "refile", "draw any", "draw prompt"])
def test_work_grows_far_slower_than_the_buffer(entry, work):
    # 16 times as many completions; a tree of weights is four levels deeper.
    def mean_lines(num_prompts):
        buffer, rng, lines = busy(entry, num_prompts), Random(0), []
        for step in range(100):
            key = f"p{rng.randrange(num_prompts):05d}"
            buffer.tracker.record(key, [rng.random()] * 4, step=10_000 + step)
            refile = lines_run(buffer.refile, [key])
            add = lines_run(buffer.add, entry(key, 10_000 + step))
            draws = {"draw any": (4, rng), "draw prompt": (4, rng, key)}
            lines.append({"refile": refile, "add": add}.get(work) or lines_run(buffer.draw, *draws[work]))
        return sum(lines) / len(lines)

    assert mean_lines(1600) < 2 * mean_lines(100)
