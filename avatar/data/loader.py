"""Batches of prompts in a seeded order, with a state to resume from and a list of what was skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch.utils.data import DataLoader

from avatar.data.dataset import Failure, PromptDataset
from avatar.errors import DataError
from avatar.types import Prompt

Plan = Sequence[Sequence[int]]  # positions of each batch


@dataclass(frozen=True)
class Phase:
    """A stretch of training on one shard folder.

    Attributes:
        path: The folder.
        batches: How many batches to draw from it; None is one pass.
    """

    path: str
    batches: int | None = None


def plan_epoch(sizes: Sequence[int], batches: Sequence[int | None], batch_size: int, seed: int, epoch: int) -> Plan:
    """Which records each batch of an epoch holds: a pure function of its arguments, so an order can be resumed.

    Phases follow one another; within one, every record comes once before any comes again. Without a count the last
    batch may be short, with a count none is.

    Args:
        sizes: Number of records of each phase.
        batches: Number of batches of each phase, None for one pass.
        batch_size: Records a batch.
        seed: Of the shuffling.
        epoch: Which pass this is.

    Raises:
        DataError: Batches are wanted of a phase without records.
    """
    plan: list[list[int]] = []
    start = 0
    for phase, (size, count) in enumerate(zip(sizes, batches, strict=True)):
        rng = Random(f"{seed}/{epoch}/{phase}")
        wanted = size if count is None else count * batch_size
        if wanted > 0 and size < 1:
            raise DataError(f"phase {phase}: {count} batches are wanted, but it has no records; give another folder")
        order: list[int] = []
        while len(order) < wanted:
            order += rng.sample(range(start, start + size), size)
        plan += [order[i : min(i + batch_size, wanted)] for i in range(0, wanted, batch_size)]
        start += size
    return plan


class PromptLoader:
    """Iterates over a plan of batches; each is a list of prompts, shorter where records failed, never empty.

    Its state is (epoch, batches handed out), so training goes on exactly where a checkpoint was taken, whatever the
    number of workers had fetched ahead. Without ``resumable`` each iteration is a whole one, also after one that was
    left in the middle, as a validation may be.

    Args:
        dataset: The prompts.
        plans: Gives the plan of an epoch.
        num_workers: Processes that decode ahead; 0 decodes here.
        on_error: ``skip`` a record that cannot be read and name it in ``failures``, or ``raise``.
        rank: Of this process; it takes every ``world_size``-th batch.
        world_size: Number of processes.
        even: Leave out the last batches that not every process would get one of, as training in step needs.
        resumable: Go on where the last iteration was left; else start anew.
    """

    def __init__(
        self, dataset: PromptDataset, plans: Any, num_workers: int = 0, on_error: str = "skip",
        rank: int = 0, world_size: int = 1, even: bool = False, resumable: bool = True,
    ) -> None:  # fmt: skip
        self.dataset, self.plans, self.num_workers, self.on_error = dataset, plans, num_workers, on_error
        self.rank, self.world_size, self.even = rank, world_size, even
        self.resumable = resumable
        self.epoch, self.position = 0, 0
        self.failures: dict[str, str] = {}
        self._planned: tuple[int, Plan] | None = None

    def _plan(self) -> Plan:
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = (self.epoch, self._share(self.plans(self.epoch)))
        return self._planned[1]

    def _share(self, plan: Plan) -> Plan:
        end = len(plan) - len(plan) % self.world_size if self.even else len(plan)
        return plan[self.rank : end : self.world_size]

    def __len__(self) -> int:
        return len(self._plan())

    def __iter__(self) -> Iterator[list[Prompt]]:
        if not self.resumable:
            self.position = 0
        elif self.position >= len(self):  # whoever iterates may stop at the last batch without asking for one more
            self.epoch, self.position = self.epoch + 1, 0
        whole, good, reason = self.position == 0, 0, None
        for batch in self._fetched():
            self.position += 1
            prompts = [p for p in map(self._checked, batch) if p is not None]
            good += len(prompts)
            reason = reason or next((item.reason for item in batch if isinstance(item, Failure)), None)
            if prompts:
                yield prompts
        if whole and reason and not good:
            raise DataError(f"no record could be read. The first: {reason}")

    def _fetched(self) -> DataLoader[list[Prompt | Failure]]:
        return DataLoader(
            self.dataset,  # type: ignore[arg-type]
            batch_sampler=[list(batch) for batch in self._plan()[self.position :]],
            collate_fn=list,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # leaves the global random state alone
        )

    def _checked(self, item: Prompt | Failure) -> Prompt | None:
        if isinstance(item, Prompt):
            return item
        if self.on_error == "raise":
            raise DataError(f"{item.reason} (data.on_error is 'raise'; 'skip' would go on without it)")
        self.failures[item.key] = item.reason
        return None

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches handed out."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there at the next iteration."""
        self.epoch, self.position = state["epoch"], state["position"]
