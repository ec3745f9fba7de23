"""Replay and hints in the real loop on the tiny real model: what is trained on, stored, scored, counted, resumed."""

import math
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback
from tests_plain import plain_logprobs
from tests_replay import (
    Always,
    KeepSteps,
    PlainModel,
    SaveAt,
    Sometimes,
    Sum,
    deviation,
    fit,
    fresh_rows,
    largest_error,
    module_of,
    past_rewards,
    plain_loss,
    run,
    sgd,
)

from avatar.advantages import AVATAR, GRPO, Mixed
from avatar.errors import DataError
from avatar.losses import Objective
from avatar.replay import TIERS, Replay, ZeroStreak
from avatar.rewards import Format, Reward, Scored


def replayed_groups(rollout):
    return rollout.experience.group[len(rollout.completions) :].tolist()


# -- what is trained on ------------------------------------------------------------------------------------------------


def is_telling(rollout, tokens):
    """Hinted groups in the batch and among what is replayed, ragged, and every kind of clip at work."""
    lengths, hinted = set(rollout.experience.mask.sum(-1).tolist()), {e.hinted for e in rollout.entries}
    ratio, advantages = (
        x[tokens.is_replayed] for x in (tokens.logprobs - tokens.behaviour_logprobs, tokens.advantages)
    )
    ratio = ratio.detach().exp()
    clipped = [(ratio > 1.25) & (advantages > 0), (ratio < 0.75) & (advantages < 0), (ratio > 1.35) & (advantages < 0)]
    has_groups = rollout.posed.num_visits == 2 and len(rollout.posed.prompts) > 2 and hinted == {True, False}
    return has_groups and len(lengths) > 1 and all(kind.any() for kind in clipped)


