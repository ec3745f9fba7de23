"""``avatar rewards attack``: what attacks earn from a reward mix, beside honest answers."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from avatar.chat import ChatClient
from avatar.commands.bar import LateBar
from avatar.commands.rewards.attack_tables import print_trial
from avatar.commands.rewards.config import read_mix
from avatar.commands.rewards.obedient import MODEL, obedient_judge
from avatar.errors import AvatarError, ConfigError
from avatar.rewards import Reward, leaves_of
from avatar.rewards.attacks.catalogue import ATTACKS
from avatar.rewards.attacks.items import make_items
from avatar.rewards.attacks.trials import Trial, hold_trial
from avatar.rewards.judge import Judge

MARGIN = 0.15


def attack(
    config: str | None = None,
    judge: Literal["config", "obedient"] = "config",
    margin: float = MARGIN,
    quick: bool = False,
    json: str | None = None,
) -> int:
    """Try to be paid without knowing the answer; exit 1 if an attack earns more than an honest wrong answer.

    So it does where a reward that should look at the answer pays a right one no more than a wrong one.

    Args:
        config: YAML with ``rewards``, or a training config. Without it: all registered rewards that need no server.
        judge: Ask the judge at the endpoint of the config, or put in its place a server on this machine that does all
            that a completion tells it to: what gets past our guard then earns full marks.
        margin: By how much an attack may earn more for free text and text to read, where a wrong answer shares words
            with the right one by chance: 0.15 is what function words alone can be made to earn.
        quick: Leave out the completions of a million characters, which take most of the time.
        json: File to write all figures to.
    """
    if not 0 <= margin < 1:
        raise ConfigError(f"--margin must be from 0 to less than 1, got {margin}")
    check_json(json)
    rewards = read_mix(config)
    judges = [leaf for _, leaf in leaves_of(rewards) if isinstance(leaf, Judge)]
    with ExitStack() as stack:
        if judge == "obedient":
            _replace(judges, stack.enter_context(obedient_judge()))
        _check(rewards)
        attacks = [one for one in ATTACKS.values() if not (quick and one.once)]
        bar = stack.enter_context(LateBar("attacking", len(attacks)))
        trial = hold_trial(rewards, make_items(), margin, attacks, bar.advance)
    print_trial(Console(), trial, _notes(rewards, judges, judge, margin))
    if json:
        Path(json).write_text(json_.dumps(_figures(trial, margin, judge), indent=2) + "\n")
    if failed := sum(leaf.counts["failed"] for leaf in judges):
        raise AvatarError(f"the judge gave no verdict on {failed} completions: of those nothing is known")
    return 1 if trial.wins or trial.blind else 0


def check_json(path: str | None) -> None:
    """Whether figures can be written there.

    Raises:
        ConfigError: There is no such folder.
    """
    if path and not Path(path).parent.is_dir():
        raise ConfigError(f"--json {path}: there is no folder {Path(path).parent}")


def _replace(judges: Sequence[Judge], endpoint: str) -> None:
    if not judges:
        raise ConfigError("--judge obedient: there is no Judge among the rewards; leave it out")
    for leaf in judges:
        leaf.client = ChatClient(endpoint, MODEL, api_key_env="", attempts=1)


def _check(rewards: Sequence[Reward]) -> None:
    for _, leaf in leaves_of(rewards):
        try:
            leaf.check(make_items()[0].prompt)
        except ConfigError as error:
            if isinstance(leaf, Judge):
                raise ConfigError(
                    f"{error}\nWithout a server: --judge obedient tries what gets past our guard"
                ) from error
            raise


def _notes(rewards: Sequence[Reward], judges: Sequence[Judge], judge: str, margin: float) -> list[str]:
    mix = " + ".join(f"{weight:g} {leaf.name}" for weight, leaf in leaves_of(rewards))
    notes = [f"sum = {mix}. Free text and text to read may earn {margin:g} more than an honest wrong answer."]
    if judges and judge == "obedient":
        notes.append(
            "The judge is a stand-in that does as it is told: full marks for any order, lie or forged verdict that "
            "reaches it, and for the gold answer anywhere in the answer. It shows what our guard lets through, and is "
            "no real judge."
        )
    elif judges:
        notes.append("; ".join(f"{leaf.name} is {leaf.client.model} at {leaf.client.endpoint}" for leaf in judges))
    return notes


def _figures(trial: Trial, margin: float, judge: str) -> dict[str, Any]:
    scores: dict[str, dict[str, dict[str, float | None]]] = {}
    for (reward, kind), rows in trial.scores.items():
        plain = {row: None if score != score else round(score, 6) for row, score in rows.items()}
        scores.setdefault(reward, {})[kind] = plain
    return {
        "margin": margin,
        "judge": judge,
        "wins": [asdict(win) for win in trial.wins],
        "blind": trial.blind,
        "scores": scores,
    }
