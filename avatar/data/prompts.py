"""From a record and its decoded media to the chat that asks it."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_uppercase

from avatar.data.schema import Record, placeholders
from avatar.types import Clip, Message, Prompt


@dataclass(frozen=True)
class PromptStyle:
    """How records are asked.

    Attributes:
        system: System message of records that bring none of their own; None for none.
        letter_options: Show options as ``A. text``, one a line; else as ``text / text`` on one line.
    """

    system: str | None = None
    letter_options: bool = True


def to_prompt(record: Record, key: str, clips: tuple[Clip, ...], style: PromptStyle) -> Prompt:
    """The chat that asks ``record``: a system message if there is one, then media and question in the user's turn.

    A hint that is shown is the last line of the system message, ``Hint: ...``.

    Args:
        record: The record.
        key: Unique in the dataset.
        clips: Its decoded media, in the order of ``record.media``.
        style: How it is asked.
    """
    messages = _shown(record) if record.messages else [_question(record, style.letter_options)]
    if style.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": style.system}, *messages]
    prompt = Prompt(
        key=key,
        messages=messages,
        clips=clips,
        answer=record.answer,
        problem_type=record.problem_type,
        options=tuple(record.options),
        chain=record.chain,
        hint=record.hint,
        audio_caption=record.audio_caption,
        metadata=record.metadata,
    )
    return prompt.with_hint() if record.show_hint and record.hint else prompt


def _question(record: Record, letter_options: bool) -> Message:
    text = record.question
    if record.options and letter_options:
        lettered = zip(ascii_uppercase, record.options, strict=False)
        text += "".join(f"\n{letter}. {option}" for letter, option in lettered)
    elif record.options:
        text += " " + " / ".join(record.options)
    return {"role": "user", "content": [*_parts(record), {"type": "text", "text": text}]}


def _shown(record: Record) -> list[Message]:
    """The record's messages; where they do not say what is shown when, all comes first in the user's first turn."""
    if placeholders(record.messages) or not record.media:
        return list(record.messages)
    first = next(i for i, message in enumerate(record.messages) if message["role"] == "user")
    content = record.messages[first]["content"]
    text = [{"type": "text", "text": content}] if isinstance(content, str) else content
    turn = {"role": "user", "content": [*_parts(record), *text]}
    return [*record.messages[:first], turn, *record.messages[first + 1 :]]


def _parts(record: Record) -> list[dict[str, str]]:
    return [{"type": medium.kind} for medium in record.media]
