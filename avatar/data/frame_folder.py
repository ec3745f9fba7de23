"""A folder of images as a silent film: those that are picked are read, and no others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avatar.data.frames import pick_frames
from avatar.data.media import NO_TRACK, late_end, naming, to_clip
from avatar.data.picture import Film, Picture, crop, shrink_to
from avatar.data.rules import FOLDER_FPS, ClipRule
from avatar.data.schema import Medium
from avatar.data.still import read_pixels
from avatar.errors import DataError
from avatar.types import Clip


def pick_images(total: int, medium: Medium, rule: ClipRule, where: str) -> list[int]:
    """Which of ``total`` images are shown, ascending.

    Raises:
        DataError: Start or end lies beyond the end of the film.
    """
    return _choose(total, medium, rule, where)[0].tolist()


def decode_images(
    images: Mapping[str, bytes], total: int, medium: Medium, use_audio: bool, rule: ClipRule, where: str, key: str
) -> Clip:
    r"""The film of a folder's images, image i shown from :math:`i / FOLDER\_FPS` seconds on.

    Args:
        images: Those that :func:`pick_images` picks, by name, in order.
        total: How many there are in the folder.
        medium: From when to when it is shown.
        use_audio: Whether it is to be heard; it is silent, and its sound alone is nothing at all.
        rule: Which images are taken, how large, and whether films may be silent.
        where: Names the folder in messages.
        key: Of the clip.

    Raises:
        DataError: An image is broken or not as large as the first, or all are too large, or the film is to be heard.
    """
    if use_audio and not rule.silent_videos:
        raise DataError(f"{where}: a folder of frames has no sound, but its record plays it", "no sound")
    if medium.kind == "audio":
        return Clip(key, notes=(NO_TRACK,))
    picked, film, begin, end = _choose(total, medium, rule, where)
    frames: list[Tensor] = []
    first: Tensor | None = None
    for name, payload in images.items():
        with naming(name):
            pixels = read_pixels(payload, rule, name)  # [3, H, W]
        if first is None:
            first, shrink = pixels, shrink_to(pixels.shape[1], pixels.shape[2], len(picked), rule, where)
        if pixels.shape != first.shape:
            raise DataError(f"{name}: {_size(pixels)} pixels, but the first frame has {_size(first)}", "no picture")
        frames.append(shrink(pixels[None]))
    picture = Picture(torch.cat(frames), (film.times[picked] - begin).clamp(min=0), begin, end)
    return to_clip(picture, None, rule, key, (*late_end(picture, medium), *((NO_TRACK,) if use_audio else ())))


def _choose(total: int, medium: Medium, rule: ClipRule, where: str) -> tuple[Tensor, Film, float, float]:
    film = Film(torch.arange(total, dtype=torch.float64) / FOLDER_FPS, total / FOLDER_FPS, 0, 0)
    inside, begin, end = crop(film, medium, rule, where)
    return inside[pick_frames(film.times[inside], rule)], film, begin, end


def _size(pixels: Tensor) -> str:
    return f"{pixels.shape[2]} x {pixels.shape[1]}"
