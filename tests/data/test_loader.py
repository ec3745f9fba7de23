import json
import random
import re
from collections import Counter
from contextlib import closing
from functools import partial
from itertools import chain, islice

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avatar.data.dataset import PromptDataset, start_decoders
from avatar.data.loader import PromptLoader
from avatar.data.micro import RULE
from avatar.data.plan import Plan, Stretch, plan_epoch, plan_in_order
from avatar.data.skipped import Failure, Skipped
from avatar.errors import DataError

pytestmark = pytest.mark.timeout(120)
SEED = 7


@pytest.fixture(scope="module")
def decoders():
    """{number of workers: decoders}"""
    pools = {num: start_decoders(num, RULE) for num in (1, 2)}
    yield pools
    for pool in pools.values():
        pool.close()


@pytest.fixture(scope="module")
def dataset_of(decoders):
    def make(*folders, num_workers=2):
        return PromptDataset(folders, rule=RULE, decoders=decoders[num_workers])

    return make


@pytest.fixture(scope="module")
def dataset(shards, dataset_of):
    return dataset_of(shards)


def plans_of(dataset, batch_size=4, **options):
    stretch = Stretch([dataset.indexes[0].shard_sizes], [1.0])
    return partial(plan_epoch, [stretch], batch_size, SEED, **options)


def shuffled(dataset, batch_size=4, **options):
    return PromptLoader(dataset, plans_of(dataset, batch_size), **options)


def in_order(dataset, batch_size, **options):
    return PromptLoader(dataset, partial(plan_in_order, len(dataset), batch_size), **options)


def keys_of(batches):
    return [[prompt.key for prompt in batch] for batch in batches]


def planned(dataset, epochs, batch_size=4):
    """The same by hand: no loader, no state."""
    plans = (plans_of(dataset, batch_size)(epoch) for epoch in range(epochs))
    return [[dataset[i].key for i in batch] for plan in plans for batch in plan]


# -- whole epochs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
def test_a_loader_hands_out_its_plan_epoch_after_epoch(shards, dataset_of, num_workers, ahead):
    dataset = dataset_of(shards, num_workers=num_workers)
    loader = shuffled(dataset, ahead=ahead)
    assert len(loader) == 7  # 25 records by 4
    assert keys_of([*loader, *loader]) == planned(dataset, 2)


def test_prompts_come_whole(dataset):
    for a, i in zip(chain.from_iterable(shuffled(dataset)), chain.from_iterable(plans_of(dataset)(0)), strict=True):
        b = dataset[i]
        assert (a.key, a.messages, a.answer) == (b.key, b.messages, b.answer)
        assert torch.equal(a.clips[0].frames, b.clips[0].frames)
        assert torch.equal(a.clips[0].audio, b.clips[0].audio)


def test_every_record_comes_as_often_as_planned_over_many_epochs(dataset):
    loader = shuffled(dataset)
    counts = Counter(prompt.key for _ in range(4) for batch in loader for prompt in batch)
    assert set(counts.values()) == {4}
    assert len(counts) == 25


def test_iterating_leaves_the_global_random_states_alone(dataset):
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), [*map(str, np.random.get_state())]

    before = states()
    assert len(list(shuffled(dataset))) == 7
    assert states() == before


def test_the_order_does_not_depend_on_the_global_random_state(dataset):
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        orders.append(keys_of(shuffled(dataset)))
    assert orders[0] == orders[1]


def test_a_plan_is_made_once_an_epoch(dataset):
    made = []

    def plans(epoch):
        made.append(epoch)
        return plans_of(dataset)(epoch)

    loader = PromptLoader(dataset, plans)
    for _ in range(3):
        assert len(loader) == 7
        assert len(list(loader)) == 7
    assert made == [0, 1, 2]


