"""Which prompts are asked with their hint, and which prompt and group a stored completion is replayed for."""

import pytest
import torch

from avatar.errors import DataError
from avatar.modules.mixing import Placed, place, pose, replayed_experience, without_spread
from avatar.modules.rollout import Rollout, replay_metrics, visits_of
from avatar.replay import Entry, Memory, Replay, Visit, ZeroStreak
from avatar.types import Completion, Experience, Prompt


def prompt(key, hint="look twice"):
    return Prompt(key, [{"role": "user", "content": f"question {key}"}], (), "1", hint=hint)


def entry(key, hinted=False, step=1, reward=1.0, ids=(5, 6, 7)):
    ids = torch.tensor(ids, dtype=torch.int32)
    return Entry(key, ids, -0.1 * ids.float(), None, reward, hinted, step, 0.0)


def memory_of(hinted=(), window=20, **replay):
    """A memory that wants hints for these prompts: each has had one visit on which nothing was earned."""
    memory = Memory(Replay(**replay), ZeroStreak(1), window)
    memory.record([Visit(key, 1, [0.0], [], False, 0.0, []) for key in hinted])
    return memory


def no_fetch(key):
    raise AssertionError(f"{key} is in the batch and need not be read again")


# -- pose --------------------------------------------------------------------------------------------------------------


def test_only_prompts_that_need_it_and_have_one_are_shown_a_hint():
    batch = [prompt("a"), prompt("b"), prompt("c", hint=None), prompt("d"), prompt("e", hint="")]
    posed = pose(batch, memory_of(hinted=["b", "c", "d", "e"]), 5)
    assert posed.prompts[:5] == batch
    assert [p.key for p in posed.prompts[5:]] == ["b", "d"]
    assert [p.messages[0]["content"] for p in posed.prompts[5:]] == ["Hint: look twice"] * 2
    assert posed.nums == [5, 3, 5, 3, 5, 2, 2]  # of 5 the larger half sees no hint
    assert posed.visit == [0, 1, 2, 3, 4, 1, 3]
    assert posed.lacking == 2
    assert posed.num_visits == 5


def test_without_a_trigger_nothing_is_hinted():
    posed = pose([prompt("a"), prompt("b")], Memory(Replay()), 3)
    assert (posed.nums, posed.visit, posed.lacking) == ([3, 3], [0, 1], 0)


def test_a_prompt_that_comes_twice_in_a_batch_is_hinted_twice():
    posed = pose([prompt("a"), prompt("a")], memory_of(hinted=["a"]), 4)
    assert posed.nums == [2, 2, 2, 2]
    assert posed.visit == [0, 1, 0, 1]


# -- without_spread ----------------------------------------------------------------------------------------------------


def experience(rewards, posed, valid=None):
    num = len(rewards)
    completions = [Completion(torch.tensor([1, 2]), torch.zeros(2), "", True) for _ in range(num)]
    valid = torch.ones(num, dtype=torch.bool) if valid is None else torch.tensor(valid)
    return Experience.from_completions(completions, torch.tensor(posed), torch.tensor(rewards), valid)


@pytest.mark.parametrize(
    ("rewards", "valid", "flat"),
    [
        # posed prompts 0 and 1 are the two visits, 2 is the first with its hint
        ([1.0, 1.0, 2.0, 2.0, 0.0, 0.0], [True] * 6, [True, True]),  # groups differ, but none has a spread
        ([1.0, 0.0, 2.0, 2.0, 0.0, 0.0], [True] * 6, [False, True]),
        ([1.0, 1.0, 2.0, 2.5, 0.0, 0.0], [True] * 6, [True, False]),
        ([1.0, 1.0, 2.0, 2.0, 0.0, 1.0], [True] * 6, [True, True]),  # the hinted group does not count
        ([1.0, 0.0, 2.0, 2.0, 0.0, 0.0], [True, False, True, True, True, True], [True, True]),  # one is left
        ([1.0, 0.0, 2.0, 2.5, 0.0, 0.0], [False] * 6, [True, True]),
    ],
)
def test_a_prompt_is_without_spread_if_its_unhinted_group_has_none(rewards, valid, flat):
    assert without_spread(experience(rewards, [0, 0, 1, 1, 2, 2], valid), [0, 1, 0]) == flat


# -- place -------------------------------------------------------------------------------------------------------------


def test_own_completions_join_the_group_of_their_kind():
    batch = [prompt("a"), prompt("b")]
    posed = pose(batch, memory_of(hinted=["b"]), 4)  # posed: a, b, b with hint
    drawn = [[entry("a"), entry("a")], [entry("b"), entry("b", hinted=True)]]
    placed = place(batch, posed, drawn, no_fetch)
    assert placed.entries == [*drawn[0], *drawn[1]]
    assert placed.prompt == [0, 0, 1, 2]
    assert placed.group == [0, 0, 1, 2]
    assert placed.extra == []


