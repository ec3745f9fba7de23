"""A buffer that is saved and loaded on the way goes on as one that never stopped."""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.errors import CheckpointError
from avatar.replay import Entry, Replay, ReplayBuffer, RewardTracker

KEYS = [f"key {i}" for i in range(9)]
DRAWS = ["priority", "uniform", "fifo"]


def new_buffer(draw="priority", capacity=30):
    return ReplayBuffer(Replay(draw=draw, capacity=capacity, minimum=0), RewardTracker(5))


def reload(buffer, through_a_file):
    """Another buffer, with another tracker, that takes up the state of this one."""
    state = through_a_file({"tracker": buffer.tracker.state_dict(), "buffer": buffer.state_dict()})
    other = ReplayBuffer(buffer.settings, RewardTracker(buffer.tracker.window))
    other.tracker.load_state_dict(state["tracker"])
    other.load_state_dict(state["buffer"])
    return other


def numbers(entries):
    """Which completions these are; each has a first token of its own."""
    return [int(e.ids[0]) for e in entries]


def change(buffer, name, seed, entries):
    """One step of training; the same seed does the same. Returns what was drawn."""
    rng = Random(seed)
    key = rng.choice(KEYS)
    if name == "visit":
        keys = rng.sample(KEYS, rng.randint(1, 3))
        for k in keys:
            rewards = rng.choices([0.0, 0.5, 1.0], k=rng.randrange(5))
            buffer.tracker.record(k, rewards, step=entries[0].step, earned=rng.random() < 0.5, kl=rng.random())
        buffer.refile(keys)
        for stored in entries:
            buffer.add(stored)
    elif name == "expire":
        buffer.expire(entries[0].step - 20)
    elif name == "drop":
        buffer.drop_prompt(key)
    return numbers(buffer.draw(4, rng, rng.choice([None, key])))


def made(entry, step):
    rng = Random(step)
    return [
        entry(rng.choice(KEYS), step, rng.gauss(0, 1), rng.random(), rng.random() < 0.3, rng.random() < 0.7)
        for _ in range(rng.randint(1, 8))
    ]


@given(
    st.lists(st.tuples(st.sampled_from(["visit"] * 4 + ["expire", "drop", "draw"]), st.booleans()), max_size=30),
    st.sampled_from(DRAWS),
    st.integers(0, 1000),
)
@settings(max_examples=120, deadline=None)
def test_the_same_draws_and_the_same_content_from_then_on(entry, through_a_file, history, draw, seed):
    kept, stopped = new_buffer(draw), new_buffer(draw)
    for step, (name, stops) in enumerate(history):
        if stops:
            stopped = reload(stopped, through_a_file)
        entries = made(entry, step)
        assert change(stopped, name, seed + step, entries) == change(kept, name, seed + step, entries)
        assert numbers(stopped) == numbers(kept)
        assert stopped.occupancy() == kept.occupancy()
        assert stopped.num_evicted == kept.num_evicted


@pytest.mark.parametrize("draw", DRAWS)
def test_long_histories_too(entry, through_a_file, draw):
    # Long enough for queues to have been closed up in one buffer and not in the other.
    rng, kept, stopped = Random(1), new_buffer(draw, 40), new_buffer(draw, 40)
    for step in range(300):
        if rng.random() < 0.05:
            stopped = reload(stopped, through_a_file)
        name, entries = rng.choice(["visit"] * 6 + ["expire", "drop", "draw"]), made(entry, step)
        assert change(stopped, name, step, entries) == change(kept, name, step, entries)
        assert numbers(stopped) == numbers(kept)
    assert kept.num_evicted == stopped.num_evicted


def filled(entry, steps=40):
    buffer = new_buffer()
    for step in range(steps):
        change(buffer, "visit", step, made(entry, step))
    return buffer


def test_a_completion_comes_back_as_it_was(entry, through_a_file):
    buffer = filled(entry)
    assert {e.hinted for e in buffer} == {e.ref_logprobs is None for e in buffer} == {True, False}
    for old, new in zip(buffer, reload(buffer, through_a_file), strict=True):
        for name in ("key", "reward", "hinted", "step", "priority"):
            assert getattr(new, name) == getattr(old, name)
            assert type(getattr(new, name)) is type(getattr(old, name))
        torch.testing.assert_close(new.ids, old.ids, rtol=0, atol=0)
        torch.testing.assert_close(new.behaviour_logprobs, old.behaviour_logprobs, rtol=0, atol=0)
        if old.ref_logprobs is None:
            assert new.ref_logprobs is None
        else:
            torch.testing.assert_close(new.ref_logprobs, old.ref_logprobs, rtol=0, atol=0)