def test_a_plan_of_nothing_is_over_at_once(dataset):
    loader = PromptLoader(dataset, lambda epoch: Plan([range(0)], 4))
    assert len(loader) == 0
    assert list(loader) == list(loader) == []


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 3, 6, 7, 8, 13, 14, 17])
@pytest.mark.parametrize("num_workers", [(1, 2), (2, 1)])
def test_a_fresh_loader_with_the_state_of_another_goes_on_exactly_there(shards, dataset_of, stop, num_workers):
    # 7 batches an epoch: stops lie inside the first and second epoch, at their ends (7, 14) and just past them (8).
    before, after = (dataset_of(shards, num_workers=num) for num in num_workers)
    first = shuffled(before, ahead=9)
    taken, iterator = [], iter(first)
    while len(taken) < stop:
        batch = next(iterator, None)
        if batch is None:
            iterator = iter(first)
        else:
            taken.append(batch)
    state = first.state_dict()
    assert all(type(value) is int for value in state.values())  # so a checkpoint loads with weights_only=True
    iterator.close()
    fresh = shuffled(after, ahead=2)
    fresh.load_state_dict(state)
    rest = list(fresh)
    if len(taken) + len(rest) < 21:
        rest += list(fresh)
    expected = planned(before, 4)
    assert keys_of(taken + rest) == expected[: len(taken) + len(rest)]
    assert rest


def test_from_any_position_the_rest_is_the_same_bit_for_bit(dataset):
    whole = [prompt for batch in shuffled(dataset) for prompt in batch]
    loader = shuffled(dataset)
    for batch_index, _ in enumerate(loader, 1):
        fresh = shuffled(dataset)
        fresh.load_state_dict(loader.state_dict())
        if batch_index == 7:  # the last: a next epoch follows
            assert fresh.state_dict() == {"epoch": 0, "position": 7}
            break
        rest = [prompt for batch in fresh for prompt in batch]
        for a, b in zip(rest, whole[4 * batch_index :], strict=True):
            assert a.key == b.key
            assert torch.equal(a.clips[0].frames, b.clips[0].frames)


def test_a_state_taken_before_the_first_batch_starts_at_the_beginning(dataset):
    fresh = shuffled(dataset)
    fresh.load_state_dict(shuffled(dataset).state_dict())
    assert keys_of(fresh) == planned(dataset, 1)


def test_a_consumer_that_stops_at_the_length_without_asking_for_more_gets_every_epoch_whole(dataset):
    loader = shuffled(dataset)
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


def test_a_state_counts_what_was_handed_out_and_not_what_was_fetched_ahead(dataset):
    loader = shuffled(dataset, ahead=20)
    iterator = iter(loader)
    for taken in range(1, 5):
        next(iterator)
        assert loader.state_dict() == {"epoch": 0, "position": taken}


def test_a_loader_that_is_not_resumable_starts_anew_wherever_it_was_left(dataset):
    loader = PromptLoader(dataset, lambda epoch: Plan([range(epoch, epoch + 3)], 1), resumable=False)
    list(islice(iter(loader), 2))
    assert keys_of([*loader, *loader]) == [[dataset[i].key] for i in (0, 1, 2, 0, 1, 2)]


def test_an_iteration_left_in_the_middle_leaves_nothing_on_its_way(dataset):
    for _ in range(3):
        iterator = iter(shuffled(dataset, ahead=12))
        next(iterator)
        iterator.close()
    assert dataset._ahead == {}
    assert keys_of(shuffled(dataset)) == planned(dataset, 1)


