"""Batches of prompts in a planned order, decoded ahead, with a state to resume from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice

from avatar.data.dataset import PromptDataset
from avatar.data.skipped import Failure, Skipped
from avatar.errors import DataError
from avatar.types import Prompt

Batches = Sequence[Sequence[int]]  # positions; a Plan is one
FEW = 100  # records below which one failure says little of their share


class PromptLoader:
    """Iterates over a plan of batches; each is a list of prompts, shorter where records failed.

    Its state is (epoch, batches handed out to all processes), so training goes on exactly where a checkpoint was taken,
    whatever had been fetched ahead, and with another number of processes too. Without ``resumable`` each iteration is a
    whole one, also after one that was left in the middle, as a validation may be.

    Where all records of a batch failed it is passed over; but processes that train in step get an empty one, since each
    must take as many steps as the others.

    Args:
        dataset: The prompts.
        plans: Gives the plan of an epoch.
        ahead: How many prompts to have decoded before they are asked for.
        on_error: ``skip`` a record that cannot be read and name it in ``skipped``, or ``raise``.
        max_failed_share: Share of the records of a pass that may fail; beyond it the run stops.
        rank: Of this process; it takes every ``world_size``-th batch.
        world_size: Number of processes.
        in_step: The processes train in step: the last batches that not every one would get are left out.
        resumable: Go on where the last iteration was left; else start anew.
        skipped: Where what failed is counted; None counts it here alone.
        may_all_fail: A pass of which nothing could be read is no error.
    """

    def __init__(
        self, dataset: PromptDataset, plans: Callable[[int], Batches], ahead: int = 4, on_error: str = "skip",
        max_failed_share: float = 1.0, rank: int = 0, world_size: int = 1, in_step: bool = False,
        resumable: bool = True, skipped: Skipped | None = None, may_all_fail: bool = False,
    ) -> None:  # fmt: skip
        self.dataset, self.plans, self.ahead, self.on_error = dataset, plans, max(1, ahead), on_error
        self.max_failed_share, self.skipped = max_failed_share, Skipped() if skipped is None else skipped
        self.rank, self.world_size, self.in_step = rank, world_size, in_step
        self.resumable, self.may_all_fail = resumable, may_all_fail
        self.epoch, self.position = 0, 0
        self._seen, self._failed = 0, list[Failure]()  # in this pass
        self._planned: tuple[int, Batches] | None = None

    def _plan(self) -> Batches:
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = (self.epoch, self.plans(self.epoch))
        return self._planned[1]

    def _mine(self, start: int) -> range:
        """Numbers of this process's batches of the plan, from batch ``start`` on."""
        plan = self._plan()
        end = len(plan) - (len(plan) - start) % self.world_size if self.in_step else len(plan)
        return range(start + self.rank, end, self.world_size)

    def __len__(self) -> int:
        return len(self._mine(0))

    def __iter__(self) -> Iterator[list[Prompt]]:
        if not self.resumable:
            self.position = 0
        elif not self._mine(self.position):  # whoever iterates may stop at the last without asking for one more
            self.epoch, self.position = self.epoch + 1, 0
        whole, good, self._seen, self._failed = self.position == 0, 0, 0, []
        first: Failure | None = None
        for batch in self._fetched():
            self.position += self.world_size
            first = first or next((item for item in batch if isinstance(item, Failure)), None)
            prompts = [p for p in map(self._checked, batch) if p is not None]
            good += len(prompts)
            if not self._mine(self.position):  # the last: whoever iterates may not ask for one more
                self._end_pass(first if whole and not good and not self.may_all_fail else None)
            if prompts or (self.in_step and self.world_size > 1):
                yield prompts

    def _end_pass(self, hopeless: Failure | None) -> None:
        if hopeless:
            raise DataError(f"no record could be read. The first: {hopeless.reason}", hopeless.cause)
        self._check_share(self._seen)
        self.skipped.end_pass(self.epoch, self._failed, self._seen)

    def _fetched(self) -> Iterator[list[Prompt | Failure]]:
        plan, numbers = self._plan(), self._mine(self.position)
        found = self.dataset.stream(chain.from_iterable(plan[number] for number in numbers), self.ahead)
        with closing(found):
            for number in numbers:
                yield list(islice(found, len(plan[number])))

    def _checked(self, item: Prompt | Failure) -> Prompt | None:
        self._seen += 1
        if isinstance(item, Prompt):
            return item
        if self.on_error == "raise":
            raise DataError(f"{item.reason} (data.on_error is 'raise'; 'skip' would go on without it)", item.cause)
        self._failed.append(item)
        self.skipped.add(item, self.epoch)
        self._check_share(max(self._seen, FEW))
        return None

    def _check_share(self, seen: int) -> None:
        if len(self._failed) > self.max_failed_share * seen:
            last = self._failed[-1]
            raise DataError(
                f"{len(self._failed)} of {self._seen} records of this pass could not be read, more than "
                f"data.max_failed_share ({self.max_failed_share:g}) allows; `avatar data validate` names them all. "
                f"The last: {last.reason}",
                last.cause,
            )

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches handed out to all processes."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there at the next iteration."""
        self.epoch, self.position = state["epoch"], state["position"]
