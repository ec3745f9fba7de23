"""Rewards under attack: what each attack earns, beside an honest wrong answer in the very same place.

Shapes: I items, S seatings, L leaves of a mix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avatar.errors import ConfigError
from avatar.rewards.attacks.catalogue import ATTACKS, GRADED, Attack, honest
from avatar.rewards.attacks.items import Item
from avatar.rewards.base import Reward, leaves_of
from avatar.types import Completion

RIGHT, WRONG, SUM = "honest, right", "honest, wrong", "sum"
# Groups that a completion is tried in: (right answers, one wrong answer so many times, copies of the completion).
SEATINGS = {
    "one beside five": (3, 2, 1),
    "two beside five": (3, 2, 2),
    "two against two": (1, 2, 2),
    "all of them others": (1, 1, 1),
}
EPS = 1e-6


@dataclass(frozen=True)
class Win:
    """An attack that earns more than an honest wrong answer.

    Attributes:
        attack: Its name.
        reward: The leaf, or ``sum``.
        problem_type: Where.
        seating: In which group.
        score: What it earns there, mean over the items of the type.
        allowed: What it may earn there: the honest wrong answer's score and the margin.
    """

    attack: str
    reward: str
    problem_type: str
    seating: str
    score: float
    allowed: float


@dataclass(frozen=True)
class Trial:
    """What a mix pays.

    Attributes:
        rewards: Names of the leaves, and ``sum``.
        types: Problem types of the items.
        attacks: Names of the attacks.
        scores: By reward, type and row: the attacks' and the two honest ones' scores, each the mean over the items of
            the type, in the group where it gains most on the honest wrong answer. A row is missing where the attack
            makes no sense, and NaN where no score could be given.
        wins: Attacks that earn too much.
        blind: Rewards that pay a right answer no more than a wrong one, on all types, though they claim to look at the
            answer: beside these no attack is needed.
    """

    rewards: list[str]
    types: list[str]
    attacks: list[str]
    scores: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    wins: list[Win] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)


def hold_trial(
    rewards: Sequence[Reward],
    items: Sequence[Item],
    margin: float = 0.0,
    attacks: Sequence[Attack] = tuple(ATTACKS.values()),
    advance: Callable[[], None] = lambda: None,
) -> Trial:
    r"""Try every attack on every leaf and on the sum.

    An attack wins if in any seating, with a over the items of a type,

    .. math:: \bar a > \bar h + m

    where h is what an honest wrong answer earns in the same place: well-formed, the gold answer of another item; mean
    over these answers. Both are means as it is the mean that training follows: an attack that is right now and then by
    luck is a guess. The margin m holds for free text and text to read alone, where a wrong answer shares words with the
    gold one by chance.

    Rewards that look at groups are tried in :data:`SEATINGS`: alone among right and wrong answers, as a pair that would
    have to outvote three right ones, as a pair against a pair of equal wrong answers, and where no two agree. In each
    the honest wrong answer took the attack's seats before, and it is another one than the rest of the group gives.

    Args:
        rewards: The mix.
        items: Several of each problem type.
        margin: For graded types, in units of a reward of 0 to 1; in the sum, times the weights of what is not format.
        attacks: What to try.
        advance: Called after each attack.
    """
    leaves = leaves_of(rewards)
    types = list(dict.fromkeys(item.prompt.problem_type for item in items))
    trial = Trial([leaf.name for _, leaf in leaves] + [SUM], types, [attack.name for attack in attacks])
    wrong = _tried(leaves, items, lambda item: honest(item.wrongs[0]))
    right = _tried(leaves, items, lambda item: honest(item.gold))
    scale = [1.0 if leaf.earns else 0.0 for _, leaf in leaves]
    scale.append(sum(abs(weight) for weight, leaf in leaves if leaf.earns))
    for name, scores in ((RIGHT, right), (WRONG, wrong)):
        _enter(trial, _Row(name, items, scores, wrong), [0.0] * len(scale))
    trial.blind.extend(leaf.name for _, leaf in leaves if leaf.earns and not _sees(trial, leaf.name))
    for attack in attacks:
        if places := attack.targets(items):
            here = [items[i] for i in places]
            row = _Row(attack.name, here, _tried(leaves, here, attack.completion), wrong[:, :, places])
            _enter(trial, row, [margin * s for s in scale])
        advance()
    return trial


@dataclass(frozen=True)
class _Row:
    """[L + 1, S, I] scores of one completion an item, and of an honest wrong answer in its place."""

    name: str
    items: Sequence[Item]
    scores: Tensor
    wrong: Tensor


def _sees(trial: Trial, reward: str) -> bool:
    """Whether a right answer is worth more than a wrong one somewhere, or that cannot be told."""
    tables = [trial.scores[reward, kind] for kind in trial.types]
    return any(not table[RIGHT] <= table[WRONG] + EPS for table in tables)


def _enter(trial: Trial, row: _Row, margins: Sequence[float]) -> None:
    """Write the row's scores down, and where it wins."""
    kinds = [item.prompt.problem_type for item in row.items]
    for r, reward in enumerate(trial.rewards):
        for kind in dict.fromkeys(kinds):
            here = [i for i, k in enumerate(kinds) if k == kind]
            scores, wrong = row.scores[r][:, here].nanmean(-1), row.wrong[r][:, here].nanmean(-1)  # [S]
            allowed = wrong + (margins[r] if kind in GRADED else 0.0)
            excess = (scores - allowed).nan_to_num(-torch.inf)
            best = int(excess.argmax())
            trial.scores.setdefault((reward, kind), {})[row.name] = float(scores[best])
            if excess[best] > EPS and row.name not in (RIGHT, WRONG):
                seating = list(SEATINGS)[best]
                trial.wins.append(Win(row.name, reward, kind, seating, float(scores[best]), float(allowed[best])))