# -- several processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("in_step", [False, True])
def test_processes_share_the_batches_without_overlap(dataset, world_size, in_step):
    ranks = [shuffled(dataset, rank=r, world_size=world_size, in_step=in_step) for r in range(world_size)]
    shares = [keys_of(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(share) for share in shares]
    whole = planned(dataset, 1)
    # In step: 7 batches by 2 give 3 each and leave out 1; by 3, 2 each and 1; by 7, 1 each; by 8 none.
    wanted = whole[: 7 // world_size * world_size] if in_step else whole
    assert sorted(chain(*shares)) == sorted(wanted)
    assert len({len(share) for share in shares}) == 1 or not in_step
    for rank, share in enumerate(shares):
        assert share == wanted[rank::world_size]


def test_each_process_resumes_its_own_share(dataset):
    for rank in range(2):
        loader, fresh = (shuffled(dataset, rank=rank, world_size=2, in_step=True) for _ in range(2))
        taken = list(islice(iter(loader), 2))
        fresh.load_state_dict(loader.state_dict())
        assert keys_of([*taken, *fresh]) == planned(dataset, 1)[rank:6:2]


def test_all_processes_have_the_same_state_so_that_one_may_save_it_for_all(dataset):
    ranks = [shuffled(dataset, rank=r, world_size=3, in_step=True) for r in range(3)]
    for batches in zip(*ranks, strict=True):
        assert len(batches) == 3
        assert len({tuple(rank.state_dict().items()) for rank in ranks}) == 1


class Keys:
    """A dataset without media: what a loader makes of positions."""

    def stream(self, positions, ahead):
        return (Failure(str(p), "bad", "no sound") if p < 0 else p for p in positions)


def numbers_of(plans, state, world_size, steps, in_step):
    """(what each of ``world_size`` processes saw in so many steps from ``state`` on, the state they were left in)."""
    seen, states = [], []
    for rank in range(world_size):
        loader = PromptLoader(Keys(), plans, rank=rank, world_size=world_size, in_step=in_step)
        loader._checked = lambda item: item
        loader.load_state_dict(state)
        with closing(iter(loader)) as batches:
            seen += islice(batches, steps)
        states.append(loader.state_dict())
    return seen, states


@given(
    st.integers(1, 60),
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 8]), st.integers(1, 4)), min_size=1, max_size=5),
)
def test_whatever_number_of_processes_goes_on_each_record_of_an_epoch_is_seen_once(size, batch_size, stages):
    # 1 -> 2 -> 4 processes and the like: each stage takes some steps in step, then is killed and its state handed on.
    plans = partial(plan_epoch, [Stretch([[size]], [1.0])], batch_size, SEED)
    state, seen = {"epoch": 0, "position": 0}, []
    for world_size, steps in stages:
        if state["position"] + steps * world_size > len(plans(0)):
            break
        some, states = numbers_of(plans, state, world_size, steps, in_step=True)
        assert all(s == states[0] for s in states)
        state = states[0]
        seen += some
    if state["position"] < len(plans(0)):
        seen += numbers_of(plans, state, 1, None, in_step=True)[0]
    assert sorted(chain(*seen)) == list(range(size))


@pytest.mark.parametrize("position", [0, 3, 10, 11])
def test_in_step_the_last_batches_that_not_every_process_would_get_are_counted_from_where_it_goes_on(position):
    # 12 batches from 3 on are 9: 4 processes take 2 each and leave out the last. From 0 on they leave out none.
    plans = partial(plan_epoch, [Stretch([[12]], [1.0])], 1, SEED)
    seen, states = numbers_of(plans, {"epoch": 0, "position": position}, 4, None, in_step=True)
    if 12 - position < 4:  # none would be left: the next epoch
        assert (len(seen), states[0]["epoch"]) == (12, 1)
    else:
        wanted = list(chain(*plans(0)))[position : 12 - (12 - position) % 4]
        assert sorted(chain(*seen)) == sorted(wanted)


def test_one_process_then_two_then_four_with_real_clips(dataset):
    state, seen = {"epoch": 0, "position": 0}, []
    for world_size, steps in ((1, 2), (2, 1), (4, None)):
        states = []
        for rank in range(world_size):
            loader = shuffled(dataset, batch_size=2, rank=rank, world_size=world_size, ahead=6)
            loader.load_state_dict(state)
            with closing(iter(loader)) as batches:
                seen += chain(*keys_of(islice(batches, steps)))
            states.append(loader.state_dict())
        state = states[0]
    assert sorted(seen) == sorted(chain(*planned(dataset, 1)))


