"""What the user sees: a bar with counts, tokens and cost, and at the end a table with some of the hints."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from textwrap import shorten
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from avatar.chat import Usage
from avatar.data.skipped import Failure
from avatar.errors import ConfigError

SAMPLES = 3
LONGEST = 160  # characters of a question in the table


@dataclass(frozen=True)
class Prices:
    """USD per million tokens; None where they are not known.

    Raises:
        ConfigError: One of the two is missing, or below 0.
    """

    prompt: float | None = None
    completion: float | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) != (self.completion is None):
            raise ConfigError("--price_in and --price_out belong together: give both, or none for tokens alone")
        if min(self.prompt or 0.0, self.completion or 0.0) < 0:
            raise ConfigError(f"prices must be 0 or more, got {self.prompt} and {self.completion}")

    def cost(self, usage: Usage) -> float | None:
        """USD."""
        if self.prompt is None or self.completion is None:
            return None
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6


@dataclass
class Tally:
    """Counts of a run.

    Attributes:
        total: Records.
        kept: Of these, how many had a hint already.
        written: Hints of this run.
        failures: Records that were to have one and have none.
        samples: (key, question, hint) of some of ``written``, each as likely as any other.
    """

    total: int
    kept: int = 0
    written: int = 0
    failures: list[Failure] = field(default_factory=list)
    samples: list[tuple[str, str, str]] = field(default_factory=list)
    _rng: Random = field(default_factory=lambda: Random(0), repr=False)

    def write(self, key: str, question: str, hint: str) -> None:
        """Count a hint."""
        self.written += 1
        place = len(self.samples) if len(self.samples) < SAMPLES else self._rng.randrange(self.written)
        if place < SAMPLES:
            self.samples[place : place + 1] = [(key, question, hint)]

    @property
    def causes(self) -> Counter[str]:
        """Failures by cause."""
        return Counter(failure.cause for failure in self.failures)

    @property
    def untouched(self) -> int:
        """Records that were not come to."""
        return self.total - self.kept - self.written - len(self.failures)


class Bar:
    """Counts while a run goes on.

    Args:
        console: Where to draw it.
        tally: What is counted.
        usage: Of the client.
        prices: To tell the cost by.
    """

    def __init__(self, console: Console, tally: Tally, usage: Usage, prices: Prices) -> None:
        self.tally, self.usage, self.prices = tally, usage, prices
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}", table_column=Column(no_wrap=False)),  # may take a second line
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("hints", total=tally.total, counts="")
        self._since = time.monotonic()

    def __enter__(self) -> Bar:
        self.update()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.update()
        self._progress.stop()

    def update(self) -> None:
        """Show the counts as they are."""
        tally = self.tally
        leaked = tally.causes["tells the answer"] + tally.causes["guesses an answer"]
        counts = [f"{tally.written:,} written"]
        counts += [f"{tally.kept:,} kept"] if tally.kept else []
        counts += [f"{leaked:,} leaked"] if leaked else []
        counts += [f"{rest:,} failed"] if (rest := len(tally.failures) - leaked) else []
        counts.append(spent(self.usage, self.prices))
        done = tally.total - tally.untouched
        self._progress.update(self._task, completed=done, counts=", ".join(counts))

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._since


def spent(usage: Usage, prices: Prices) -> str:
    """Tokens, and what they cost where that is known."""
    tokens = f"{_short(usage.prompt_tokens)} + {_short(usage.completion_tokens)} tokens"
    cost = prices.cost(usage)
    return tokens if cost is None else f"{tokens}, {cost:.{2 if cost >= 1 else 4}f} USD"


def _short(number: int) -> str:
    return f"{number:,}" if number < 10_000 else f"{number / 1e3:.1f}k" if number < 10**6 else f"{number / 1e6:.2f}M"


def print_summary(console: Console, title: str, tally: Tally, usage: Usage, prices: Prices, seconds: float) -> None:
    """The counts, and some of the hints."""
    rows: list[tuple[str, str]] = [
        ("records", f"{tally.total:,}"),
        ("with a hint before", f"{tally.kept:,}"),
        ("written", f"{tally.written:,}"),
        ("without one", f"{len(tally.failures):,}"),
        *((f"  {cause}", f"{count:,}") for cause, count in tally.causes.most_common()),
        *([("not come to", f"{tally.untouched:,}")] if tally.untouched else []),
        ("requests", f"{usage.calls:,}" + (f", {usage.cached:,} from the cache" if usage.cached else "")),
        ("tokens in", f"{usage.prompt_tokens:,}"),
        ("tokens out", f"{usage.completion_tokens:,}"),
    ]
    cost = prices.cost(usage)
    rows += [] if cost is None else [("cost", f"{cost:.4f} USD")]
    rows.append(("time", f"{seconds:.1f} s"))
    console.print(Text(title, "bold"), soft_wrap=True)  # above it: a title is wrapped to the width of its table
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    console.print(table)
    if tally.samples:
        console.print(_samples(tally))


def _samples(tally: Tally) -> Table:
    table = Table()
    for name in ("key", "question", "hint"):
        table.add_column(name, overflow="fold")
    for key, question, hint in tally.samples:
        table.add_row(Text(key), Text(shorten(question, LONGEST, placeholder=" ...")), Text(hint, "bold"))
    return table


def for_people(messages: Any) -> str:
    """Messages as JSON; pictures as their sizes."""
    return json.dumps(_elided(messages), indent=2, ensure_ascii=False)


def _elided(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _elided(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_elided(item) for item in value]
    if isinstance(value, str) and value.startswith("data:"):
        head, _, data = value.partition(",")
        return f"{head},<{len(data) * 3 // 4:,} bytes>"
    return value
