"""Tracker, buffer and trigger kept in step: when there is replay, of what, and what a checkpoint brings back."""

import io
import math
from random import Random

import pytest
import torch

from avatar.errors import CheckpointError
from avatar.replay import Entry, HintTrigger, Memory, Replay, Stuck, Visit, ZeroStreak
from avatar.types import Prompt


def prompt(key):
    return Prompt(key, [{"role": "user", "content": key}], (), "1")


def entry(key, step, reward=1.0, hinted=False, length=3):
    ids = torch.arange(step, step + length, dtype=torch.int32)
    return Entry(key, ids, -ids.float(), -2 * ids.float(), reward, hinted, step, reward)


def visit(key, step, rewards=(1.0,), hinted=(), earned=True, kl=0.2, length=3):
    entries = [entry(key, step, r, False, length) for r in rewards] + [entry(key, step, r, True) for r in hinted]
    return Visit(key, step, list(rewards), list(hinted), earned, kl, entries)


def draws(memory, keys, step, wanted=None, seed=0):
    return memory.draw([prompt(key) for key in keys], wanted or [True] * len(keys), step, Random(seed))


# -- alpha -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ramp_steps", "alphas"),
    [(0, [0, 0, 0, 0.5, 0.5, 0.5, 0.5]), (1, [0, 0, 0, 0.5, 0.5, 0.5, 0.5]), (2, [0, 0, 0, 0.25, 0.5, 0.5, 0.5])],
)
def test_alpha_is_zero_until_the_step_after_the_minimum_and_then_grows(ramp_steps, alphas):
    memory, seen = Memory(Replay(alpha=0.5, minimum=5, ramp_steps=ramp_steps)), []
    for step in range(1, 8):
        seen.append(memory.alpha(step))
        memory.record([visit("a", step, [1.0, 0.0])], replayed=seen[-1] > 0)  # the sixth is stored at step 3
    assert seen == alphas
    assert memory.replay_since == 3


def test_the_ramp_waits_for_the_first_replay():
    memory, seen = Memory(Replay(minimum=1, ramp_steps=4)), []
    for step in range(1, 9):
        seen.append(memory.alpha(step))
        memory.record([visit("a", step)], replayed=step >= 5)  # until then no prompt came back
    assert seen == [0, 0.25, 0.25, 0.25, 0.25, 0.5, 0.75, 1.0]


def test_a_minimum_of_zero_still_waits_for_something_to_replay():
    memory = Memory(Replay(minimum=0))
    memory.record([])
    memory.record([visit("a", 1, [])])
    assert memory.alpha(2) == 0
    memory.record([visit("a", 2)])
    assert memory.alpha(3) == 1


def test_once_begun_replay_does_not_stop_when_the_buffer_falls_below_the_minimum():
    memory = Memory(Replay(minimum=2, max_staleness=1))
    memory.record([visit("a", 1, [1.0, 2.0])])
    assert draws(memory, ["a"], 3) == [[]]  # both have become too old
    assert len(memory.buffer) == 0
    assert memory.alpha(4) == 1


def test_without_replay_settings_there_is_no_buffer_but_a_tracker():
    memory = Memory(None, ZeroStreak(1))
    memory.record([visit("a", 1, [0.0], earned=False)])
    assert memory.buffer is None
    assert memory.alpha(9) == 0
    assert draws(memory, ["a"], 9) == [[]]
    assert memory.tracker.reference_score("a") == 0
    assert memory.wants_hint("a")


# -- draw --------------------------------------------------------------------------------------------------------------


def filled(**replay):
    memory = Memory(Replay(**({"minimum": 1} | replay)))
    for step, key in enumerate("abcabcabc", 1):
        memory.record([visit(key, step, [float(step), 0.0])])
    return memory


def test_scope_prompt_gives_each_prompt_its_own_and_any_gives_of_all():
    own = draws(filled(num_replayed=4), ["a", "c", "unseen"], 10)
    assert [len(d) for d in own] == [4, 4, 0]
    assert [{e.key for e in d} for d in own] == [{"a"}, {"c"}, set()]
    drawn = draws(filled(num_replayed=18, scope="any"), ["a", "unseen"], 10)
    assert [len(d) for d in drawn] == [18, 18]
    assert all({e.key for e in d} == {"a", "b", "c"} for d in drawn)


def test_only_what_is_wanted_is_drawn():
    assert [len(d) for d in draws(filled(), ["a", "b"], 10, [False, True])] == [0, 4]


def test_a_draw_hangs_on_its_seed_alone():
    for scope in ("prompt", "any"):
        first, again, other = (draws(filled(scope=scope), ["a", "b"], 10, seed=s) for s in (1, 1, 2))
        keys = [[(e.key, e.step, e.reward) for d in drawn for e in d] for drawn in (first, again, other)]
        assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("scope", ["prompt", "any"])
@pytest.mark.parametrize("most", [0, 1, 3, 8])
def test_what_is_too_stale_goes_and_what_is_just_as_old_stays(scope, most):
    memory = filled(scope=scope, max_staleness=most, num_replayed=18)
    drawn = [e for d in draws(memory, ["a", "b", "c"], 9) for e in d]
    left = range(9 - most, 10)  # steps of what is 0 .. most old
    assert {e.step for e in drawn} == set(left)
    assert len(memory.buffer) == 2 * len(left)


def test_nothing_is_drawn_and_nothing_dropped_while_alpha_is_zero():
    for memory in (filled(alpha=0.0, max_staleness=0), filled(minimum=100, max_staleness=0)):
        assert draws(memory, ["a"], 100) == [[]]
        assert len(memory.buffer) == 18


# -- record ------------------------------------------------------------------------------------------------------------


