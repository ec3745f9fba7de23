"""One record, one schema: the JSON beside a clip in a shard, checked field by field."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from string import ascii_uppercase
from typing import Any

from avatar.answers import gold_answer
from avatar.errors import DataError
from avatar.types import Clip, Message, Prompt

PROBLEM_TYPES = ("number", "choice", "exact")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "question": str,
    "answer": str,
    "problem_type": str,
    "media": dict,
    "options": list,
    "use_audio_in_video": bool,
    "chain": (str, type(None)),
    "hint": (str, type(None)),
    "show_hint": bool,
    "metadata": dict,
}


@dataclass(frozen=True)
class Record:
    """A question as it lies in a shard.

    Attributes:
        question: The text to ask.
        answer: Gold answer, see :mod:`avatar.answers`.
        problem_type: ``number``, ``choice`` or ``exact``.
        media: What to show, by kind: ``{"video": "mp4"}`` names the member of the sample by its extension.
        options: Option texts without letters; empty unless ``choice``.
        use_audio_in_video: Play the video's own sound, interleaved with its frames.
        chain: Gold completion for the cold start.
        hint: One sentence of strategy.
        show_hint: Show it from the start, as demonstrations may.
        metadata: Free; ``kind`` is what results are grouped by.
    """

    question: str
    answer: str
    problem_type: str = "exact"
    media: dict[str, str] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    use_audio_in_video: bool = False
    chain: str | None = None
    hint: str | None = None
    show_hint: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """One line of UTF-8, keys in a fixed order."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()


def parse_record(raw: bytes, where: str) -> Record:
    """Read and check a record.

    Args:
        raw: JSON text.
        where: Shard and key, for messages.

    Raises:
        DataError: Not JSON, a field missing, unknown or of the wrong type, or a gold answer that cannot be read.
    """
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: the record is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise DataError(f"{where}: the record must be a JSON object, got {type(fields).__name__}")
    if unknown := sorted(set(fields) - set(_TYPES)):
        raise DataError(
            f"{where}: unknown field {unknown[0]!r}; known: {', '.join(_TYPES)}. Put your own in 'metadata'"
        )
    if missing := [name for name in ("question", "answer") if name not in fields]:
        raise DataError(f"{where}: field {missing[0]!r} is missing")
    _check_types(fields, where)
    record = Record(**fields)
    _check_values(record, where)
    return record


def _check_types(fields: dict[str, Any], where: str) -> None:
    for name, value in fields.items():
        if not isinstance(value, _TYPES[name]):
            raise DataError(f"{where}: field {name!r} has the wrong type {type(value).__name__}")
    for name, values in (("options", fields.get("options", [])), ("media", fields.get("media", {}).values())):
        if wrong := [value for value in values if not isinstance(value, str)]:
            raise DataError(f"{where}: field {name!r} must hold text, got {wrong[0]!r}")


def _check_values(record: Record, where: str) -> None:
    if record.problem_type not in PROBLEM_TYPES:
        raise DataError(f"{where}: problem_type {record.problem_type!r} is none of {', '.join(PROBLEM_TYPES)}")
    if unknown := sorted(set(record.media) - {"video"}):
        raise DataError(f"{where}: media kind {unknown[0]!r} is not supported; known: video")
    if len(record.options) > len(ascii_uppercase):
        raise DataError(
            f"{where}: {len(record.options)} options, but there are letters for {len(ascii_uppercase)} only"
        )
    try:
        gold_answer(record.answer, record.problem_type, record.options)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def to_prompt(record: Record, key: str, clips: tuple[Clip, ...], system: str | None, letter_options: bool) -> Prompt:
    """The chat that asks ``record``: a system message if there is one, then clips and question in one user turn.

    A hint that is shown is the last line of the system message, ``Hint: ...``.

    Args:
        record: The record.
        key: Unique in the dataset.
        clips: Its decoded media, in the order of ``record.media``.
        system: System message, or None for none.
        letter_options: Show options as ``A. text``, one a line; else ``text / text`` on one line.
    """
    text = record.question
    if record.options and letter_options:
        text += "".join(
            f"\n{letter}. {option}" for letter, option in zip(ascii_uppercase, record.options, strict=False)
        )
    elif record.options:
        text += " " + " / ".join(record.options)
    parts: list[dict[str, str]] = [{"type": kind} for kind in record.media]
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": [*parts, {"type": "text", "text": text}]})
    prompt = Prompt(
        key=key,
        messages=messages,
        clips=clips,
        answer=record.answer,
        problem_type=record.problem_type,
        options=tuple(record.options),
        chain=record.chain,
        hint=record.hint,
        metadata=record.metadata,
    )
    return prompt.with_hint() if record.show_hint and record.hint else prompt
