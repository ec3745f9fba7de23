import random
from collections import Counter
from functools import partial
from itertools import chain, islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avatar.data.dataset import PromptDataset, PromptStyle
from avatar.data.loader import PromptLoader, plan_epoch
from avatar.data.shards import write_shards
from avatar.errors import DataError

phases = st.lists(st.tuples(st.integers(1, 12), st.none() | st.integers(1, 6)), min_size=1, max_size=3)


def plan_of(phases, batch_size, seed=0, epoch=0):
    sizes, counts = zip(*phases, strict=True)
    return [list(batch) for batch in plan_epoch(sizes, counts, batch_size, seed, epoch)]


@given(phases, st.integers(1, 5), st.integers(0, 9), st.integers(0, 9))
def test_a_plan_depends_on_nothing_but_its_arguments(phases, batch_size, seed, epoch):
    random.seed(1)
    first, state = plan_of(phases, batch_size, seed, epoch), random.getstate()
    random.seed(2)
    assert plan_of(phases, batch_size, seed, epoch) == first
    random.seed(1)
    assert random.getstate() == state


@given(phases, st.integers(1, 5), st.integers(0, 9), st.integers(0, 9))
def test_phases_come_in_order_with_their_counts_and_every_record_once_before_any_twice(phases, batch_size, seed, epoch):
    plan, start = plan_of(phases, batch_size, seed, epoch), 0
    for size, count in phases:
        num = count if count is not None else -(-size // batch_size)
        mine, plan = plan[:num], plan[num:]
        # One pass may end in a short batch: 7 records by 3 are 3, 3, 1. With a count all are full.
        last = (size - 1) % batch_size + 1 if count is None else batch_size
        assert [len(batch) for batch in mine] == [batch_size] * (num - 1) + [last]
        drawn = [position for batch in mine for position in batch]
        for i in range(0, len(drawn), size):
            a_pass = drawn[i : i + size]
            assert len(set(a_pass)) == len(a_pass)
            assert set(a_pass) <= set(range(start, start + size))
        start += size
    assert plan == []


def test_batches_of_nothing_are_refused_and_one_pass_over_nothing_is_none():
    with pytest.raises(DataError, match="phase 1: 2 batches are wanted, but it has no records"):
        plan_of([(3, None), (0, 2)], 4)
    assert plan_of([(0, None)], 4) == []


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(map(tuple, plan_of([(20, None)], 4, seed, epoch))) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9  # 20! = 2e18 orders: two alike would be no accident


def test_the_second_pass_of_a_phase_has_another_order_than_the_first():
    drawn = [position for batch in plan_of([(20, 10)], 4) for position in batch]
    assert sorted(drawn[:20]) == sorted(drawn[20:]) == list(range(20))
    assert drawn[:20] != drawn[20:]


def test_a_phase_is_shuffled_the_same_whatever_follows_it():
    assert plan_of([(9, None), (5, 3)], 3)[:3] == plan_of([(9, None)], 3)


@pytest.fixture(scope="module")
def dataset(shards):
    return PromptDataset([shards], PromptStyle())


def shuffled(dataset, batch_size=4, **options):
    return PromptLoader(dataset, partial(plan_epoch, [len(dataset)], [None], batch_size, 7), **options)


def keys_of(batches):
    return [[prompt.key for prompt in batch] for batch in batches]


def planned(dataset, epochs, batch_size=4):
    """The same by hand: no loader, no state."""
    plans = (plan_epoch([len(dataset)], [None], batch_size, 7, epoch) for epoch in range(epochs))
    return [[dataset[i].key for i in batch] for plan in plans for batch in plan]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.timeout(60)
def test_a_loader_hands_out_its_plan_epoch_after_epoch(dataset, num_workers):
    loader = shuffled(dataset, num_workers=num_workers)
    assert len(loader) == 7  # 25 records by 4
    assert keys_of([*loader, *loader]) == planned(dataset, 2)


@pytest.mark.timeout(60)
def test_clips_come_whole_through_the_workers(dataset):
    alone, fetched = ([p for batch in shuffled(dataset, num_workers=n) for p in batch] for n in (0, 2))
    for a, b in zip(alone, fetched, strict=True):
        assert a.key == b.key
        assert a.messages == b.messages
        assert torch.equal(a.clips[0].frames, b.clips[0].frames)
        assert torch.equal(a.clips[0].audio, b.clips[0].audio)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3, 6, 7, 8, 13, 14, 17])