def test_own_hinted_completions_of_a_visit_without_a_hint_are_a_group_of_their_own():
    batch = [prompt("a"), prompt("b")]
    posed = pose(batch, Memory(Replay()), 4)
    placed = place(batch, posed, [[entry("a", True), entry("a"), entry("a", True)], [entry("b", True)]], no_fetch)
    assert [(p.key, p.messages[0]["content"]) for p in placed.extra] == [
        ("a", "Hint: look twice"), ("b", "Hint: look twice")
    ]  # fmt: skip
    assert placed.prompt == [2, 0, 2, 3]
    assert placed.group == [2, 0, 2, 3]


def test_completions_of_other_prompts_join_the_plain_group_that_they_are_replayed_for():
    batch = [prompt("a"), prompt("b")]
    posed = pose(batch, memory_of(hinted=["a"]), 4)  # posed: a, b, a with hint
    asked = []

    def fetch(key):
        asked.append(key)
        return prompt(key)

    drawn = [[entry("x"), entry("b"), entry("x", True)], [entry("x"), entry("a", True), entry("y"), entry("b")]]
    placed = place(batch, posed, drawn, fetch)
    assert [(p.key, len(p.messages)) for p in placed.extra] == [("x", 1), ("x", 2), ("y", 1)]
    assert placed.prompt == [3, 1, 4, 3, 2, 5, 1]
    assert placed.group == [0, 0, 0, 1, 1, 1, 1]
    assert asked == ["x", "x", "y"]  # once for each variant


def test_a_prompt_that_comes_twice_in_a_batch_keeps_its_two_groups_apart():
    batch = [prompt("a"), prompt("b"), prompt("a")]
    posed = pose(batch, memory_of(hinted=["a"]), 4)  # posed: a, b, a, a with hint, a with hint
    drawn = [[entry("a"), entry("a", True)], [], [entry("a"), entry("a", True)]]
    placed = place(batch, posed, drawn, no_fetch)
    assert placed.group == [0, 3, 2, 4]
    contents = [posed.prompts[i].messages for i in placed.prompt]
    assert contents == [posed.prompts[i].messages for i in placed.group]


def test_an_unreadable_prompt_is_named_once_and_nothing_of_it_is_placed():
    batch, asked = [prompt("a")], []
    posed = pose(batch, Memory(Replay()), 4)

    def fetch(key):
        asked.append(key)
        raise DataError(f"no record {key!r}")

    placed = place(batch, posed, [[entry("x"), entry("a"), entry("x"), entry("x", True)]], fetch)
    assert [e.key for e in placed.entries] == ["a"]
    assert (placed.prompt, placed.group, placed.extra) == ([0], [0], [])
    assert placed.unreadable == {"x": "no record 'x'"}
    assert asked == ["x"]


def test_a_hinted_completion_whose_prompt_has_lost_its_hint_is_not_placed():
    batch = [prompt("a", hint=None)]
    placed = place(batch, pose(batch, Memory(Replay()), 4), [[entry("a", True), entry("a")]], no_fetch)
    assert [e.hinted for e in placed.entries] == [False]
    assert "no hint" in placed.unreadable["a"]


# -- replayed_experience -----------------------------------------------------------------------------------------------


def test_stored_completions_are_taken_over_as_they_are():
    memory = memory_of()
    memory.record([Visit("a", 3, [1.0, 0.0], [3.0], True, 0.0, []), Visit("b", 3, [2.0], [], True, 0.0, [])])
    entries = [
        entry("a", step=2, reward=0.5, ids=(5, 6)),
        entry("a", hinted=True, step=3, reward=2.5, ids=(7, 8, 9)),
        entry("b", hinted=True, step=1, reward=0.25, ids=(4,)),
    ]
    placed = Placed(entries, [0, 3, 4], [0, 3, 1], [], {})
    out = replayed_experience(placed, memory, torch.device("cpu"))
    assert out.ids.tolist() == [[5, 6, 0], [7, 8, 9], [4, 0, 0]]
    assert out.ids.dtype == torch.int64
    assert out.mask.tolist() == [[True, True, False], [True, True, True], [True, False, False]]
    for row, stored in zip(out.behaviour_logprobs, entries, strict=True):
        assert row[: len(stored.ids)].equal(stored.behaviour_logprobs)
        assert not row[len(stored.ids) :].any()
    assert out.rewards.tolist() == [0.5, 2.5, 0.25]
    assert out.valid.all()
    assert out.is_replayed.all()
    assert out.hinted.tolist() == [False, True, True]
    assert out.step.tolist() == [2, 3, 1]
    assert (out.prompt.tolist(), out.group.tolist()) == ([0, 3, 4], [0, 3, 1])
    assert out.reference_score[:2].tolist() == [0.5, 3.0]  # plain and hinted rewards of a prompt apart
    assert out.reference_score[2].isnan()  # b was never hinted
    fresh = experience([1.0, 2.0], [0, 1])
    joined = fresh.join(out)
    assert joined.is_replayed.tolist() == [False, False, True, True, True]
    assert joined.mask.sum(-1).tolist() == [2, 2, 2, 3, 1]


# -- what is remembered of a step, and what is logged ------------------------------------------------------------------