# -- what fails --------------------------------------------------------------------------------------------------------


@pytest.fixture
def half_bad(make_tar, record, dataset_of):
    """A dataset of so many records, of which those at the given positions cannot be read."""

    def make(size, bad, name="half"):
        raw = record.to_json()
        return dataset_of(make_tar([(f"r{i:03}.json", b"{}" if i in bad else raw) for i in range(size)], name))

    return make


def test_broken_records_are_skipped_counted_and_named(broken, dataset_of, tmp_path):
    folder, bad = broken
    skipped = Skipped(tmp_path / "skipped.jsonl")
    loader = in_order(dataset_of(folder), 2, skipped=skipped)
    # 0-good 1-absent | 2-text 3-good | 4-empty 5-cut | 6-silent 7-good: the third batch is empty and left out.
    assert keys_of(loader) == [["0-good"], ["3-good"], ["7-good"]]
    assert list(skipped.failures) == bad
    assert all(key in failure.reason for key, failure in skipped.failures.items())
    rows = [json.loads(line) for line in skipped.log.read_text().splitlines()]
    assert [row["key"] for row in rows] == bad
    assert [row["cause"] for row in rows] == [
        "missing media", "cannot be decoded", "cut short", "cut short", "no sound",
    ]  # fmt: skip
    assert {row["epoch"] for row in rows} == {0}


def test_failures_lie_with_the_loader_where_nobody_else_counts_them(broken, dataset_of):
    loader = in_order(dataset_of(broken[0]), 2)
    list(loader)
    assert list(loader.skipped.failures) == broken[1]


def test_a_second_epoch_names_no_failure_twice_but_writes_it_down_again(broken, dataset_of, tmp_path):
    folder, bad = broken
    loader = in_order(dataset_of(folder), 2, skipped=Skipped(tmp_path / "skipped.jsonl"))
    list(loader)
    assert keys_of(loader) == [["0-good"], ["3-good"], ["7-good"]]
    assert list(loader.skipped.failures) == bad
    rows = [json.loads(line) for line in loader.skipped.log.read_text().splitlines()]
    assert [(row["epoch"], row["key"]) for row in rows] == [(epoch, key) for epoch in (0, 1) for key in bad]


def test_a_batch_that_was_left_out_counts_in_the_state(broken, dataset_of):
    loader, fresh = (in_order(dataset_of(broken[0]), 2) for _ in range(2))
    taken = list(islice(iter(loader), 2))
    fresh.load_state_dict(loader.state_dict())
    assert keys_of([*taken, *fresh]) == [["0-good"], ["3-good"], ["7-good"]]


def test_on_error_raise_stops_at_the_first_broken_record_and_says_how_to_go_on(broken, dataset_of):
    iterator = iter(in_order(dataset_of(broken[0]), 1, on_error="raise"))
    assert keys_of([next(iterator)]) == [["0-good"]]
    with pytest.raises(DataError, match=r"1-absent.*data\.on_error is 'raise'; 'skip' would go on") as error:
        next(iterator)
    assert error.value.cause == "missing media"


@pytest.mark.parametrize("options", [{}, {"rank": 0, "world_size": 2}, {"rank": 1, "world_size": 2}])
@pytest.mark.parametrize("in_step", [False, True])
def test_if_no_record_can_be_read_the_first_reason_is_raised(hopeless, dataset_of, options, in_step):
    first = 2 * options.get("rank", 0)
    with pytest.raises(DataError, match=rf"no record could be read.*c{first}\.mp4") as error:
        list(in_order(dataset_of(hopeless), 2, in_step=in_step, **options))
    assert error.value.cause == "cannot be decoded"