@pytest.mark.timeout(60)
def test_a_fresh_loader_with_the_state_of_another_goes_on_exactly_there(dataset, stop, num_workers):
    # 7 batches an epoch: stops lie inside the first and second epoch, at their ends (7, 14) and just past them (8).
    first = shuffled(dataset, num_workers=num_workers)
    taken, iterator = [], iter(first)
    while len(taken) < stop:
        batch = next(iterator, None)
        if batch is None:
            iterator = iter(first)
        else:
            taken.append(batch)
    state = first.state_dict()
    assert all(type(value) is int for value in state.values())  # so a checkpoint loads with weights_only=True
    fresh = shuffled(dataset, num_workers=num_workers)
    fresh.load_state_dict(state)
    rest = list(fresh)
    if len(taken) + len(rest) < 21:
        rest += list(fresh)
    expected = planned(dataset, 4)
    assert keys_of(taken + rest) == expected[: len(taken) + len(rest)]
    assert rest


def test_a_state_taken_before_the_first_batch_starts_at_the_beginning(dataset):
    fresh = shuffled(dataset)
    fresh.load_state_dict(shuffled(dataset).state_dict())
    assert keys_of(fresh) == planned(dataset, 1)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_consumer_that_stops_at_the_length_without_asking_for_more_gets_every_epoch_whole(dataset, num_workers):
    loader = shuffled(dataset, num_workers=num_workers)
    taken = [keys_of(islice(iter(loader), len(loader))) for _ in range(3)]
    assert list(chain(*taken)) == planned(dataset, 3)


@pytest.mark.parametrize("after", ["at the last batch", "past the last batch"])
def test_a_state_at_the_end_of_an_epoch_resumes_with_the_next(dataset, after):
    loader = shuffled(dataset)
    list(islice(iter(loader), len(loader)) if after == "at the last batch" else loader)
    fresh = shuffled(dataset)
    fresh.load_state_dict(loader.state_dict())
    assert keys_of(fresh) == planned(dataset, 2)[7:]


def test_a_state_loaded_into_a_used_loader_counts(dataset):
    loader = shuffled(dataset)
    state = loader.state_dict()
    list(loader)
    loader.load_state_dict(state)
    assert keys_of(loader) == planned(dataset, 1)


