"""``avatar hints write``: a teacher looks at each clip and writes one sentence of strategy."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from avatar.chat import ChatClient
from avatar.commands.hints.asking import ROUND, ask_all
from avatar.commands.hints.journal import Before, Journal
from avatar.commands.hints.records import Records, decode, open_records, read_record
from avatar.commands.hints.show import Bar, Prices, Tally, for_people, print_summary
from avatar.commands.hints.teacher import VERSION, Question, pose
from avatar.data.dataset import start_decoders
from avatar.data.index import Entry
from avatar.data.rules import FACTOR, ClipRule
from avatar.data.skipped import Failure, print_failures
from avatar.errors import ConfigError, DataError


def write(
    data: str,
    *,
    endpoint: str,
    model: str,
    out: str | None = None,
    num_frames: int = 8,
    max_pixels: int = 448 * 448,
    show_answer: bool = False,
    limit: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    price_in: float | None = None,
    price_out: float | None = None,
    concurrency: int = 8,
    num_workers: int = 2,
    api_key_env: str = "OPENAI_API_KEY",
    temperature: float = 0.0,
    max_tokens: int = 512,
    timeout: float = 60.0,
    attempts: int = 4,
    cache: str | None = None,
    media_root: str | None = None,
    max_audio_seconds: float = 300.0,
    time_limit: float = 60.0,
) -> int:
    """Have a teacher write a hint for each record that has none; exit 1 if one of those is left without.

    Hints of a shard folder go to hints.jsonl in it, which training takes up; the shards stay as they are. Those of a
    JSONL file go into a copy of it, NAME.hinted.jsonl. A hint that tells the answer is never written. A run that was
    interrupted goes on where it stopped, with the same command, and one that is done tries what failed again.

    Args:
        data: Shard folder or its address, or a JSONL file of our records.
        endpoint: Of the teacher, as http://localhost:8000/v1; anything that speaks chat completions.
        model: As the server names it.
        out: File to write to; by default hints.jsonl in the folder, or NAME.hinted.jsonl beside a JSONL file.
        num_frames: Frames of each video that the teacher sees, spread evenly.
        max_pixels: Larger frames are scaled down to this.
        show_answer: Tell the teacher the answer; the hint is kept from telling it either way.
        limit: Ask for no more than so many hints in this run.
        overwrite: Replace hints that are there: those that records bring, and those of another teacher. What this very
            command has written stays.
        dry_run: Ask nothing; say for how many hints would be asked, and show one request.
        price_in: USD per million tokens that are sent.
        price_out: USD per million tokens that the teacher writes.
        concurrency: Requests in flight at a time.
        num_workers: Processes that decode clips.
        api_key_env: Environment variable that holds the API key, if there is one.
        temperature: Of the teacher; 0 for its likeliest hint.
        max_tokens: Of one reply, at most; one that thinks first needs more.
        timeout: Seconds that one request may take.
        attempts: Of one request, at most.
        cache: Folder for replies, so that none is paid for twice.
        media_root: Folder that the media of a JSONL file lie in; by default its own.
        max_audio_seconds: A clip with a longer sound is an error, as in training.
        time_limit: Seconds that decoding one record may take.
    """
    _check_at_least(1, num_frames=num_frames, max_pixels=max_pixels, num_workers=num_workers)
    _check_at_least(1, **({} if limit is None else {"limit": limit}))
    client = ChatClient(
        endpoint, model, api_key_env, temperature, max_tokens, timeout, attempts, 1.0, concurrency, cache
    )
    rule = ClipRule(num_frames, None, FACTOR**2, max_pixels, max_audio_seconds=max_audio_seconds, time_limit=time_limit)
    prices, records = Prices(price_in, price_out), open_records(data, media_root)
    how = {"model": model, "teacher": VERSION, "num_frames": num_frames, "shown_answer": show_answer}
    run = _Run(data, records, client, rule, prices, show_answer, limit, overwrite, num_workers)
    place = records.place(out)
    if dry_run:
        return run.rehearse(Before(place, how))
    client.check()
    with closing(Journal(place, how)) as journal:
        return run.write(journal, out)


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"--{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class _Run:
    """One run over the records of ``name``."""

    name: str
    records: Records
    client: ChatClient
    rule: ClipRule
    prices: Prices
    show_answer: bool
    limit: int | None
    overwrite: bool
    num_workers: int

    def rehearse(self, before: Before) -> int:
        """Say what would be asked."""
        tally, first, number = Tally(len(self.records)), None, 0
        for item in self._wanted(before, tally):
            if isinstance(item, Failure):
                tally.failures.append(item)
            else:
                first, number = first or item, number + 1
        self._say(
            f"{self.name}: {self.client.model} would be asked for {number:,} hints; {tally.kept:,} of {tally.total:,} "
            "records have one. Nothing was asked"
        )
        if first is not None:
            for found in self._decoded(iter([first])):
                if isinstance(found, Failure):
                    tally.failures.append(found)
                else:
                    self._say(f"the request for {found.key}:")
                    print(for_people(found.messages))
        return self._end(tally)

    def write(self, journal: Journal, out: str | None) -> int:
        """Ask, write, and show what came of it."""
        tally = Tally(len(self.records))
        bar = Bar(Console(stderr=True), tally, self.client.usage, self.prices)

        def settle(question: Question, found: str | Failure) -> None:
            if isinstance(found, str):
                journal.add(question.key, found)
                tally.write(question.key, question.text, found)
            else:
                fail(found)
            bar.update()

        def fail(failure: Failure) -> None:
            journal.fail(failure)
            tally.failures.append(failure)
            bar.update()

        with bar, self._going_on(journal.path):
            questions = self._questions(self._wanted(journal.before, tally), fail)
            gave_up = ask_all(self.client, questions, settle)
            questions.close()
        place = self.records.finish(out) or journal.path
        print_summary(Console(), self.name, tally, self.client.usage, self.prices, bar.seconds)
        self._say(f"hints: {place}")
        if gave_up:
            self._say(f"stopped, for nothing was answered any more: {gave_up}. The same command goes on")
        return self._end(tally, journal.log) or int(gave_up is not None)

    def _wanted(self, before: Before, tally: Tally) -> Iterator[Entry | Failure]:
        """The records that are to have a hint and have none, as many as may be asked for; the others are counted."""
        number = 0
        for item in self.records.entries():
            if self.limit is not None and number >= self.limit:
                return
            if isinstance(item, Failure):
                yield item
            elif before.has(item.key, self.overwrite):
                tally.kept += 1
            elif isinstance(record := read_record(item), Failure):
                yield record
            elif record.hint and not self.overwrite:
                tally.kept += 1
            else:
                number += 1
                yield item

    def _questions(self, wanted: Iterator[Entry | Failure], fail: Callable[[Failure], None]) -> Generator[Question]:
        for found in self._decoded(wanted):
            if isinstance(found, Failure):
                fail(found)
            else:
                yield found

    def _decoded(self, wanted: Iterator[Entry | Failure]) -> Generator[Question | Failure]:
        ahead = ROUND * self.client.max_concurrency
        with closing(start_decoders(self.num_workers, self.rule, "--time_limit")) as decoders:
            for found in decode(wanted, decoders, self.rule, ahead):
                yield found if isinstance(found, Failure) else pose(found, self.show_answer)

    @contextmanager
    def _going_on(self, place: Path) -> Iterator[None]:
        """Say what becomes of a run that ends before its time."""
        try:
            yield
        except KeyboardInterrupt:
            self._say(f"{place} holds what is done; the same command goes on from there")
            raise
        except OSError as error:
            raise DataError(
                f"{place}: writing stopped ({error}). What is done stays; when that is mended the same command goes on"
            ) from error

    def _end(self, tally: Tally, log: Path | None = None) -> int:
        """Name what failed; the exit status."""
        if not tally.failures:
            return 0
        named = f"; all are named in {log}" if log else ""
        print_failures(tally.failures, f"{len(tally.failures)} records are left without a hint{named}")
        return 1

    def _say(self, text: str) -> None:
        Console().print(Text(text), soft_wrap=True)