@pytest.mark.parametrize("in_step", [False, True])
def test_if_no_record_can_be_read_a_consumer_that_never_asks_for_one_more_hears_of_it_too(
    hopeless, dataset_of, in_step
):
    loader = in_order(dataset_of(hopeless), 2, in_step=in_step, rank=0, world_size=2)
    with pytest.raises(DataError, match="no record could be read"):
        list(islice(iter(loader), len(loader)))


def test_if_no_record_of_a_phase_shorter_than_its_data_can_be_read_it_raises(hopeless, dataset_of):
    stretch = Stretch([[6]], [1.0], 2)  # 2 batches of 2, of 6 records
    loader = PromptLoader(dataset_of(hopeless), partial(plan_epoch, [stretch], 2, 0))
    with pytest.raises(DataError, match="no record could be read"):
        list(loader)


def test_if_no_record_of_two_phases_on_one_folder_can_be_read_it_raises(hopeless, dataset_of):
    loader = PromptLoader(dataset_of(hopeless, hopeless), partial(plan_epoch, [Stretch([[6]], [1.0])] * 2, 2, 0))
    with pytest.raises(DataError, match="no record could be read"):
        list(loader)


def test_one_good_record_among_broken_ones_is_no_reason_to_stop(make_tar, samples, dataset_of):
    raw = samples[0][2][0].to_json()
    members = [m for i in range(5) for m in ((f"c{i}.mp4", b"text"), (f"c{i}.json", raw))]
    folder = make_tar([*members, ("good.mp4", samples[0][1]), ("good.json", raw)])
    assert keys_of(in_order(dataset_of(folder), 1)) == [["good"]]


def test_a_rest_without_a_good_record_is_no_reason_to_stop(broken, dataset_of):
    loader = in_order(dataset_of(broken[0]), 1)
    loader.load_state_dict({"epoch": 0, "position": 4})
    assert keys_of(islice(iter(loader), 1)) == [["7-good"]]
    loader.load_state_dict({"epoch": 0, "position": 5})  # 5-cut, 6-silent, 7-good
    assert len(list(loader)) == 1


# -- in step -----------------------------------------------------------------------------------------------------------


def test_processes_in_step_get_an_empty_batch_where_all_its_records_failed(broken, dataset_of):
    # Batches of two as above, the third without a good record: ranks take batches 0, 2 and 1, 3.
    ranks = [in_order(dataset_of(broken[0]), 2, rank=r, world_size=2, in_step=True) for r in range(2)]
    assert [keys_of(rank) for rank in ranks] == [[["0-good"], []], [["3-good"], ["7-good"]]]
    assert [len(rank) for rank in ranks] == [2, 2]


def test_a_process_alone_or_not_in_step_gets_none(broken, dataset_of):
    assert keys_of(in_order(dataset_of(broken[0]), 2, in_step=True)) == [["0-good"], ["3-good"], ["7-good"]]
    ranks = [in_order(dataset_of(broken[0]), 2, rank=r, world_size=2) for r in range(2)]
    assert [keys_of(rank) for rank in ranks] == [[["0-good"]], [["3-good"], ["7-good"]]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 23)), st.integers(1, 4), st.sampled_from([2, 3, 4]))
