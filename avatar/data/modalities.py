"""Leaving out what a record shows, to see what it is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from avatar.data.schema import MEDIA_KINDS, Medium, Record
from avatar.types import Message

Modalities = Literal["both", "video", "audio", "none"]
MODALITIES: tuple[Modalities, ...] = ("both", "video", "audio", "none")


def limit_media(record: Record, modalities: Modalities) -> Record:
    """The record with some of its media left out, and with them the places in the chat that stand for them.

    ========= ==========================================================================================================
    ``both``  nothing is left out
    ``video`` pictures alone: no audio, and videos are silent
    ``audio`` sound alone: no images; of a video its sound, if the record plays it, and else nothing
    ``none``  the text alone
    ========= ==========================================================================================================
    """
    if modalities == "both":
        return record
    kept = [_limited(medium, record.use_audio_in_video, modalities) for medium in record.media]
    return replace(keep_media(record, kept), use_audio_in_video=False)


def keep_media(record: Record, kept: list[Medium | None]) -> Record:
    """The record with these in place of its media; None leaves one out, and the place in the chat that stands for it.

    Args:
        record: The record.
        kept: One for each medium of the record.
    """
    media = [medium for medium in kept if medium is not None]
    return replace(record, media=media, messages=_without(record.messages, kept))


def _limited(medium: Medium, use_audio: bool, modalities: Modalities) -> Medium | None:
    """What is left of a medium."""
    if modalities == "video":
        return None if medium.kind == "audio" else medium
    if modalities == "audio" and medium.kind == "video" and use_audio:
        return replace(medium, kind="audio")
    return medium if modalities == "audio" and medium.kind == "audio" else None


def _without(messages: list[Message], kept: list[Medium | None]) -> list[Message]:
    """A chat whose placeholders stand for what is kept; one without placeholders stays as it is."""
    left = iter(kept)

    def parts(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = [(part, next(left) if part["type"] in MEDIA_KINDS else None) for part in content]
        return [{"type": medium.kind} if medium else part for part, medium in found if medium or part["type"] == "text"]

    return [
        {**message, "content": parts(message["content"])} if isinstance(message["content"], list) else message
        for message in messages
    ]