@pytest.mark.parametrize(
    ("scope", "advantage", "strength", "kl_on", "temperature"),
    [
        ("prompt", AVATAR(), 0.3, "fresh", 1.0),
        ("any", AVATAR(), 0.3, "fresh", 1.3),
        ("prompt", Mixed(std_floor=2.0), 0.0, "all", 0.8),
        ("any", Mixed(std_floor=2.0), 0.0, "all", 1.0),
    ],
)
def test_the_gradient_of_a_mixed_step_equals_that_of_a_plain_loop(
    micro, adapter, tmp_path, scope, advantage, strength, kl_on, temperature
):
    """Off-policy completions and hinted groups ride along; the policy has moved far enough for both clips to bite."""
    objective = Objective(kl_on=kl_on, clip_eps_high=0.25, dual_clip=1.3)
    module, keep = run(
        micro, tmp_path, 40, tensors_from=6, advantage=advantage, hints=Sometimes(), optimizer=sgd(0.3),
        replay=Replay(alpha=0.7, minimum=1, scope=scope), objective=objective, temperature=temperature,
    )  # fmt: skip
    telling = [i for i in range(6, 40) if is_telling(keep.rollouts[i], keep.tokens[i])]
    assert telling, "no step has all that this test wants to see"
    i = telling[-1]
    module.policy.load_state_dict(keep.weights[i])
    module.policy.zero_grad()
    prompt_of = module.trainer.datamodule.prompt
    loss, _ = plain_loss(  # the fixture's adapter is the model that the policy and its reference started as
        module, adapter, keep.rollouts[: i + 1], prompt_of, objective, 0.7, strength, temperature
    )
    loss.backward()
    plain = {k: p.grad for k, p in module.policy.named_parameters() if p.grad is not None}
    assert largest_error(keep.gradients[i], plain) < 1e-5
    assert keep.metrics[i]["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)


@pytest.mark.parametrize("freeze_towers", [True, False])
def test_the_second_update_on_a_rollout_has_the_gradient_of_a_plain_loop_too(micro, adapter, tmp_path, freeze_towers):
    module, keep = run(
        micro, tmp_path, 14, tensors_from=13, advantage=AVATAR(), replay=Replay(minimum=1), hints=Sometimes(),
        optimizer=sgd(0.1), objective=Objective(), updates_per_rollout=2, freeze_towers=freeze_towers,
    )  # fmt: skip
    assert module.global_step == 14
    assert len(keep.rollouts) == 7
    assert module.num_generated == 7 * 2 * 4  # batches x prompts x generations, whatever the number of updates
    assert keep.rollouts[-1].entries
    module.policy.load_state_dict(keep.weights[13])
    module.policy.zero_grad()
    loss, seen = plain_loss(
        module, adapter, keep.rollouts, module.trainer.datamodule.prompt, Objective(), 1.0, 0.3
    )  # the fixture's adapter is the model that the policy and its reference started as
    loss.backward()
    plain = {k: p.grad for k, p in module.policy.named_parameters() if p.grad is not None}
    assert any("visual" in name for name in plain) is not freeze_towers
    assert largest_error(keep.gradients[13], plain) < 1e-5
    first, second = keep.tokens[12:]
    torch.testing.assert_close(first.logprobs[:8], first.behaviour_logprobs[:8], atol=1e-5, rtol=0)  # fresh: on-policy
    assert (second.logprobs[:8] - second.behaviour_logprobs[:8]).abs().max() > 1e-3  # and then no longer
    assert max(abs(ratio - 1) for ratio, _ in seen[False]) > 1e-3


# -- what is stored ----------------------------------------------------------------------------------------------------


def plain_tiers(rollouts, window=20, shares=(0.40, 0.35)):
    """Tier of each prompt by sorting all of them by their mean, those equal by their last visit."""
    visited = {key: rollout.step for rollout in rollouts for _, key, *_ in fresh_rows(rollout)}
    past = past_rewards(rollouts)
    scored = [key for key in visited if past[key, False]]
    order = sorted(
        scored, key=lambda k: (math.fsum(past[k, False][-window:]) / len(past[k, False][-window:]), visited[k])
    )
    edges = [math.ceil(round(sum(shares[:i]) * len(order), 6)) for i in (1, 2)]
    return dict.fromkeys(visited, "hard") | {k: TIERS[sum(rank >= e for e in edges)] for rank, k in enumerate(order)}


def tensors_of(entry):
    return entry.ids, entry.behaviour_logprobs, entry.ref_logprobs


def check_stored(module, keep):
    """Whole completions of this run, each an object of its own, in the tier where their prompt belongs."""
    buffer = module.memory.buffer
    entries = list(buffer)
    made = {(r.step, key, tuple(c.ids.tolist())): (c, reward)
            for r in keep.rollouts for _, key, c, reward, valid in fresh_rows(r) if valid}  # fmt: skip
    for entry in entries:
        completion, reward = made[entry.step, entry.key, tuple(entry.ids.tolist())]
        assert torch.equal(entry.behaviour_logprobs, completion.behaviour_logprobs)
        assert len(entry.behaviour_logprobs) == len(entry.ids) == len(entry.ref_logprobs)
        assert (entry.reward, entry.hinted) == (reward, completion.hinted)
    assert len({id(e) for e in entries}) == len(entries)
    homes = [{t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors_of(e)} for e in entries]
    assert len({place for home in homes for place in home}) == sum(map(len, homes)), "two completions share memory"
    assert [sum(home.values()) for home in homes] == [12 * len(e.ids) for e in entries], "more is kept than is meant"
    wanted = plain_tiers(keep.rollouts)
    assert {e.key: buffer.tier_of(e.key) for e in entries} == {e.key: wanted[e.key] for e in entries}
    stored, prompts = Counter(wanted[e.key] for e in entries), defaultdict(set)
    for e in entries:
        prompts[wanted[e.key]].add(e.key)
    for tier, occupancy in buffer.occupancy().items():
        assert (occupancy.entries, occupancy.prompts) == (stored[tier], len(prompts[tier]))
    return entries, prompts


def test_the_buffer_after_two_hundred_real_steps(micro, tmp_path):
    module, keep = run(
        micro, tmp_path, 200, split="train", batch_size=1, advantage=AVATAR(), replay=Replay(), hints=Sometimes(),
        optimizer=sgd(0.05), objective=Objective(),
    )  # fmt: skip
    entries, prompts = check_stored(module, keep)
    assert len(entries) == 200 * 4
    assert {tier: len(keys) for tier, keys in prompts.items()} == {"hard": 10, "medium": 9, "easy": 6}  # of 25
    replayed = [m["replay/replayed"] for m in keep.metrics]
    assert replayed[0] == 0
    assert all(num == 4 for num in replayed[25:])  # every prompt has been seen once
    assert all(m["replay/hit_rate"] == 1 for m in keep.metrics[25:])
    steps = {e.step for rollout in keep.rollouts[-25:] for e in rollout.entries}
    assert len(steps) > 30, "what is replayed comes from few steps"


def test_a_buffer_that_is_full_keeps_the_newest_of_each_tier(micro, tmp_path):
    module, keep = run(
        micro,
        tmp_path,
        30,
        batch_size=2,
        advantage=Mixed(),
        replay=Replay(capacity=40),
        optimizer=sgd(0.05),
        objective=Objective(),
    )
    entries, _ = check_stored(module, keep)
    assert {t: (o.entries, o.quota) for t, o in module.memory.buffer.occupancy().items()} == {
        "hard": (16, 16), "medium": (14, 14), "easy": (10, 10)
    }  # fmt: skip
    assert len(entries) + module.memory.buffer.num_evicted == 30 * 2 * 4
    assert min(e.step for e in entries) > 10


# -- how it is scored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("temperature", "top_k", "scope"),
    [(0.7, 0, "prompt"), (0.7, 5, "any"), (1.0, 0, "any"), (1.0, 5, "prompt"), (1.3, 0, "prompt"), (1.3, 5, "any")],
)
def test_a_policy_that_does_not_move_gives_every_replayed_token_a_ratio_of_one(
    micro, tmp_path, temperature, top_k, scope
):
    """Hinted completions too, which is only so under the hinted prompt."""
    module, keep = run(
        micro, tmp_path, 9, advantage=AVATAR(), replay=Replay(minimum=1, scope=scope), hints=Always(),
        optimizer=sgd(0.0), objective=Objective(), temperature=temperature, top_k=top_k,
    )  # fmt: skip
    mixed = [m for m in keep.metrics if m["replay/replayed"]]
    assert len(mixed) > 3
    for metrics in mixed:
        for name in ("ratio_max/replayed", "ratio_mean/replayed", "ess/replayed"):
            assert metrics[name] == pytest.approx(1, abs=1e-5)
        assert metrics["clip_share/replayed"] == 0
    entries = [e for rollout in keep.rollouts for e in rollout.entries]
    assert {e.hinted for e in entries} == {True, False}
    prompt_of, adapter = module.trainer.datamodule.prompt, PlainModel(module.policy.adapter)
    with torch.no_grad():
        for entry in [next(e for e in entries if e.hinted), next(e for e in entries if not e.hinted)]:
            plain, hinted = prompt_of(entry.key), prompt_of(entry.key).with_hint()
            right, wrong = (hinted, plain) if entry.hinted else (plain, hinted)
            scored = plain_logprobs(adapter, right, entry.ids.long(), temperature)
            torch.testing.assert_close(scored, entry.behaviour_logprobs, atol=1e-5, rtol=0)
            torch.testing.assert_close(scored, entry.ref_logprobs, atol=1e-5, rtol=0)  # the reference is the policy
            other = plain_logprobs(adapter, wrong, entry.ids.long(), temperature)
            assert (other - entry.behaviour_logprobs).abs().max() > 1e-3, "the hint makes no difference to this test"


