"""One record, one schema: the JSON beside the media of a sample, checked field by field."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from avatar.answers import gold_answer
from avatar.errors import DataError
from avatar.types import Message

PROBLEM_TYPES = ("number", "choice", "exact", "ocr", "free", "location")
MEDIA_KINDS = ("video", "image", "audio")
ROLES = ("system", "user", "assistant")
MOST_SECONDS = 1e9
_TEXT = (str, type(None))
_SPECIAL = re.compile(r"<\|\w+\|>")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "key": _TEXT,
    "question": str,
    "messages": list,
    "answer": str,
    "problem_type": str,
    "options": list,
    "media": list,
    "use_audio_in_video": bool,
    "chain": _TEXT,
    "hint": _TEXT,
    "show_hint": bool,
    "audio_caption": _TEXT,
    "metadata": dict,
}


@dataclass(frozen=True)
class Medium:
    """One thing that a record shows; in JSON ``{"video": "mp4", "start": 2.5, "end": 8}``.

    Attributes:
        kind: ``video``, ``image`` or ``audio`` (the sound of a file, whether it has a picture or not).
        name: In a shard, the extension of the sample's member; in a source file, a path.
        start: Seconds into the file where the clip begins, picture and sound alike; None is its beginning.
        end: Seconds into the file where it ends; None is its end.
    """

    kind: str
    name: str
    start: float | None = None
    end: float | None = None

    def to_fields(self) -> dict[str, Any]:
        """As it stands in JSON."""
        crop = {"start": self.start, "end": self.end}
        return {self.kind: self.name, **{name: value for name, value in crop.items() if value is not None}}


@dataclass(frozen=True)
class Record:
    """A question as it lies in a shard or in a source file.

    Attributes:
        question: The text to ask; the media are shown before it. Empty where ``messages`` are given.
        answer: Gold answer, see :mod:`avatar.answers`.
        problem_type: ``number``, ``choice``, ``exact``, ``ocr``, ``free`` or ``location``.
        media: What to show, in order.
        options: Option texts without letters; needed for ``choice``.
        use_audio_in_video: Play the videos' own sound, interleaved with their frames.
        chain: Gold completion for the cold start.
        hint: One sentence of strategy.
        show_hint: Show it from the start, as demonstrations may.
        audio_caption: What is heard, in words, for a judge.
        metadata: Free; ``kind`` is what results are grouped by.
        messages: The chat in place of ``question``: it ends with the user's turn, and its options, if there are any,
            stand in its text. Parts ``{"type": "video"}`` say where each medium is shown; with none of these all are
            shown before the text of the first user turn.
        key: Unique in the dataset. In a shard the name of the member says it.
    """

    question: str = ""
    answer: str = ""
    problem_type: str = "exact"
    media: list[Medium] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    use_audio_in_video: bool = False
    chain: str | None = None
    hint: str | None = None
    show_hint: bool = False
    audio_caption: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    key: str | None = None

    def to_json(self) -> bytes:
        """One line of UTF-8, keys in a fixed order; what is empty is left out."""
        fields = {name: getattr(self, name) for name in _TYPES}
        fields["media"] = [medium.to_fields() for medium in self.media]
        kept = {name: value for name, value in fields.items() if value not in (None, [], {}, False)}
        if self.messages and not self.question:
            kept.pop("question")
        return json.dumps(kept, ensure_ascii=False).encode()


def parse_record(raw: bytes, where: str) -> Record:
    """Read and check a record.

    Args:
        raw: JSON text.
        where: Shard and key, for messages.

    Raises:
        DataError: Not JSON, a field missing, unknown or of the wrong type, a chat that does not fit its media, or a
            gold answer that cannot be read.
    """
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: the record is not JSON ({error})") from None
    return record_from_fields(fields, where)


def record_from_fields(fields: Any, where: str) -> Record:
    """The record of JSON that is read already; see :func:`parse_record`."""
    if not isinstance(fields, dict):
        raise DataError(f"{where}: the record must be a JSON object, got {type(fields).__name__}")
    if unknown := sorted(set(fields) - set(_TYPES)):
        raise DataError(
            f"{where}: unknown field {unknown[0]!r}; known: {', '.join(_TYPES)}. Put your own in 'metadata'"
        )
    if "answer" not in fields:
        raise DataError(f"{where}: field 'answer' is missing")
    if not fields.get("question") and not fields.get("messages"):
        raise DataError(f"{where}: field 'question' is missing; give it, or 'messages'")
    _check_types(fields, where)
    media = [_medium(item, f"{where}: media[{i}]") for i, item in enumerate(fields.get("media", []))]
    record = Record(**{**fields, "media": media})
    _check_values(record, where)
    return record


def _check_types(fields: dict[str, Any], where: str) -> None:
    for name, value in fields.items():
        if not isinstance(value, _TYPES[name]):
            hint = '; write [{"video": "mp4"}]' if name == "media" else ""
            raise DataError(f"{where}: field {name!r} has the wrong type {type(value).__name__}{hint}")
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, TypeError, RecursionError) as error:  # half of an emoji, say, which no tokenizer takes
            raise DataError(f"{where}: field {name!r} cannot be written as JSON in UTF-8 ({error})") from None
    if wrong := [value for value in fields.get("options", []) if not isinstance(value, str)]:
        raise DataError(f"{where}: field 'options' must hold text, got {wrong[0]!r}")


def _medium(item: Any, where: str) -> Medium:
    kinds = [kind for kind in MEDIA_KINDS if isinstance(item, dict) and kind in item]
    if len(kinds) != 1:
        raise DataError(f"{where}: must be an object with one of {', '.join(MEDIA_KINDS)}, got {item!r}")
    name = item[kinds[0]]
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: {kinds[0]!r} must name a file, got {name!r}")
    if unknown := sorted(set(item) - {kinds[0], "start", "end"}):
        raise DataError(f"{where}: unknown field {unknown[0]!r}; known: {kinds[0]}, start, end")
    start, end = (_seconds(item.get(side), side, where) for side in ("start", "end"))
    if kinds[0] == "image" and not start is end is None:
        raise DataError(f"{where}: an image has no start or end")
    if end is not None and end <= (start or 0.0):
        raise DataError(f"{where}: end must come after start, got start {start or 0.0:g} and end {end:g}")
    return Medium(kinds[0], name, start, end)


def _seconds(value: Any, side: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < MOST_SECONDS:
        raise DataError(f"{where}: {side} must be seconds from the file's beginning, 0 or more, got {value!r}")
    return float(value)


def _check_values(record: Record, where: str) -> None:
    if record.question and record.messages:
        raise DataError(f"{where}: 'question' and 'messages' are both given; which shall be asked? Leave one out")
    if record.problem_type not in PROBLEM_TYPES:
        raise DataError(f"{where}: problem_type {record.problem_type!r} is none of {', '.join(PROBLEM_TYPES)}")
    if len(record.options) > len(ascii_uppercase):
        raise DataError(
            f"{where}: {len(record.options)} options, but there are letters for {len(ascii_uppercase)} only"
        )
    try:
        gold_answer(record.answer, record.problem_type, record.options)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    check_texts(record, where)
    _check_messages(record, where)


def check_texts(record: Record, where: str) -> None:
    """See that what is asked and what is to be learnt holds no token that a chat or a clip is written in.

    Raises:
        DataError: It does.
    """
    parts = [p for m in record.messages if isinstance(m, dict) for p in _texts(m.get("content"))]
    for text in (record.question, record.hint or "", record.chain or "", *record.options, *parts):
        check_text(text, where)


def check_text(text: str, where: str) -> None:
    """See that a text that is shown holds no special token.

    Raises:
        DataError: It does.
    """
    if found := _SPECIAL.search(text):
        raise DataError(f"{where}: the text holds {found[0]!r}, a token with a meaning of its own; take it out")


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str)]


def _check_messages(record: Record, where: str) -> None:
    for i, message in enumerate(record.messages):
        _check_message(message, f"{where}: messages[{i}]")
    if record.messages and record.messages[-1]["role"] != "user":
        raise DataError(f"{where}: messages must end with the user's turn; a gold completion belongs in 'chain'")
    shown, media = placeholders(record.messages), [medium.kind for medium in record.media]
    if shown and shown != media:
        raise DataError(f"{where}: messages show [{', '.join(shown)}], but media are [{', '.join(media)}]")


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict) or set(message) != {"role", "content"} or message["role"] not in ROLES:
        raise DataError(f"{where}: must have a role ({', '.join(ROLES)}) and a content, got {message!r}")
    content = message["content"]
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise DataError(f"{where}: content must be text or a list of parts, got {type(content).__name__}")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        fields = {"type", "text"} if kind == "text" else {"type"}  # chat templates read "image" of a part of any type
        if kind not in ("text", *MEDIA_KINDS) or set(part) != fields or not isinstance(part.get("text", ""), str):
            raise DataError(f"{where}: a part is {{'type': 'text', 'text': ...}} or {{'type': 'video'}}, got {part!r}")


def placeholders(messages: list[Message]) -> list[str]:
    """The kinds of media that the parts of a chat stand for, in order."""
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    return [part["type"] for part in parts if part["type"] in MEDIA_KINDS]
