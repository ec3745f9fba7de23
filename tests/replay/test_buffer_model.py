"""The buffer beside a model that sorts all prompts anew and searches all completions, over random histories."""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.replay import TIERS, Replay, ReplayBuffer, RewardTracker

KEYS = st.sampled_from("abcdefghij")
REWARDS = st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0]), max_size=4)  # often equal, so that ties are common
VISIT = st.tuples(KEYS, REWARDS, st.lists(st.sampled_from([0.0, 1.0]), max_size=2), st.integers(0, 8))
STEP = st.one_of(
    st.tuples(st.just("visit"), st.lists(VISIT, min_size=1, max_size=4)),
    st.tuples(st.just("draw"), st.integers(0, 12), st.none() | KEYS),
    st.tuples(st.just("expire"), st.integers(0, 6)),
    st.tuples(st.just("drop"), KEYS),
)
SHARES = [(0.25, 0.35, 0.40), (1 / 3, 1 / 3, 1 / 3), (0.1, 0.2, 0.7), (0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (0.0, 0.0, 1.0)]


class Model:
    """Completions in the order they came, and rewards by prompt; nothing else is kept."""

    def __init__(self, replay, window):
        self.replay, self.window = replay, window
        self.entries, self.rewards, self.last, self.num_evicted = [], {}, {}, 0

    def tier_of(self, key):
        scored = [k for k, r in self.rewards.items() if r]
        if key not in scored:
            return "hard"
        ordered = sorted(scored, key=lambda k: (sum(self.rewards[k]) / len(self.rewards[k]), self.last[k], k))
        below = Fraction(ordered.index(key), len(ordered))  # share of prompts that are harder, exact
        hard, easy = (
            Fraction(share).limit_denominator(1000) for share in (self.replay.hard_share, self.replay.easy_share)
        )
        return "hard" if below < hard else "medium" if below < 1 - easy else "easy"

    def in_tier(self, name):
        tiers = {key: self.tier_of(key) for key in {e.key for e in self.entries}}
        return [e for e in self.entries if tiers[e.key] == name]

    def record(self, key, rewards, step):
        self.rewards[key] = (self.rewards.get(key, []) + rewards)[-self.window :]
        self.last[key] = step

    def fit(self):
        """Exactly the oldest of an over-full tier leave."""
        for name, quota in self.replay.quotas().items():
            stored = self.in_tier(name)
            for entry in stored[: max(0, len(stored) - quota)]:
                self.entries.remove(entry)
                self.num_evicted += 1

    def remove(self, entries):
        self.entries = [e for e in self.entries if e not in entries]


class Both:
    """A buffer and its model, which are asked the same."""

    def __init__(self, replay, window, entry):
        self.buffer, self.model = ReplayBuffer(replay, RewardTracker(window)), Model(replay, window)
        self.entry, self.rng, self.step = entry, Random(0), 0

    def run(self, history):
        for name, *arguments in history:
            getattr(self, name)(*arguments)
            self.step += 1
            self.check()

    def visit(self, visits):
        """Rewards of all prompts of a step, then tiers, then completions: the order of the training loop."""
        for key, rewards, hinted, _ in visits:
            self.buffer.tracker.record(key, rewards, hinted, step=self.step)
            self.model.record(key, rewards, self.step)
        self.buffer.refile([key for key, *_ in visits])
        self.model.fit()
        self.check()
        for key, _, _, num in visits:
            for _ in range(num):
                stored = self.entry(key, self.step, priority=self.rng.uniform(-2, 2))
                self.buffer.add(stored)
                self.model.entries.append(stored)
                self.model.fit()

    def draw(self, num, key):
        before = [e for e in self.model.entries if key in (None, e.key)]
        in_tier = {name: self.model.in_tier(name) for name in TIERS}
        drawn = self.buffer.draw(num, self.rng, key)
        assert len(drawn) == len(set(drawn)) == min(num, len(before))
        assert set(drawn) <= set(before)
        fifo = self.model.replay.draw == "fifo"
        if key is None:
            for name, stored in in_tier.items():
                mine = [e for e in drawn if e in stored]
                assert len(mine) >= min(int(num * self.model.replay.share(name)), len(stored))
                assert not fifo or mine == stored[: len(mine)]
        elif fifo:
            assert drawn == before[: len(drawn)]
        if fifo:
            self.model.remove(drawn)

    def expire(self, age):
        old = [e for e in self.model.entries if e.step < self.step - age]
        assert self.buffer.expire(self.step - age) == len(old)
        self.model.remove(old)

    def drop(self, key):
        self.buffer.drop_prompt(key)
        self.model.remove([e for e in self.model.entries if e.key == key])

    def check(self):
        buffer, model = self.buffer, self.model
        stored = list(buffer)
        assert len(buffer) == len(stored) == len(set(stored))
        assert set(stored) == set(model.entries)
        assert buffer.num_evicted == model.num_evicted
        keys = {e.key for e in stored}
        for key in "abcdefghij":
            assert buffer.tier_of(key) == model.tier_of(key)
            assert (key in buffer) == (key in keys)
            assert [e for e in stored if e.key == key] == [e for e in model.entries if e.key == key]
        for name, occupied in buffer.occupancy().items():
            expected = model.in_tier(name)
            assert occupied.entries == len(expected) <= occupied.quota == model.replay.quotas()[name]
            assert occupied.prompts == len({e.key for e in expected})
            # What is kept up to date by small steps: where each prompt stands, and the weights that draws go by.
            tier, weights = buffer._tiers[name], sum(buffer._weight(e) for e in expected)
            assert tier.weights.total == pytest.approx(weights, rel=1e-12)
            assert tier.weights.total > 0 or not expected
            assert {k for k in keys if buffer._shelves[k].tier == name} == {e.key for e in expected}


@given(
    st.lists(STEP, max_size=25),
    st.sampled_from(["priority", "uniform", "fifo"]),
    st.integers(1, 40),
    st.sampled_from(SHARES),
    st.sampled_from([1, 3, 20]),
)
@settings(max_examples=200, deadline=None)
def test_after_every_step_it_holds_what_the_model_holds(entry, history, draw, capacity, shares, window):
    easy, medium, hard = shares
    tiers = {"easy_share": easy, "medium_share": medium, "hard_share": hard}
    replay = Replay(draw=draw, capacity=capacity, minimum=0, **tiers)
    Both(replay, window, entry).run(history)


@pytest.mark.parametrize("draw", ["priority", "uniform", "fifo"])
def test_long_histories_too(entry, draw):
    # Long enough for queues to be closed up and for slots to be given away and taken again.
    rng = Random(0)
    names = ["visit"] * 8 + ["draw"] * 4 + ["expire", "drop"]
    both = Both(Replay(draw=draw, capacity=40, minimum=0), 5, entry)
    for _ in range(150):
        name = rng.choice(names)
        visits = [
            (rng.choice("abcdefghij"), rng.choices([0.0, 0.5, 1.0], k=rng.randrange(4)), [], rng.randrange(9))
            for _ in range(rng.randrange(1, 4))
        ]
        key = rng.choice("abcdefghij")
        arguments = {
            "visit": [visits],
            "draw": [rng.randrange(12), rng.choice([None, key])],
            "expire": [rng.randrange(20, 40)],
            "drop": [key],
        }
        both.run([(name, *arguments[name])])
    assert both.buffer.num_evicted > 100


@given(st.integers(1, 60), st.data())
@settings(max_examples=100, deadline=None)
def test_refiling_many_prompts_at_once_is_refiling_all(entry, num, data):
    # Prompts beside the changed ones cross an edge too; here as many as there are change in one go, old ones and new.
    buffer = ReplayBuffer(Replay(), RewardTracker(1))
    keys = [f"p{i:02d}" for i in range(num)]
    for step, key in enumerate(keys):
        buffer.tracker.record(key, [data.draw(st.sampled_from([0.0, 0.5, 1.0]))], step=step)
    for key in keys:
        buffer.add(entry(key))
    changed = data.draw(st.lists(st.sampled_from(keys + [f"new{i}" for i in range(10)]), max_size=20))
    for step, key in enumerate(changed, num):
        buffer.tracker.record(key, [data.draw(st.sampled_from([0.0, 0.5, 1.0]))], step=step)
    buffer.refile(changed)
    assert {key: buffer._shelves[key].tier for key in keys} == {key: buffer.tier_of(key) for key in keys}