def test_a_loader_that_is_not_resumable_starts_anew_wherever_it_was_left(dataset):
    loader = PromptLoader(dataset, lambda epoch: [[epoch], [1], [2]], resumable=False)
    list(islice(iter(loader), 2))
    assert keys_of([*loader, *loader]) == [[dataset[i].key] for i in (0, 1, 2, 0, 1, 2)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("even", [False, True])
def test_processes_share_the_batches_without_overlap(dataset, world_size, even):
    ranks = [shuffled(dataset, rank=r, world_size=world_size, even=even) for r in range(world_size)]
    shares = [keys_of(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(share) for share in shares]
    whole = planned(dataset, 1)
    # Even: 7 batches by 2 give 3 each and leave out 1; by 3, 2 each and 1; by 7, 1 each.
    wanted = whole[: 7 // world_size * world_size] if even else whole
    assert sorted(chain(*shares)) == sorted(wanted)
    assert len({len(share) for share in shares}) == 1 or not even
    for rank, share in enumerate(shares):
        assert share == wanted[rank::world_size]


def test_each_process_resumes_its_own_share(dataset):
    for rank in range(2):
        loader, fresh = (shuffled(dataset, rank=rank, world_size=2) for _ in range(2))
        taken = list(islice(iter(loader), 2))
        fresh.load_state_dict(loader.state_dict())
        assert keys_of([*taken, *fresh]) == planned(dataset, 1)[rank::2]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.timeout(60)
def test_iterating_leaves_the_global_random_states_alone(dataset, num_workers):
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), [*map(str, np.random.get_state())]

    before = states()
    assert len(list(shuffled(dataset, num_workers=num_workers))) == 7
    assert states() == before


def test_the_order_does_not_depend_on_the_global_random_state(dataset):
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        orders.append(keys_of(shuffled(dataset)))
    assert orders[0] == orders[1]


def in_order(folder, batch_size, **options):
    dataset = PromptDataset([folder], PromptStyle())
    plan = [range(i, min(i + batch_size, len(dataset))) for i in range(0, len(dataset), batch_size)]
    return PromptLoader(dataset, lambda epoch: plan, **options)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.timeout(60)
def test_broken_records_are_skipped_and_named(broken, num_workers):
    folder, bad = broken
    loader = in_order(folder, 2, num_workers=num_workers)
    # 0-good 1-absent | 2-text 3-good | 4-empty 5-cut | 6-silent 7-good: the third batch is empty and left out.
    assert keys_of(loader) == [["0-good"], ["3-good"], ["7-good"]]
    assert list(loader.failures) == bad
    assert all(key in reason for key, reason in loader.failures.items())


def test_a_second_epoch_names_no_failure_twice(broken):
    folder, bad = broken
    loader = in_order(folder, 2)
    list(loader)
    assert keys_of(loader) == [["0-good"], ["3-good"], ["7-good"]]
    assert list(loader.failures) == bad


def test_a_batch_that_was_left_out_counts_in_the_state(broken):
    folder, _ = broken
    loader, fresh = in_order(folder, 2), in_order(folder, 2)
    taken = list(islice(iter(loader), 2))
    fresh.load_state_dict(loader.state_dict())
    assert keys_of([*taken, *fresh]) == [["0-good"], ["3-good"], ["7-good"]]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.timeout(60)
def test_on_error_raise_stops_at_the_first_broken_record_and_says_how_to_go_on(broken, num_workers):
    loader = in_order(broken[0], 1, on_error="raise", num_workers=num_workers)
    iterator = iter(loader)
    assert keys_of([next(iterator)]) == [["0-good"]]
    with pytest.raises(DataError, match=r"1-absent.*data\.on_error is 'raise'; 'skip' would go on"):
        next(iterator)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.timeout(60)
def test_if_no_record_can_be_read_the_first_reason_is_raised(hopeless, num_workers):
    with pytest.raises(DataError, match=r"no record could be read.*c0\.mp4"):
        list(in_order(hopeless, 4, num_workers=num_workers))


def test_if_no_record_of_one_process_can_be_read_it_raises(hopeless):
    for rank in range(2):
        with pytest.raises(DataError, match="no record could be read"):
            list(in_order(hopeless, 1, rank=rank, world_size=2))


def test_if_no_record_of_a_phase_shorter_than_its_data_can_be_read_it_raises(hopeless):
    dataset = PromptDataset([hopeless], PromptStyle())
    loader = PromptLoader(dataset, partial(plan_epoch, [6], [2], 2, 0))  # 2 batches of 2, of 6 records
    with pytest.raises(DataError, match="no record could be read"):
        list(loader)


def test_if_no_record_of_two_phases_on_one_folder_can_be_read_it_raises(hopeless):
    dataset = PromptDataset([hopeless, hopeless], PromptStyle())
    loader = PromptLoader(dataset, partial(plan_epoch, [6, 6], [None, None], 2, 0))
    with pytest.raises(DataError, match="no record could be read"):
        list(loader)


def test_one_good_record_among_broken_ones_is_no_reason_to_stop(make_tar, samples):
    raw = samples[0][2][0].to_json()
    members = [m for i in range(5) for m in ((f"c{i}.mp4", b"text"), (f"c{i}.json", raw))]
    folder = make_tar([*members, ("good.mp4", samples[0][1]), ("good.json", raw)])
    assert keys_of(in_order(folder, 1)) == [["good"]]


def test_failures_of_two_folders_with_the_same_keys_are_all_counted(tmp_path, samples):
    (key, _, records) = samples[0]
    for name in ("a", "b"):
        write_shards(tmp_path / name, [(key, b"text", records[:1])])
    try:
        dataset = PromptDataset([tmp_path / "a", tmp_path / "b"], PromptStyle())
    except DataError:
        return  # refusing two records of one key is right too
    loader = PromptLoader(dataset, lambda epoch: [[0], [1]])
    with pytest.raises(DataError):
        list(loader)
    assert len(loader.failures) == 2


def test_every_record_comes_as_often_as_planned_over_many_epochs(dataset):
    loader = shuffled(dataset)
    counts = Counter(prompt.key for _ in range(4) for batch in loader for prompt in batch)
    assert set(counts.values()) == {4}
    assert len(counts) == 25