def bytes_kept(stored):
    """Of the storages behind a completion, each counted once, however much of it the completion uses."""
    tensors = (stored.ids, stored.behaviour_logprobs, stored.ref_logprobs)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t is not None}
    return sum(storages.values())


def test_a_loaded_completion_does_not_keep_the_whole_checkpoint_in_memory(entry, through_a_file):
    for e in reload(filled(entry), through_a_file):
        assert bytes_kept(e) == (8 if e.ref_logprobs is None else 12) * len(e.ids)


def test_a_completion_does_not_keep_the_batch_it_was_cut_from_in_memory():
    ids, logprobs = torch.zeros(8, 100, dtype=torch.int32), torch.zeros(8, 100)
    cut = Entry("a", ids[0, :7], logprobs[0, :7], logprobs[1, :7], 0.0, False, 0, 0.0)
    assert bytes_kept(cut) == 12 * 7


def test_a_state_is_about_twelve_bytes_a_token():
    buffer = new_buffer(capacity=1000)
    long = torch.zeros(200)
    for _ in range(100):
        buffer.add(Entry("a", long.int(), long, long, 0.0, False, 0, 0.0))
    tensors = [value for value in buffer.state_dict().values() if isinstance(value, torch.Tensor)]
    assert sum(t.nbytes for t in tensors) < 1.05 * 12 * 100 * 200


@pytest.mark.parametrize("reference", [True, False])
def test_an_empty_buffer_and_one_without_a_reference_come_back_too(entry, through_a_file, reference):
    buffer = new_buffer()
    assert len(reload(buffer, through_a_file)) == 0
    buffer.add(entry("a", reference=reference))
    assert numbers(reload(buffer, through_a_file)) == numbers(buffer)


def test_a_smaller_capacity_keeps_the_newest_of_each_tier(entry, through_a_file):
    buffer = filled(entry)
    small = ReplayBuffer(Replay(capacity=10, minimum=0), buffer.tracker)
    small.load_state_dict(through_a_file(buffer.state_dict()))
    for name, quota in {"hard": 4, "medium": 4, "easy": 2}.items():  # edges at 4.0 and 7.5, the latter rounded to 8
        in_tier = sorted(numbers(e for e in buffer if buffer.tier_of(e.key) == name))
        assert sorted(numbers(e for e in small if buffer.tier_of(e.key) == name)) == in_tier[-quota:]


def test_what_was_held_before_loading_is_forgotten(entry, through_a_file):
    buffer, other = filled(entry), new_buffer()
    other.add(entry("gone"))
    other.tracker.load_state_dict(buffer.tracker.state_dict())
    other.load_state_dict(through_a_file(buffer.state_dict()))
    assert "gone" not in other
    assert numbers(other) == numbers(buffer)


def test_a_broken_state_is_said(entry):
    whole = filled(entry).state_dict()
    tensors = {name: value for name, value in whole.items() if isinstance(value, torch.Tensor)}
    broken = {f"without {name}": {k: v for k, v in whole.items() if k != name} for name in whole}
    broken |= {f"{name}: none": {**whole, name: None} for name in (*tensors, "keys")}
    broken |= {f"{name}: one missing": {**whole, name: value[:-1]} for name, value in tensors.items()}
    broken |= {f"{name}: one too many": {**whole, name: torch.cat([v, v[:1]])} for name, v in tensors.items()}
    broken |= {
        "one key missing": {**whole, "keys": whole["keys"][:-1]},
        "one prompt twice": {**whole, "keys": whole["keys"][:1] * len(whole["keys"])},
        "all in one slot": {**whole, "slots": whole["slots"] * 0},
        "slots below zero": {**whole, "slots": -1 - whole["slots"]},
        "prompts of nothing": {**whole, "counts": whole["counts"] * 0},
    }
    for name, state in broken.items():
        with pytest.raises(CheckpointError, match="the replay buffer of the checkpoint is broken"):
            pytest.fail(f"{name} was taken: {new_buffer().load_state_dict(state)}")