# -- alpha, minimum, ramp, staleness, spread ---------------------------------------------------------------------------


def test_an_alpha_of_zero_is_a_run_without_replay_to_the_bit(micro, tmp_path):
    common = {"optimizer": torch.optim.AdamW, "hints": Sometimes(), "objective": Objective()}
    mixed, with_replay = run(micro, tmp_path, 8, advantage=Mixed(), replay=Replay(alpha=0.0, minimum=1), **common)
    plain, without = run(micro, tmp_path, 8, advantage=GRPO(), **common)
    for ours, theirs in zip(with_replay.metrics, without.metrics, strict=True):
        assert set(ours) > set(theirs)
        assert {k: ours[k] for k in theirs} == theirs
        assert ours["replay/replayed"] == 0
    for a, b in zip(mixed.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    assert len(mixed.memory.buffer) == 8 * 2 * 4  # stored all the same


class CountGenerated(Callback):
    """What is logged as generated, step by step."""

    def __init__(self):
        self.logged = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.logged.append(int(trainer.callback_metrics["completions/generated"]))


def test_four_and_four_costs_four(micro, tmp_path):
    count = CountGenerated()
    _, keep = run(
        micro, tmp_path, 8, advantage=AVATAR(), replay=Replay(minimum=1), num_generations=4, callbacks=[count]
    )
    assert count.logged == [8 * (i + 1) for i in range(8)]  # 2 prompts x 4
    assert keep.metrics[-1]["replay/replayed"] == 8
    assert len(keep.rollouts[-1].experience) == 16
    assert len(keep.rollouts[-1].completions) == 8


def test_nothing_is_replayed_before_the_minimum_and_alpha_then_grows_step_by_step(micro, tmp_path):
    replay = Replay(alpha=0.8, minimum=20, ramp_steps=4, scope="any")
    _, keep = run(micro, tmp_path, 10, advantage=Mixed(), replay=replay)
    sizes = [m["replay/size"] for m in keep.metrics]
    assert sizes == [8 * i for i in range(10)]  # the minimum of 20 is there from the fourth step on
    alphas = [m["replay/alpha"] for m in keep.metrics]
    assert alphas == pytest.approx([0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8])
    assert [m["replay/replayed"] for m in keep.metrics] == [0, 0, 0] + [8] * 7
    assert all("replay/hit_rate" not in m for m in keep.metrics[:3])


def test_what_alpha_weighs_is_the_replayed_gradient(micro, tmp_path):
    norms = {}
    for alpha in (0.5, 1.0):
        replay = Replay(alpha=alpha, minimum=1)
        _, keep = run(micro, tmp_path, 8, advantage=Mixed(), replay=replay, optimizer=sgd(0.0), part_norms_every=1)
        norms[alpha] = [m for m in keep.metrics if m["replay/replayed"]]
    for half, whole in zip(norms[0.5], norms[1.0], strict=True):
        assert 2 * half["grad_norm/replayed"] == pytest.approx(whole["grad_norm/replayed"], rel=1e-4)
        assert half["grad_norm/fresh"] == pytest.approx(whole["grad_norm/fresh"], rel=1e-4)


@pytest.mark.parametrize("scope", ["prompt", "any"])
def test_nothing_older_than_the_limit_is_replayed(micro, tmp_path, scope):
    def ages(most):
        replay = Replay(minimum=1, scope=scope, max_staleness=most, num_replayed=8)
        module, keep = run(micro, tmp_path, 12, advantage=Mixed(), replay=replay)
        assert all(m["replay/staleness_max"] <= (most or 99) for m in keep.metrics if m["replay/replayed"])
        return [r.step - e.step for r in keep.rollouts for e in r.entries], module

    young, module = ages(5)
    assert max(young) == 5  # and what is just as old is
    assert max(ages(None)[0]) > 5
    assert min(e.step for e in module.memory.buffer) == 12 - 5


class SpreadForSome(Reward):
    """Random-looking for prompts about sums, always the same for the others."""

    def __call__(self, prompts, completions, group):
        some = [prompts[g].metadata["kind"] in ("sum", "more", "beeps") for g in group.tolist()]
        rewards = [float(int(c.ids.sum()) % 7) if s else 1.0 for c, s in zip(completions, some, strict=True)]
        return Scored(torch.tensor(rewards), torch.ones(len(rewards), dtype=torch.bool))


@pytest.mark.parametrize("hints", [None, Sometimes()])
def test_with_zero_spread_replay_is_for_prompts_whose_fresh_rewards_are_all_equal(micro, tmp_path, hints):
    replay = Replay(minimum=1, when="zero_spread")
    _, keep = run(micro, tmp_path, 15, advantage=Mixed(), replay=replay, rewards=[SpreadForSome()], hints=hints)
    split = 0
    for rollout, metrics in list(zip(keep.rollouts, keep.metrics, strict=True))[5:]:  # all ten have been seen
        groups = defaultdict(list)
        for visit, key, completion, reward, _ in fresh_rows(rollout):
            if not completion.hinted:  # the hinted half helps, it is no reason not to replay
                groups[visit, key].append(reward)
        flat = {key for (_, key), rs in groups.items() if len(set(rs)) == 1}
        assert {e.key for e in rollout.entries} == flat
        if flat:
            assert metrics["replay/hit_rate"] == 1  # of those that it was wanted for
        split += len(flat) == 1
    assert split > 2, "no batch has a prompt of either kind"


# -- what is left out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask_truncated", [False, True])
def test_truncated_completions_are_kept_by_default_and_left_out_on_demand(micro, tmp_path, mask_truncated):
    module, keep = run(
        micro, tmp_path, 15, advantage=Mixed(), replay=Replay(minimum=1), mask_truncated=mask_truncated,
        max_new_tokens=20, optimizer=sgd(0.1),
    )  # fmt: skip
    rows = [row for rollout in keep.rollouts for row in fresh_rows(rollout)]
    assert {c.finished for _, _, c, _, _ in rows} == {True, False}
    assert all(valid is (c.finished or not mask_truncated) for _, _, c, _, valid in rows)
    assert len(module.memory.buffer) == sum(valid for *_, valid in rows)
    if mask_truncated:
        assert all(len(e.ids) < 20 or int(e.ids[-1]) in module.policy.adapter.stop_ids for e in module.memory.buffer)
        cut_off = [r.estimates[i] for r in keep.rollouts for i, c in enumerate(r.completions) if not c.finished]
        assert all(value == 0 for value in cut_off)
    for key in {e.key for e in module.memory.buffer}:
        past = past_rewards(keep.rollouts)[key, False][-20:]
        assert module.memory.tracker.reference_score(key) == pytest.approx(sum(past) / len(past))


class NoneValid(Sum):
    """A judge that is down."""

    def __call__(self, prompts, completions, group):
        scored = super().__call__(prompts, completions, group)
        return Scored(scored.rewards, torch.zeros_like(scored.valid))


def test_when_no_completion_could_be_judged_nothing_is_stored_and_the_run_goes_on(micro, tmp_path):
    module, keep = run(
        micro, tmp_path, 3, advantage=AVATAR(), replay=Replay(minimum=0), rewards=[NoneValid()], hints=ZeroStreak(1)
    )
    assert len(module.memory.buffer) == 0
    assert len(module.memory.tracker) == 0
    assert all(m["loss"] == 0 and m["hint/share"] == 0 for m in keep.metrics)


# -- hints -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_generations", "half"), [(4, 2), (7, 3)])
def test_half_of_a_hinted_prompts_completions_are_a_group_of_their_own(micro, tmp_path, num_generations, half):
    _, keep = run(micro, tmp_path, 4, hints=Always(), num_generations=num_generations)
    for rollout, metrics in zip(keep.rollouts, keep.metrics, strict=True):
        assert rollout.posed.nums == [num_generations - half] * 2 + [half] * 2
        shown = [f"Hint: {p.hint}" in str(p.messages) for p in rollout.posed.prompts]
        assert shown == [False, False, True, True]
        groups = defaultdict(list)
        for i, (_, key, completion, reward, _) in enumerate(fresh_rows(rollout)):
            groups[key, completion.hinted].append((reward, float(rollout.estimates[i])))
        assert {(hinted, len(g)) for (_, hinted), g in groups.items()} == {
            (False, num_generations - half), (True, half)
        }  # fmt: skip
        for members in groups.values():
            rewards = [r for r, _ in members]
            mean, scale = sum(rewards) / len(rewards), deviation(rewards) + 1e-4
            assert [a for _, a in members] == pytest.approx([(r - mean) / scale for r in rewards], abs=1e-5)
        assert metrics["hint/share"] == 1
    with_hint = [r for (_, hinted), g in groups.items() for r, _ in g if hinted]
    assert metrics["hint/reward_with"] == pytest.approx(sum(with_hint) / len(with_hint))


def test_reference_scores_of_hinted_and_plain_completions_are_kept_apart(micro, tmp_path):
    module, keep = run(micro, tmp_path, 20, hints=Sometimes(), replay=Replay(), advantage=Mixed(), reward_window=5)
    past = past_rewards(keep.rollouts)
    tracker = module.memory.tracker
    for key, hinted in past:
        last = past[key, hinted][-5:]
        assert tracker.reference_score(key, hinted) == pytest.approx(sum(last) / len(last))
        if not hinted:
            assert list(tracker[key].rewards) == last
    apart = [k for k, h in past if h and tracker.reference_score(k, True) != tracker.reference_score(k, False)]
    assert len(apart) > 3


class PaysHinted(Reward):
    """1 for every completion that saw the hint, and from ``since`` on for the others too."""

    def __init__(self, since=10**9):
        super().__init__()
        self.since = since

    def __call__(self, prompts, completions, group):
        rewards = torch.tensor([float(c.hinted or c.step >= self.since) for c in completions])
        return Scored(rewards, torch.ones(len(rewards), dtype=torch.bool))


class AlwaysWellFormed(Format):
    def __call__(self, prompts, completions, group):
        return Scored(torch.ones(len(completions)), torch.ones(len(completions), dtype=torch.bool))


def test_only_the_prompts_own_success_without_the_hint_ends_the_hints(micro, tmp_path):
    """Ten prompts, five steps a pass: two empty visits, then hints, until at step 21 plain completions are paid too."""
    rewards = [AlwaysWellFormed(0.5), PaysHinted(since=21)]
    module, keep = run(micro, tmp_path, 30, hints=ZeroStreak(2), rewards=rewards)
    shares = [m["hint/share"] for m in keep.metrics]
    assert shares == [0] * 10 + [1] * 15 + [0] * 5
    assert keep.metrics[9]["reward/mean"] == 0.5  # the format's, which does not count
    assert keep.metrics[12]["hint/reward_with"] == 1.5
    assert keep.metrics[12]["hint/reward_without"] == 0.5
    assert all(module.memory.tracker[key].empty_visits == 0 for key, _ in past_rewards(keep.rollouts))


class TakeHints(Callback):
    """Every other prompt has none."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        batch[:] = [replace(p, hint=None) if i % 2 else p for i, p in enumerate(batch)]


def test_a_prompt_without_a_hint_is_asked_plainly_and_counted(micro, tmp_path):
    _, keep = run(micro, tmp_path, 3, hints=Always(), callbacks=[TakeHints()])
    for rollout, metrics in zip(keep.rollouts, keep.metrics, strict=True):
        assert metrics["hint/lacking_share"] == 0.5
        assert metrics["hint/share"] == 0.5
        assert rollout.posed.nums == [2, 4, 2]


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replay", "more"),
    [
        (Replay(minimum=30, ramp_steps=20, capacity=60), {}),
        (Replay(minimum=1, scope="any", max_staleness=6, when="zero_spread"), {"rewards": [SpreadForSome()]}),
        (Replay(minimum=1, scope="any", draw="fifo"), {"updates_per_rollout": 2}),
        (Replay(minimum=1, draw="uniform"), {"objective": Objective(beta=0.0)}),
    ],
)
def test_a_resumed_run_goes_on_to_the_bit(micro, tmp_path, replay, more):
    common = {"advantage": AVATAR(), "replay": replay, "hints": Sometimes(), "optimizer": torch.optim.AdamW} | more
    common.setdefault("objective", Objective())
    updates = common.get("updates_per_rollout", 1)
    checkpoint = tmp_path / "middle.ckpt"
    save = SaveAt(7 * updates, checkpoint)
    whole, kept = run(micro, tmp_path, 12 * updates, callbacks=[save], **common)
    assert torch.load(checkpoint, weights_only=True)["rl"]["memory"]["buffer"]["keys"]
    module, keep = module_of(micro, **common), KeepSteps()
    fit(module, micro, tmp_path, 12 * updates, callbacks=[keep], ckpt_path=checkpoint)
    assert len(keep.metrics) == 5
    assert keep.metrics == kept.metrics[7:]
    assert any(m["replay/replayed"] for m in keep.metrics)
    assert any(m["hint/share"] for m in keep.metrics)
    assert module.num_generated == whole.num_generated
    for a, b in zip(module.policy.parameters(), whole.policy.parameters(), strict=True):
        assert torch.equal(a, b)


# -- a prompt that is gone ---------------------------------------------------------------------------------------------


class LosesAPrompt(Callback):
    """From a step on, one prompt can no longer be read when replay asks for it."""

    def __init__(self, step):
        self.step, self.key, self.asked = step, None, []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step != self.step:
            return
        read, self.key = trainer.datamodule.prompt, next(iter(module.memory.buffer)).key

        def prompt(key):
            if key == self.key:
                self.asked.append(trainer.global_step + 1)
                raise DataError(f"{key}: the clip is broken")
            return read(key)

        trainer.datamodule.prompt = prompt


def test_completions_of_a_prompt_that_cannot_be_read_are_dropped_with_a_warning(micro, tmp_path):
    loses, keep = LosesAPrompt(5), KeepSteps()
    module = module_of(micro, advantage=Mixed(), hints=Sometimes(), replay=Replay(minimum=1, scope="any"))
    with pytest.warns(UserWarning, match="the clip is broken; its stored completions are dropped") as caught:
        fit(module, micro, tmp_path, 14, callbacks=[loses, keep])
    assert len(keep.metrics) == 14
    assert loses.asked
    stored = [e.step for e in module.memory.buffer if e.key == loses.key]
    assert all(step > loses.asked[-1] for step in stored), "what was stored before is still there"
    told = [w for w in caught if "the clip is broken" in str(w.message)]
    assert len(told) == len(loses.asked)  # once a step, however many of its completions were drawn
    for rollout in keep.rollouts[5:]:
        visited = {p.key for p in rollout.posed.prompts}
        assert loses.key in visited or loses.key not in {e.key for e in rollout.entries}