def test_tiers_follow_the_rewards_of_the_very_same_step():
    memory = Memory(Replay(hard_share=0.5, medium_share=0.0, easy_share=0.5))
    memory.record([visit("a", 1, [0.0]), visit("b", 1, [1.0])])
    assert [memory.buffer.tier_of(key) for key in "ab"] == ["hard", "easy"]
    memory.record([visit("a", 2, [5.0])])  # (0 + 5) / 2 > 1
    assert [memory.buffer.tier_of(key) for key in "ab"] == ["easy", "hard"]
    occupancy = memory.buffer.occupancy()
    assert (occupancy["easy"].entries, occupancy["hard"].entries) == (2, 1)


def test_hinted_rewards_move_neither_score_nor_tier():
    memory = Memory(Replay())
    memory.record([visit("a", 1, [1.0, 0.0], hinted=[9.0]), visit("b", 1, [], hinted=[9.0])])
    assert memory.tracker.reference_score("a") == 0.5
    assert memory.tracker.reference_score("a", hinted=True) == 9
    assert math.isnan(memory.tracker.reference_score("b"))
    assert memory.buffer.tier_of("b") == "hard"  # hardly known is hard
    assert len(memory.buffer) == 4


class Recorder(HintTrigger):
    def __init__(self):
        self.asked = []

    def __call__(self, history, window):
        self.asked.append((list(history.rewards), window))
        return len(history.rewards) > 1


def test_a_trigger_sees_the_history_of_its_prompt_and_the_window():
    memory = Memory(None, Recorder(), window=3)
    memory.record([visit("a", 1, [1.0]), visit("b", 1, [0.0, 2.0])])
    assert [memory.wants_hint(key) for key in ("a", "b", "c")] == [False, True, False]
    assert memory.hints.asked == [([1.0], 3), ([0.0, 2.0], 3), ([], 3)]


def test_a_streak_is_of_visits_without_any_plain_success_whatever_the_rewards_say():
    memory = Memory(None, ZeroStreak(2))
    memory.record([visit("a", 1, [0.5, 0.5], earned=False)])  # for the format
    assert not memory.wants_hint("a")
    memory.record([visit("a", 2, [0.5, 0.5], earned=False)])
    assert memory.wants_hint("a")
    memory.record([visit("a", 3, [0.5], hinted=[1.5], earned=False)])
    assert memory.wants_hint("a")
    memory.record([visit("a", 4, [], hinted=[1.5], earned=False)])  # nothing plain was judged: it says nothing
    assert memory.tracker["a"].empty_visits == 3
    memory.record([visit("a", 5, [0.5, 1.5], hinted=[0.0], earned=True)])
    assert not memory.wants_hint("a")


def test_stuck_needs_a_full_window_low_rewards_and_a_low_measured_kl():
    def wants(rewards, kl):
        memory = Memory(None, Stuck(max_reward=0.5, max_kl=0.1), window=4)
        memory.record([visit("a", 1, rewards, kl=kl)])
        return memory.wants_hint("a")

    low = [0.5, 0.5, 0.5, 0.5]
    assert wants(low, 0.1)
    assert not wants(low[:3], 0.1)
    assert not wants([0.5, 0.5, 0.5, 0.6], 0.1)
    assert not wants(low, 0.11)
    assert not wants(low, math.nan)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("draw", ["priority", "uniform", "fifo"])
@pytest.mark.parametrize("scope", ["prompt", "any"])
def test_a_memory_that_comes_back_goes_on_as_it_would_have(draw, scope):
    def memory():
        return Memory(Replay(minimum=9, draw=draw, scope=scope, capacity=30, ramp_steps=7), ZeroStreak(2), window=5)

    def steps(memory, first, last):
        seen, rng = [], Random(first)
        for step in range(first, last):
            keys = rng.sample("abcdefgh", 2)
            drawn = draws(memory, keys, step, seed=step)
            seen.append((memory.alpha(step), [memory.wants_hint(key) for key in keys]))
            seen.append([(e.key, e.step, e.reward, e.hinted, e.ids.tolist()) for d in drawn for e in d])
            rewards = [[float(rng.randrange(4)) for _ in range(3)] for _ in keys]
            memory.record([
                visit(key, step, r, hinted=r[:1] if rng.random() < 0.3 else [], earned=r[0] > 1, length=1 + step % 4)
                for key, r in zip(keys, rewards, strict=True)
            ])  # fmt: skip
        return seen

    whole, halved = memory(), memory()
    steps(whole, 1, 20)
    steps(halved, 1, 20)
    back = memory()
    back.load_state_dict(through_a_file(halved.state_dict()))
    assert steps(back, 20, 60) == steps(whole, 20, 60)
    assert back.replay_since == whole.replay_since


def test_a_state_without_a_part_is_refused_by_the_name_of_the_part():
    state = filled().state_dict()
    del state["tracker"], state["replay_since"]
    with pytest.raises(CheckpointError, match="lacks replay_since, tracker"):
        Memory(Replay()).load_state_dict(state)


def test_replay_that_is_new_in_a_resumed_run_starts_empty_and_keeps_what_prompts_have_earned():
    plain = Memory(None)
    plain.record([visit("a", 1, [1.0, 3.0])])
    memory = Memory(Replay(minimum=1))
    memory.load_state_dict(through_a_file(plain.state_dict()))
    assert len(memory.buffer) == 0
    assert memory.alpha(2) == 0
    assert memory.tracker.reference_score("a") == 2
    assert memory.buffer.tier_of("a") == "hard"


def test_replay_that_a_resumed_run_has_no_use_for_is_left():
    memory = Memory(None)
    memory.load_state_dict(through_a_file(filled().state_dict()))
    assert memory.buffer is None
    assert memory.alpha(99) == 0
    assert memory.tracker.reference_score("c") == pytest.approx((3 + 6 + 9) / 6)
