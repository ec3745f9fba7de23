"""What only a judge can tell: replies whose score is None are shown to one, if an endpoint is given."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from avatar.benchmarks.base import Benchmark
from avatar.benchmarks.grades import Graded, Scoring
from avatar.chat import ChatClient, ChatError, ChatReply


@dataclass(frozen=True)
class Judged:
    """Graded replies, and how the judge fared.

    Attributes:
        graded: All replies, in order.
        num_asked: How many were shown to the judge.
        failures: What went wrong with those that it gave no verdict on; their score stays None.
    """

    graded: list[Graded]
    num_asked: int = 0
    failures: tuple[ChatError, ...] = ()


def judge_open(
    benchmark: Benchmark, graded: Sequence[Graded], outputs: Sequence[str], scoring: Scoring, client: ChatClient | None
) -> Judged:
    """Have a judge decide about the replies that no rule decides.

    Args:
        benchmark: Says what is asked, and what follows from a verdict.
        graded: n replies, graded by the rule.
        outputs: n raw replies.
        scoring: The rule.
        client: The endpoint; None leaves them undecided.
    """
    requests = {}
    for i, (one, output) in enumerate(zip(graded, outputs, strict=True)):
        if client and one.grade.score is None and one.grade.counted:
            request = benchmark.judge_request(output, one.question, scoring)
            if request is not None:
                requests[i] = request
    if not client or not requests:
        return Judged(list(graded))
    found, failures = list(graded), []
    for i, reply in zip(requests, client.ask(list(requests.values())), strict=True):
        if isinstance(reply, ChatReply) and reply.data is not None:
            question = graded[i].question
            found[i] = Graded(question, benchmark.judged(reply.data, question, scoring))
        elif isinstance(reply, ChatError):
            failures.append(reply)
    if failures:
        warnings.warn(
            f"{benchmark.title}: the judge gave no verdict on {len(failures)} of {len(requests)} replies, and so they "
            f"have no score; the same command shows them to it again. The first: {failures[0]}",
            stacklevel=2,
        )
    return Judged(found, len(requests), tuple(failures))
