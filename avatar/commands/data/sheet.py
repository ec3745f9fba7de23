"""A contact sheet: each record's question beside its frames and its sound, on one axis of seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import torch
from torch import Tensor

from avatar.commands.data.page import Page, without_glyph
from avatar.data.inspect import Look, Shown
from avatar.types import Clip

MARGIN, TEXT_WIDTH, GAP, MEDIA_WIDTH = 0.3, 4.4, 0.4, 10.4  # inches
PAGE_WIDTH = 2 * MARGIN + TEXT_WIDTH + GAP + MEDIA_WIDTH
SUBTITLE = "As a model gets them: frames at their true times, and below them the sound of the same seconds."
NUM_FRAMES = 8  # most of a film
FRAME_HEIGHT, IMAGE_HEIGHT, WAVE_HEIGHT, SOUND_HEIGHT = 1.15, 1.7, 0.45, 0.8
SPACE, LEAD_HEIGHT, TICK = 0.03, 0.24, 0.05
FRAME_WIDTH = 1.12  # eight even frames, an eighth of the film apart, then lie over their times without overlap
SMALL = 7.5  # font size
SILENT = 1e-3  # full scale is 1
GREY, GOLD, RED, BLUE = "0.45", "#1b7f3b", "#b3261e", "#3b6ea5"


class Sheet:
    """A contact sheet that grows by a row for each record; no clip is kept, thumbnails are.

    Args:
        title: Its first line.
    """

    def __init__(self, title: str) -> None:
        self._page = Page(PAGE_WIDTH)
        y = self._page.text(MARGIN, MARGIN, title, 14, weight="bold")
        self._y = self._page.text(MARGIN, y, SUBTITLE, color=GREY)

    def add(self, look: Look) -> None:
        """The next record."""
        top = self._y + 0.18
        self._page.line([MARGIN, PAGE_WIDTH - MARGIN], [top, top], color="0.8")
        self._y = max(_text(self._page, look, top + 0.16), _media(self._page, look, top + 0.16))

    def save(self, out: Path) -> str:
        """Write it as PNG; returns what there is to say of it, or nothing."""
        self._page.save(out, self._y + MARGIN)
        if not (missing := without_glyph(self._page.signs)):
            return ""
        return (
            f"boxes stand for {len(missing)} signs that no font here has, such as {' '.join(missing[:5])}; "
            "Debian and Ubuntu: apt-get install fonts-noto-cjk"
        )


# -- on the left -------------------------------------------------------------------------------------------------------


def _text(page: Page, look: Look, y: float) -> float:
    """Key, question, options and answer; returns where they end."""
    y = page.paragraph(MARGIN, y, look.key, TEXT_WIDTH, 10, weight="bold", color=RED if look.reason else "0.1")
    if look.record is None:
        return y
    about = [look.record.problem_type, *([str(look.record.metadata["kind"])] if "kind" in look.record.metadata else [])]
    y = page.text(MARGIN, y, " · ".join(about), SMALL, color=GREY) + 0.05
    y = page.paragraph(MARGIN, y, look.question, TEXT_WIDTH) + 0.05
    for i, option in enumerate(look.record.options):
        style: dict[str, Any] = {"color": GOLD, "weight": "bold"} if i == look.gold else {}
        y = page.paragraph(MARGIN + 0.15, y, f"{ascii_uppercase[i]}. {option}", TEXT_WIDTH - 0.15, most=2, **style)
    if look.gold is None:
        y = page.paragraph(MARGIN, y, f"answer: {look.record.answer}", TEXT_WIDTH, most=4, color=GOLD, weight="bold")
    return y


# -- on the right ------------------------------------------------------------------------------------------------------


def _media(page: Page, look: Look, y: float) -> float:
    """All media under one another, or why there are none; returns where they end."""
    x = MARGIN + TEXT_WIDTH + GAP
    if look.reason:
        end = page.text(x + 0.2, y + 0.12, "cannot be read", 10, color=RED, weight="bold")
        end = page.paragraph(x + 0.2, end, look.reason, MEDIA_WIDTH - 0.4, color=RED) + 0.12
        page.box(x, y, MEDIA_WIDTH, end - y, facecolor="#fdecea", edgecolor=RED, linewidth=0.8)
        return end
    if not look.shown:
        return page.text(x, y, "nothing is shown: text alone", color=GREY)
    for shown in look.shown:
        y = page.text(x, y, caption(shown), SMALL, color=GREY) + 0.04
        y = (_image if shown.clip.image else _strip)(page, shown, x, y) + 0.08
    return y


def caption(shown: Shown) -> str:
    """What is shown in words: the file, the crop, and what of it a model gets."""
    medium, info, clip = shown.medium, shown.info, shown.clip
    parts = [f"{clip.kind} ({medium.name})"]
    if info.width:
        parts.append(f"{info.width} x {info.height} in the file" + (f" at {info.fps:.4g} a second" if info.fps else ""))
    if medium.start is not None or medium.end is not None:
        parts.append(f"from {medium.start or 0:g} s to {'the end' if medium.end is None else f'{medium.end:g} s'}")
    if clip.frames is not None:
        num, _, height, width = clip.frames.shape
        parts.append(f"{'' if clip.image else f'{num} frames of '}{width} x {height} seen")
    if shown.sound_seconds is not None:
        peak = float(clip.audio.abs().max()) if clip.audio is not None else 0.0
        parts.append(f"{shown.sound_seconds:.2f} s heard, {f'peak {peak:.2f}' if peak >= SILENT else 'all silent'}")
    elif info.has_audio and not clip.image:
        parts.append("its sound is not asked for")
    return " · ".join(parts)


def _image(page: Page, shown: Shown, x: float, y: float) -> float:
    assert shown.clip.frames is not None
    _, _, height, width = shown.clip.frames.shape
    scale = min(IMAGE_HEIGHT / height, MEDIA_WIDTH / width)
    page.picture(shown.clip.frames[0], x, y, scale * width, scale * height)
    return y + scale * height


def _strip(page: Page, shown: Shown, x: float, y: float) -> float:
    """Frames at their true times, the sound below them, and an axis of seconds; returns where they end."""
    frames, times = few_frames(shown.clip)
    height, width = thumbnail_size(frames)
    seconds = max(shown.seconds or 0.0, 1e-3)
    left, scale = x + width / 2, (MEDIA_WIDTH - width) / seconds  # inches a second: no frame sticks out at the ends
    places = [left + scale * time for time in times]
    centres = spread(places, width + SPACE, x + width / 2, x + MEDIA_WIDTH - width / 2)
    for frame, time, centre in zip(frames, times, centres, strict=True):
        page.picture(frame, centre - width / 2, y, width, height)
        page.text(centre, y + height + 0.03, f"{time:.2f} s", SMALL, ha="center")
    y += height + LEAD_HEIGHT if frames else 0.0
    depth = SOUND_HEIGHT if not frames else WAVE_HEIGHT if shown.clip.audio is not None else TICK
    for place, centre in zip(places, centres, strict=True):  # from the middle of a frame to its time, and down
        page.line([centre, place, place], [y - 0.06, y, y + depth], color="0.35", linestyle=(0, (1, 1.5)), zorder=3)
    if shown.clip.audio is not None:
        page.wave(shown.clip.audio, left, y, scale * (shown.sound_seconds or 0.0), depth, color=BLUE)
    return _axis(page, left, y + depth, scale, seconds)


def few_frames(clip: Clip) -> tuple[list[Tensor], list[float]]:
    """Up to eight of the frames of a clip, and when each is shown, in seconds."""
    if clip.frames is None:
        return [], []
    num = len(clip.frames)
    times = torch.arange(num) / clip.fps if clip.times is None else clip.times
    picked = range(0, num, -(-num // NUM_FRAMES))  # by equal steps, so that their times are as even as those of all
    return [clip.frames[i] for i in picked], [float(times[i]) for i in picked]


def thumbnail_size(frames: Sequence[Tensor]) -> tuple[float, float]:
    """Height and width of all frames of a clip, in inches; 0 without any."""
    if not frames:
        return 0.0, 0.0
    _, height, width = frames[0].shape
    scale = min(FRAME_HEIGHT / height, FRAME_WIDTH / width)
    return scale * height, scale * width


def spread(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Ascending places, moved so that they lie ``least`` apart and from ``low`` to ``high``, where there is room."""
    moved = list(places)
    for i in range(len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + least if i else low)
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], moved[i + 1] - least if i + 1 < len(moved) else high)
    return moved


def _axis(page: Page, x: float, y: float, scale: float, seconds: float) -> float:
    page.line([x, x + scale * seconds], [y, y], color="0.3")
    step = tick_step(seconds)
    for i in range(int(seconds / step + 1e-6) + 1):
        place = x + scale * i * step
        page.line([place, place], [y, y + TICK], color="0.3")
        page.text(place, y + TICK + 0.02, f"{i * step:g} s", 7, color=GREY, ha="center")
    return y + TICK + 0.14


def tick_step(seconds: float) -> float:
    """The least of 1, 2, 5, 10, ... (and 0.5, 0.2, ...) seconds that divides an axis into ten parts or fewer."""
    power = 10.0 ** math.floor(math.log10(seconds / 10))
    return next(factor * power for factor in (1, 2, 5, 10) if seconds <= factor * power * 10.000001)