def rollout_of(batch, memory, rewards, valid=None, drawn=None, ref=None, earned=None, fetch=no_fetch):
    """A step with four completions a prompt, in groups as they are posed."""
    posed = pose(batch, memory, 4)
    index = torch.arange(len(posed.prompts)).repeat_interleave(torch.tensor(posed.nums))
    num, lengths = len(index), [1 + i % 3 for i in range(len(index))]
    completions = [
        Completion(torch.arange(n), torch.full((n,), -1.0 - i), "", True, int(index[i]) >= len(batch), 9)
        for i, n in enumerate(lengths)
    ]
    valid = torch.ones(num, dtype=torch.bool) if valid is None else torch.tensor(valid)
    fresh = Experience.from_completions(completions, index, torch.tensor(rewards), valid)
    placed = place(batch, posed, drawn or [[] for _ in batch], fetch)
    joined = fresh.join(replayed_experience(placed, memory, torch.device("cpu"))) if placed.entries else fresh
    estimates = torch.arange(len(joined)).float()
    ref_logprobs = None if ref is None else joined.behaviour_logprobs + ref
    earned = torch.tensor(earned if earned is not None else [True] * num)
    return Rollout(
        9, posed, completions, placed.entries, {}, joined, {}, earned, estimates, joined.mask * 1.0, ref_logprobs
    )


def test_a_visit_holds_what_its_prompt_brought_hinted_and_plain_apart():
    batch, memory = [prompt("a"), prompt("b")], memory_of(hinted=["b"])
    rewards = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 20.0, 21.0]  # a x 4, b x 2, b with hint x 2
    valid = [True, True, False, True, True, True, True, False]
    a, b = visits_of(rollout_of(batch, memory, rewards, valid, drawn=[[entry("a")], []], ref=0.5), Replay())
    assert (a.key, a.step, a.rewards, a.hinted_rewards) == ("a", 9, [0.0, 1.0, 3.0], [])
    assert (b.key, b.step, b.rewards, b.hinted_rewards) == ("b", 9, [10.0, 11.0], [20.0])
    assert [(e.reward, e.hinted, e.step, e.key) for e in b.entries] == [
        (10.0, False, 9, "b"), (11.0, False, 9, "b"), (20.0, True, 9, "b")
    ]  # fmt: skip
    kl = torch.tensor(0.5).exp() - 0.5 - 1  # of every token, so of every completion
    assert a.kl == pytest.approx(float(kl))
    assert [e.priority for e in a.entries] == pytest.approx([i - 0.1 * float(kl) for i in (0, 1, 3)])
    for e in a.entries + b.entries:
        torch.testing.assert_close(e.ref_logprobs, e.behaviour_logprobs + 0.5)
        assert (e.ids.dtype, e.behaviour_logprobs.dtype) == (torch.int32, torch.float32)


def test_what_only_hinted_or_invalid_completions_earned_is_not_earned():
    batch, memory = [prompt("a"), prompt("b")], memory_of(hinted=["b"])
    valid = [True, False, True, True, True, True, True, True]
    earned = [False, True, False, False, False, False, True, True]
    a, b = visits_of(rollout_of(batch, memory, [0.0] * 8, valid, earned=earned), Replay())
    assert not a.earned  # by an invalid one only
    assert not b.earned  # by hinted ones only
    _, b = visits_of(rollout_of(batch, memory, [0.0] * 8, valid, earned=[False] * 4 + [True] * 4), Replay())
    assert b.earned


def test_without_a_reference_no_kl_is_known_and_none_is_taken_off():
    batch = [prompt("a")]
    (visit,) = visits_of(rollout_of(batch, memory_of(), [0.0, 1.0, 2.0, 3.0]), Replay(priority_reward=2.0))
    assert visit.kl != visit.kl
    assert [e.priority for e in visit.entries] == [0.0, 2.0, 4.0, 6.0]
    assert all(e.ref_logprobs is None for e in visit.entries)


def test_the_hit_rate_counts_prompts_and_not_groups():
    batch, memory = [prompt("a"), prompt("b"), prompt("c")], memory_of(hinted=["b"])
    both = [[entry("a"), entry("a", True)], [entry("b"), entry("b", True)], []]
    metrics = replay_metrics(rollout_of(batch, memory, [0.0] * 12, drawn=both), memory, 1.0, asked=3)
    assert metrics["replay/hit_rate"] == pytest.approx(2 / 3)
    mixed = [[entry("c")], [entry("a", True), entry("x")], [entry("x", True)]]
    rollout = rollout_of(batch, memory, [0.0] * 12, drawn=mixed, fetch=prompt)
    assert replay_metrics(rollout, memory, 1.0, asked=3)["replay/hit_rate"] == 1
    assert "replay/hit_rate" not in replay_metrics(rollout, memory, 0.0, asked=0)


def test_without_replay_nothing_is_copied_to_be_stored():
    (visit,) = visits_of(rollout_of([prompt("a")], memory_of(), [0.0, 1.0, 2.0, 3.0]), None)
    assert visit.rewards == [0.0, 1.0, 2.0, 3.0]
    assert visit.entries == []