def _tried(
    leaves: Sequence[tuple[float, Reward]], items: Sequence[Item], write: Callable[[Item], Completion]
) -> Tensor:
    """[L + 1, S, I], mean over what is written as each wrong answer in turn comes first.

    The last wrong answer stays out, as it is what the others of a group give.
    """
    if lone := next((item for item in items if len(item.wrongs) < 2), None):
        raise ConfigError(f"item {lone.prompt.key!r} needs at least two wrong answers")
    turned = [(i, item.saying(k)) for i, item in enumerate(items) for k in range(len(item.wrongs) - 1)]
    written: dict[tuple[int, str], tuple[Item, Completion]] = {}  # texts that no wrong answer stands in come once
    counts: list[tuple[int, str]] = []
    for i, item in turned:
        completion = write(item)
        written.setdefault((i, completion.text), (item, completion))
        counts.append((i, completion.text))
    scores = _with_sum(leaves, [item for item, _ in written.values()], [c for _, c in written.values()])
    column = {key: j for j, key in enumerate(written)}
    of = torch.tensor([i for i, _ in counts])
    each = scores[:, :, [column[key] for key in counts]]  # [L + 1, S, variants]
    return torch.stack([each[:, :, of == i].nanmean(-1) for i in range(len(items))], -1)


def _with_sum(leaves: Sequence[tuple[float, Reward]], items: Sequence[Item], stands: Sequence[Completion]) -> Tensor:
    """[L + 1, S, I]: the score of each item's completion by each leaf, in each seating, and the weighted sum."""
    scores = torch.stack([_seated(leaf, items, stands) for _, leaf in leaves])
    weights = torch.tensor([weight for weight, _ in leaves])[:, None, None]
    total = torch.where(weights == 0, 0.0, weights * scores).sum(0, keepdim=True)
    return torch.cat([scores, total])


def _seated(leaf: Reward, items: Sequence[Item], stands: Sequence[Completion]) -> Tensor:
    """[S, I] of one leaf; NaN where it gives no score."""
    prompts = [item.prompt for item in items]
    if not leaf.looks_at_group:
        scored = leaf(prompts, stands, torch.arange(len(items)))
        return torch.where(scored.valid, scored.rewards, torch.nan).expand(len(SEATINGS), -1)
    rows = []
    for num_right, num_wrong, num in SEATINGS.values():
        groups = [
            [stand] * (num - 1) + [honest(item.gold)] * num_right + [honest(item.wrongs[-1])] * num_wrong + [stand]
            for item, stand in zip(items, stands, strict=True)
        ]
        size = num_right + num_wrong + num
        scored = leaf(prompts, [c for group in groups for c in group], torch.arange(len(items)).repeat_interleave(size))
        table = torch.where(scored.valid, scored.rewards, torch.nan).view(len(items), size)
        rows.append(table[:, [*range(num - 1), size - 1]].mean(-1))
    return torch.stack(rows)
