"""What was skipped, and why: counted by cause, named, and written down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Failure:
    """A record that could not become a prompt.

    Attributes:
        key: Of the record.
        reason: What was wrong, with the shard's name.
        cause: The same few words for all failures of a kind.
    """

    key: str
    reason: str
    cause: str = "broken record"


class Skipped:
    """The records that a run has skipped.

    Args:
        log: JSON lines to add each one to; None keeps them here alone.

    Attributes:
        failures: By key, the latest of each.
    """

    def __init__(self, log: Path | None = None) -> None:
        self.log = log
        self.failures: dict[str, Failure] = {}

    def __len__(self) -> int:
        return len(self.failures)

    def add(self, failure: Failure, epoch: int) -> None:
        """Count one, and write it down."""
        self.failures[failure.key] = failure
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            line = {"epoch": epoch, "key": failure.key, "cause": failure.cause, "reason": failure.reason}
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def end_pass(self, epoch: int, failures: Sequence[Failure], seen: int) -> None:
        """Print what a pass over ``seen`` records has skipped, if it is written down here."""
        if failures and self.log:
            title = f"epoch {epoch}: {len(failures)} of {seen} records were skipped; all are named in {self.log}"
            print_failures(failures, title)


def print_failures(failures: Sequence[Failure], title: str | None = None, most: int = 3) -> None:
    """A table of causes with their counts, and of each cause the first ``most`` records by name."""
    table = Table(title=_plain(title or f"{len(failures)} records were skipped"), title_style="bold yellow")
    table.add_column("cause")
    table.add_column("count", justify="right")
    table.add_column("for example", overflow="fold")
    for cause, count in Counter(failure.cause for failure in failures).most_common():
        examples = [f"{f.key}: {f.reason}" for f in failures if f.cause == cause][:most]
        examples += [f"... and {count - most} more"] if count > most else []
        table.add_row(_plain(cause), str(count), _plain("\n".join(examples)))
    Console(stderr=True).print(table)


def _plain(text: str) -> Text:
    """As it is: brackets in a string would be markup, and a terminal obeys what a hostile name may hold."""
    return Text("".join(c if c.isprintable() or c == "\n" else "?" for c in text))