def test_whichever_records_fail_every_process_in_step_gets_as_many_batches(half_bad, bad, batch_size, world_size):
    dataset = half_bad(24, bad, f"half{len(bad)}-{hash(tuple(bad))}")
    kept = []
    for rank in range(world_size):
        loader, batches = shuffled(dataset, batch_size, rank=rank, world_size=world_size, in_step=True), []
        try:
            batches += loader
        except DataError as error:
            assert "no record could be read" in str(error)  # noqa: PT017
            continue
        assert len(batches) == len(loader) == -(-24 // batch_size) // world_size
        kept += chain(*keys_of(batches))
    assert len(set(kept)) == len(kept)
    assert not set(kept) & {f"r{i:03}" for i in bad}


# -- the share that may fail -------------------------------------------------------------------------------------------

TOO_MANY = r"(\d+) of (\d+) records of this pass could not be read, more than data\.max_failed_share \(0\.05\) allows"


def stops_at(loader):
    """(records handed out, failures, records) when it stops for the failures; None if it does not."""
    taken = 0
    try:
        for batch in loader:
            taken += len(batch)
    except DataError as error:
        found = re.match(TOO_MANY, str(error))
        assert found, str(error)  # noqa: PT017
        assert "`avatar data validate` names them all. The last: " in str(error)  # noqa: PT017
        return taken, int(found[1]), int(found[2])
    return None


def test_a_few_failures_among_few_records_stop_nothing(half_bad):
    # 5 of the first 10 are half of them, and 5 of all 100 the share that may fail.
    assert stops_at(in_order(half_bad(100, range(5)), 5, max_failed_share=0.05)) is None


def test_a_run_stops_as_soon_as_more_than_the_share_of_a_hundred_has_failed(half_bad):
    assert stops_at(in_order(half_bad(300, {0, 10, 20, 30, 40, 50}), 1, max_failed_share=0.05)) == (45, 6, 51)


def test_beyond_a_hundred_the_share_is_that_of_the_records_seen(half_bad):
    # Every 21st of 300 fails: 4.8 %, never more than 5 % from 100 on.
    assert stops_at(in_order(half_bad(300, range(20, 300, 21)), 1, max_failed_share=0.05)) is None
    # The first hundred are good, then all fail: f > 0.05 (100 + f) at f = 6, of 106.
    assert stops_at(in_order(half_bad(300, range(100, 300), "late"), 1, max_failed_share=0.05)) == (100, 6, 106)


@pytest.mark.parametrize(("bad", "stops"), [(2, False), (3, True)])
@pytest.mark.parametrize("asks_for_more", [False, True])
def test_at_the_end_of_a_short_pass_the_share_is_that_of_the_pass(half_bad, bad, stops, asks_for_more):
    # 2 of 40 are 5 %, 3 are 7.5 %; whoever iterates may stop at the last batch without asking for one more.
    loader = in_order(half_bad(40, range(bad)), 2, max_failed_share=0.05)
    found = stops_at(loader if asks_for_more else islice(iter(loader), 19))  # the first of 20 batches is empty
    assert (found is not None) is stops
    if stops:
        assert found[1:] == (3, 40)


def test_each_pass_has_a_share_of_its_own(half_bad):
    loader = in_order(half_bad(100, range(5)), 5, max_failed_share=0.05)
    for _ in range(3):
        assert len(list(loader)) == 19
    assert len(loader.skipped) == 5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_may_fail_or_all_but_one(half_bad, share):
    loader = in_order(half_bad(10, range(1, 10)), 1, max_failed_share=share)
    if share:
        assert keys_of(loader) == [["r000"]]
    else:
        iterator = iter(loader)
        assert keys_of([next(iterator)]) == [["r000"]]
        with pytest.raises(DataError, match=r"1 of 2 records .* more than data\.max_failed_share \(0\) allows.* r001"):
            next(iterator)


def test_the_end_of_a_pass_is_told_with_what_was_skipped(broken, dataset_of, tmp_path, capsys):
    loader = in_order(dataset_of(broken[0]), 2, skipped=Skipped(tmp_path / "skipped.jsonl"))
    list(islice(iter(loader), 2))
    assert capsys.readouterr().err == ""
    loader = in_order(dataset_of(broken[0]), 2, skipped=Skipped(tmp_path / "skipped.jsonl"))
    for epoch in range(2):
        taken = list(islice(iter(loader), 3))  # the last has come; nobody asks for one more
        assert len(taken) == 3
        shown = " ".join(capsys.readouterr().err.split())
        assert f"epoch {epoch}: 5 of 8 records were skipped" in shown
        assert "cut short │ 2" in shown
