"""The JSON in what a model wrote: alone, in a fence, or with prose around it; never a guess between two."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jsonschema
from referencing import Registry

from avatar.chat.request import ChatReply, ChatRequest
from avatar.chat.words import one_line

MAX_CHARS = 100_000  # of a text that JSON is looked for in; beyond that, looking would take seconds
MAX_STARTS = 2_000  # likewise, of brackets tried
_THOUGHTS = "</think>"


class NoAnswerError(Exception):
    """A reply is not what was asked for; the message is what the model is told."""


def read(reply: ChatReply, request: ChatRequest, review: Callable[[ChatReply], str | None] | None) -> ChatReply:
    """The reply with its data, if the request has a schema.

    Raises:
        NoAnswerError: It is empty, has no data of the schema, or ``review`` complains.
    """
    if not reply.text.strip():
        raise NoAnswerError("The answer is empty.")
    if request.schema is not None:
        reply = replace(reply, data=extract(reply.text, request.schema))
    wrong = review(reply) if review else None
    if wrong:
        raise NoAnswerError(wrong)
    return reply


def extract(text: str, schema: dict[str, Any]) -> Any:
    """The one JSON value in ``text`` that keeps the schema.

    A text that is JSON as a whole is the value. Otherwise it is looked for in fences of three backticks, and objects
    and lists in the prose. What stands before ``</think>`` is not looked at. The same value twice is one.

    Raises:
        NoAnswerError: There is no JSON, none of it keeps the schema, or there are two different values that do.
    """
    if len(text) > MAX_CHARS:
        raise NoAnswerError(f"The answer has {len(text):,} characters. Be brief.")
    values = _values(text.rpartition(_THOUGHTS)[2].strip())
    if not values:
        raise NoAnswerError("The answer holds no valid JSON.")
    try:
        return _only_good(values, schema)
    except (RecursionError, OverflowError):
        raise NoAnswerError("The JSON is nested too deep, or holds a number that is too large.") from None


def _only_good(values: list[Any], schema: dict[str, Any]) -> Any:
    faults = [fault(value, schema) for value in values]
    good = [value for value, wrong in zip(values, faults, strict=True) if wrong is None]
    if not good:
        raise NoAnswerError(f"The JSON does not keep the schema: {faults[-1]}.")
    if any(_canonical(value) != _canonical(good[0]) for value in good):
        raise NoAnswerError("The answer holds different JSON values that keep the schema. Only one may stand there.")
    return good[0]


def fault(value: Any, schema: dict[str, Any]) -> str | None:
    """Where and how ``value`` breaks the schema, in a line; None if it does not."""
    errors = jsonschema.Draft202012Validator(schema, registry=Registry()).iter_errors(value)
    worst = jsonschema.exceptions.best_match(errors)
    return None if worst is None else f"at {worst.json_path}: {one_line(worst.message, 200)}"


def check_schema(schema: dict[str, Any]) -> None:
    """See to it that ``schema`` is one.

    Raises:
        ValueError: It is no JSON schema; says where.
    """
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        raise ValueError(f"schema is no JSON schema: at {error.json_path}: {one_line(error.message, 200)}") from None


def complaint(wrong: str, schema: dict[str, Any] | None) -> str:
    """What the model is told after an answer that will not do."""
    if schema is None:
        return f"{wrong} Answer again."
    form = json.dumps(schema, ensure_ascii=False)
    return f"{wrong} Answer again with one JSON value of this schema and nothing else: {form}"


def _values(text: str) -> list[Any]:
    whole = _parsed(text)
    if whole:
        return whole
    pieces, fenced = text.split("```"), []
    for i in range(1, len(pieces), 2):
        found = _parsed(_without_language(pieces[i]))
        fenced += found
        pieces[i] = "" if found else pieces[i]
    return fenced + list(_scanned("```".join(pieces)))


def _parsed(text: str) -> list[Any]:
    """[the value], or [] if the text is not JSON from end to end."""
    try:
        return [_DECODER.decode(text)]
    except (ValueError, RecursionError):
        return []


def _without_language(fence: str) -> str:
    """A fence's content, without the word after its backticks."""
    fence = fence.strip()
    return fence[4:].strip() if fence[:4].lower() == "json" else fence


def _scanned(text: str) -> Iterator[Any]:
    """Objects and lists among prose, outermost ones."""
    at = 0
    for _ in range(MAX_STARTS):
        start = _BRACKET.search(text, at)
        if start is None:
            return
        try:
            value, at = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
        else:
            yield value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    """A number; one beyond all floats would be read as infinite."""
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is too large")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name that comes twice has no one value."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name comes twice")
    return dict(pairs)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


_BRACKET = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant, object_pairs_hook=_once)
