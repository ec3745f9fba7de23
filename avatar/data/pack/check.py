"""A look at each thing that is shown, through the same decoder as in training; done in a process that may be killed."""

from __future__ import annotations

from dataclasses import dataclass

from avatar.data.media import decode_medium, probe
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.data.sources import Span


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes:
        span: Where the file lies.
        medium: What of it is shown.
        sound: Whether a video is to be heard; None is where it has a sound track.
        rule: How it is decoded.
        name: Of the file, for messages.
    """

    span: Span
    medium: Medium
    sound: bool | None
    rule: ClipRule
    name: str


@dataclass(frozen=True)
class Checked:
    """What was found; the file can be decoded as it is wanted.

    Attributes:
        picture: Whether the file has one.
        sound: Whether the file has any.
        seconds: How long the file says it is; 0 for an image.
        heard: Whether the sound is played.
    """

    picture: bool
    sound: bool
    seconds: float
    heard: bool


def check(task: Check) -> Checked:
    """Decode it.

    Raises:
        DataError: It cannot be decoded, or not as it is wanted.
    """
    payload, medium = task.span.read(), task.medium
    info = probe(payload, medium.kind)
    heard = info.has_audio if task.sound is None else task.sound
    clip = decode_medium(payload, medium, heard, task.rule, task.name, task.name)
    return Checked(info.has_video, info.has_audio, info.seconds, clip.audio is not None)
