"""What one step came to: its rewards and advantages, what is remembered of it, and what is logged.

Shapes: B prompts visited, N completions (fresh ones first), T completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.losses import k3_kl
from avatar.models.base import Prefix
from avatar.modules.mixing import Posed
from avatar.replay import Entry, Memory, Replay, Visit
from avatar.types import Completion, Experience


@dataclass(frozen=True)
class Rollout:
    """One step.

    Attributes:
        step: Optimizer step that it was made for.
        posed: What the policy was asked.
        completions: The fresh ones.
        entries: The replayed ones.
        unreadable: Why prompts of stored completions could not be had again, by key.
        experience: N completions, the fresh ones first.
        parts: Of each reward, by ``name`` and ``name/part``, for the fresh ones; NaN where it was not valid.
        earned: [fresh] bool, whether a reward other than for the format was given.
        estimates: [N], the advantage of each completion.
        advantages: [N, T], of each token.
        ref_logprobs: [N, T] nats under the reference; None without a KL term.
    """

    step: int
    posed: Posed
    completions: list[Completion]
    entries: list[Entry]
    unreadable: dict[str, str]
    experience: Experience
    parts: dict[str, Tensor]
    earned: Tensor
    estimates: Tensor
    advantages: Tensor
    ref_logprobs: Tensor | None

    def fresh_kl(self) -> Tensor:
        """[fresh] k3 to the reference under the policy that wrote, mean over tokens; NaN without a reference."""
        num, experience = len(self.completions), self.experience
        if self.ref_logprobs is None:
            return torch.full((num,), torch.nan)
        kl = torch.where(experience.mask, k3_kl(experience.behaviour_logprobs, self.ref_logprobs), 0.0)
        return (kl.sum(-1) / experience.mask.sum(-1).clamp(min=1))[:num].cpu()


def visits_of(rollout: Rollout, replay: Replay | None) -> list[Visit]:
    """What is remembered of a step: one visit for each of its B prompts, with the valid fresh completions.

    Args:
        rollout: The step.
        replay: How completions are stored; None stores none.
    """
    kl, experience = rollout.fresh_kl(), rollout.experience
    of_visit: list[list[int]] = [[] for _ in range(rollout.posed.num_visits)]
    for i, (prompt, valid) in enumerate(zip(experience.prompt.tolist(), experience.valid.tolist(), strict=True)):
        if valid and i < len(kl):
            of_visit[rollout.posed.visit[prompt]].append(i)
    return [_visit(rollout, b, members, kl, replay) for b, members in enumerate(of_visit)]


def _visit(rollout: Rollout, b: int, members: list[int], kl: Tensor, replay: Replay | None) -> Visit:
    completions, rewards = rollout.completions, rollout.experience.rewards
    plain = [i for i in members if not completions[i].hinted]
    return Visit(
        key=rollout.posed.prompts[b].key,
        step=rollout.step,
        rewards=[float(rewards[i]) for i in plain],
        hinted_rewards=[float(rewards[i]) for i in members if completions[i].hinted],
        earned=any(bool(rollout.earned[i]) for i in plain),
        kl=float(kl[plain].mean()) if plain else float("nan"),
        entries=[_entry(rollout, b, i, float(kl[i].nan_to_num(0.0)), replay) for i in members] if replay else [],
    )


def _entry(rollout: Rollout, b: int, i: int, kl: float, replay: Replay) -> Entry:
    completion, reference = rollout.completions[i], rollout.ref_logprobs
    return Entry(
        key=rollout.posed.prompts[b].key,
        ids=completion.ids,
        behaviour_logprobs=completion.behaviour_logprobs,
        ref_logprobs=None if reference is None else reference[i, : len(completion.ids)].cpu(),
        reward=float(rollout.experience.rewards[i]),
        hinted=completion.hinted,
        step=rollout.step,
        priority=replay.priority_reward * float(rollout.estimates[i]) - replay.priority_kl * kl,
    )


# -- metrics -----------------------------------------------------------------------------------------------------------


def rollout_metrics(rollout: Rollout, prefixes: Sequence[Prefix], media_ids: dict[str, int]) -> dict[str, float]:
    """Rewards, group spread, lengths and prompt tokens of the fresh part of a step, by the names of docs/metrics.md."""
    experience, num = rollout.experience, len(rollout.completions)
    valid, lengths = experience.valid[:num], experience.mask[:num].sum(-1).float()
    rewards, group = experience.rewards[:num], experience.group[:num]
    groups = [rewards[valid & (group == g)] for g in group.unique()]
    same = [float(len(g) < 2 or g.max() == g.min()) for g in groups]
    posed = prefixes[: len(rollout.posed.prompts)]
    tokens = {f"tokens/{k}": sum(int((p.ids == i).sum()) for p in posed) / len(posed) for k, i in media_ids.items()}
    return {
        **({"reward/mean": _mean(rewards[valid])} if valid.any() else {}),
        "reward/std": float(rewards[valid].std()) if valid.sum() > 1 else 0.0,
        **_part_means(rollout.parts),
        "reward/invalid_share": float((~valid).float().mean()),
        "advantage/zero_spread_share": sum(same) / len(same),
        "advantage/abs_mean": _mean(rollout.estimates[:num].abs()),
        "completion/length": float(lengths.mean()),
        "completion/truncated_share": sum(not c.finished for c in rollout.completions) / num,
        "tokens/prompt": sum(len(p.ids) for p in posed) / len(posed),
        **tokens,
    }


def _part_means(parts: dict[str, Tensor]) -> dict[str, float]:
    """Mean of each part over the completions that it could be given to; a part that none got is left out."""
    given = {name: part[~part.isnan()] for name, part in parts.items()}
    return {f"reward/{name}": float(part.mean()) for name, part in given.items() if len(part)}


def hint_metrics(rollout: Rollout) -> dict[str, float]:
    """Share of prompts hinted, and of prompts that should have been and carry no hint; reward with and without."""
    num, num_visits = len(rollout.completions), rollout.posed.num_visits
    experience = rollout.experience
    metrics = {
        "hint/share": (len(rollout.posed.prompts) - num_visits) / num_visits,
        "hint/lacking_share": rollout.posed.lacking / num_visits,
    }
    for name, which in (("without", ~experience.hinted[:num]), ("with", experience.hinted[:num])):
        if (here := which & experience.valid[:num]).any():
            metrics[f"hint/reward_{name}"] = _mean(experience.rewards[:num][here])
    return metrics


def replay_metrics(rollout: Rollout, memory: Memory, alpha: float, asked: int) -> dict[str, float]:
    """What was replayed at a step, and how the buffer stands before the step is stored.

    Args:
        rollout: The step.
        memory: Before it has recorded the step.
        alpha: Weight of the replayed part.
        asked: Prompts that replay was asked for.
    """
    assert memory.buffer is not None
    num, entries = len(rollout.completions), rollout.entries
    metrics = {"replay/alpha": alpha, "replay/replayed": float(len(entries)), "replay/size": float(len(memory.buffer))}
    if asked:
        metrics["replay/hit_rate"] = _num_served(rollout) / asked
    if entries:
        staleness = [rollout.step - e.step for e in entries]
        metrics |= {
            "replay/staleness_mean": sum(staleness) / len(staleness),
            "replay/staleness_max": float(max(staleness)),
            "replay/reward_mean": _mean(rollout.experience.rewards[num:]),
            "replay/advantage_abs_mean": _mean(rollout.estimates[num:].abs()),
        }
    for tier, occupancy in memory.buffer.occupancy().items():
        metrics[f"replay/occupancy_{tier}"] = occupancy.entries / max(1, occupancy.quota)
        metrics[f"replay/prompts_{tier}"] = float(occupancy.prompts)
    return metrics


def _num_served(rollout: Rollout) -> int:
    """Visited prompts that anything is replayed for, whether for its hinted group or not."""
    posed, groups = rollout.posed, rollout.experience.group[len(rollout.completions) :].tolist()
    visit_of = {prompt.key: b for b, prompt in enumerate(posed.prompts[: posed.num_visits])}
    pairs = zip(groups, rollout.entries, strict=True)  # a group beyond the posed ones is of the prompt's own hint
    return len({posed.visit[g] if g < len(posed.visit) else visit_of[e.key] for g, e in pairs})


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
