"""Questions to a teacher and back, in rounds: what cannot be used goes into the next round with a complaint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from avatar.chat import ChatClient, ChatError, ChatReply
from avatar.commands.hints.teacher import Question, find_fault, tidy
from avatar.data.skipped import Failure

ASKS = 3  # times that one record is asked at most because of what its hint says
ROUND = 4  # questions in a round, for each request in flight
CAUSES = {"down": "no answer", "refused": "refused", "nonsense": "not what was asked for"}
Settle = Callable[[Question, str | Failure], None]


def ask_all(client: ChatClient, questions: Iterator[Question], settle: Settle) -> str | None:
    """Ask until no question is left. No more than a round of them is held at a time.

    Args:
        client: Of the teacher.
        questions: Taken as there is room for them.
        settle: Gets each question with its hint, or with why there is none, as soon as that is known.

    Returns:
        None; or why it was given up: a round has brought no answer at all, or the rounds so far none that could be
        read.
    """
    size, again, any_answer = ROUND * client.max_concurrency, list[Question](), False
    while batch := [*again, *islice(questions, size - len(again))]:
        again = []

        def take(place: int, outcome: ChatReply | ChatError, batch: list[Question] = batch) -> None:
            found = _judge(batch[place], outcome)
            if isinstance(found, Question):
                again.append(found)  # noqa: B023  (called within this round alone)
            else:
                settle(batch[place], found)

        outcomes = client.ask([question.request for question in batch], on_reply=take)
        errors = [outcome for outcome in outcomes if isinstance(outcome, ChatError)]
        any_answer = any_answer or len(errors) < len(outcomes)
        fatal = [error for error in errors if error.kind != "nonsense" or not any_answer]
        if len(fatal) == len(outcomes):
            return str(fatal[0])
    return None


def _judge(question: Question, outcome: ChatReply | ChatError) -> str | Failure | Question:
    """The hint, why there is none, or the question to ask again."""
    if isinstance(outcome, ChatError):
        return Failure(question.key, str(outcome), CAUSES[outcome.kind])
    assert outcome.data is not None
    hint = tidy(outcome.data["hint"])
    fault = find_fault(hint, question)
    if fault is None:
        return hint
    cause, reason, complaint = fault
    if question.asked + 1 < ASKS:
        return question.again(outcome.text, complaint)
    return Failure(question.key, f"asked {ASKS} times, at last {reason}", cause)
