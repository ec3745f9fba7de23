"""One step's prompts: which are asked with their hint, and which stored completions are replayed for which.

Shapes: B prompts visited, M stored completions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from avatar.errors import DataError
from avatar.replay import Entry, Memory
from avatar.types import Completion, Experience, Prompt


@dataclass(frozen=True)
class Posed:
    """What is put to the policy.

    Attributes:
        prompts: The B visited prompts, then a copy with its hint for each that is shown one.
        nums: New completions for each.
        visit: Which of the B each belongs to.
        lacking: Prompts that should have been shown a hint and have none.
    """

    prompts: list[Prompt]
    nums: list[int]
    visit: list[int]
    lacking: int

    @property
    def num_visits(self) -> int:
        """B."""
        return len(set(self.visit))


def pose(batch: Sequence[Prompt], memory: Memory, num_generations: int) -> Posed:
    """Half of the completions of a prompt that needs it are asked for with the hint shown, the rest without.

    Args:
        batch: B prompts.
        memory: Knows which are stuck.
        num_generations: New completions a prompt; of an odd number the larger half sees no hint.
    """
    wants = [memory.wants_hint(prompt.key) for prompt in batch]
    helped = [i for i, prompt in enumerate(batch) if wants[i] and prompt.hint]
    half = num_generations // 2
    nums = [num_generations - half if i in helped else num_generations for i in range(len(batch))]
    return Posed(
        prompts=[*batch, *(batch[i].with_hint() for i in helped)],
        nums=nums + [half] * len(helped),
        visit=[*range(len(batch)), *helped],
        lacking=sum(wants) - len(helped),
    )


def without_spread(experience: Experience, visit: Sequence[int]) -> list[bool]:
    """[B], whether the un-hinted group of a visited prompt has no spread in its valid fresh rewards.

    Args:
        experience: Fresh completions; their ``prompt`` is an index into ``visit``.
        visit: Which of the B prompts each posed prompt belongs to.
    """
    groups = (experience.rewards[experience.valid & (experience.prompt == b)] for b in range(len(set(visit))))
    return [len(rewards) < 2 or bool(rewards.max() == rewards.min()) for rewards in groups]


@dataclass(frozen=True)
class Placed:
    """Stored completions with the prompts that they follow.

    Attributes:
        entries: M stored completions.
        prompt: [M], index into the posed prompts followed by ``extra``.
        group: [M], the group that each is replayed for.
        extra: Prompts beyond the posed ones.
        unreadable: Why prompts could not be had again, by key.
    """

    entries: list[Entry]
    prompt: list[int]
    group: list[int]
    extra: list[Prompt]
    unreadable: dict[str, str]


def place(
    batch: Sequence[Prompt], posed: Posed, drawn: Sequence[Sequence[Entry]], fetch: Callable[[str], Prompt]
) -> Placed:
    """Find the prompt of each stored completion, with its hint if it was written under it.

    A completion of the visited prompt itself joins the group of its kind, hinted or not; one of another prompt joins
    the un-hinted group that it is replayed for.

    Args:
        batch: B visited prompts.
        posed: What the policy was asked.
        drawn: [B], stored completions for each.
        fetch: Gives the prompt of a key.
    """
    index = {(p.key, i >= len(batch)): i for i, p in reversed(list(enumerate(posed.prompts)))}
    visited = {prompt.key: prompt for prompt in batch}
    hinted_of = {b: i for i, b in enumerate(posed.visit) if i >= len(batch)}
    placed = Placed([], [], [], [], {})
    for b, entries in enumerate(drawn):
        for entry in entries:
            variant = (entry.key, entry.hinted)
            if variant not in index and entry.key not in placed.unreadable:
                try:
                    prompt = visited.get(entry.key) or fetch(entry.key)
                    placed.extra.append(prompt.with_hint() if entry.hinted else prompt)
                except (DataError, ValueError) as error:
                    placed.unreadable[entry.key] = str(error)
                    continue
                index[variant] = len(posed.prompts) + len(placed.extra) - 1
            if variant in index:
                placed.entries.append(entry)
                placed.prompt.append(index[variant])
                own_hint = entry.hinted and entry.key == batch[b].key
                placed.group.append(hinted_of.get(b, index[variant]) if own_hint else b)
    return placed


def replayed_experience(placed: Placed, memory: Memory, device: torch.device) -> Experience:
    """The stored completions as they were: ids, log-probs and rewards are taken over, nothing is computed again."""
    completions = [Completion(e.ids.long(), e.behaviour_logprobs, "", True, e.hinted, e.step) for e in placed.entries]
    scores = [memory.tracker.reference_score(e.key, e.hinted) for e in placed.entries]
    experience = Experience.from_completions(
        completions,
        torch.tensor(placed.group, device=device),
        torch.tensor([e.reward for e in placed.entries], dtype=torch.float32, device=device),
        torch.ones(len(placed.entries), dtype=torch.bool, device=device),
        torch.tensor(scores, dtype=torch.float32, device=device),
        torch.tensor(placed.prompt, device=device),
    )
    experience.is_replayed.fill_(True)
    return experience
