"""Which frames of a video are taken and how large they become: arithmetic, no decoding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avatar.data.rules import FACTOR, ClipRule

FRAME_FACTOR = 2  # frames are taken in twos: a temporal patch
MAX_RATIO = 200  # of the longer side to the shorter one, as in the reference


def pick_frames(times: Tensor, rule: ClipRule) -> Tensor:
    r"""Frames spread evenly from the first to the last, even in number unless there is only one.

    .. math:: i_k = round(k (n - 1) / (F - 1)), \quad F = \min(n, max\_frames)

    or, at a given rate, :math:`F = \lfloor clip(s \cdot fps,\, 2,\, \min(n, max\_frames)) \rfloor` with s the seconds
    of the video; an odd F is made less by one. Where these are not evenly spread in time, since the video's own rate
    varies, it is instants that are spread evenly, and the frame shown at each of them is taken, once: a frame that is
    shown long makes F smaller. If that leaves an odd number, one that is shown shortest is left out. Where all frames
    fit and no rate is asked for, all are taken whatever their times. One frame, or many of one time, give the first.

    Args:
        times: [n] float64, when each frame is shown, in seconds, ascending; n at least 1.
        rule: Its ``max_frames`` and ``fps``.

    Returns:
        [F] int64, ascending indices into ``times``.

    Reference:
        qwen-omni-utils, ``smart_nframes``; its least number of frames is 4, here it is 2.
    """
    total, span = len(times), float(times[-1] - times[0])
    if span == 0:
        return torch.zeros(1, dtype=torch.long)
    seconds = span * total / (total - 1)  # the last frame is shown as long as the others
    picked = spread_frames(total, seconds, rule)
    if (rule.fps is None and total <= rule.max_frames) or are_even(times[picked], picked):
        return picked
    instants = torch.linspace(float(times[0]), float(times[-1]), len(picked), dtype=torch.float64)
    shown, often = (torch.searchsorted(times, instants, right=True) - 1).unique(return_counts=True)
    if len(shown) != _even(len(shown)):
        least = len(shown) - 1 - int(often.flip(0).argmin())
        shown = torch.cat([shown[:least], shown[least + 1 :]])
    return shown


def spread_frames(total: int, seconds: float, rule: ClipRule) -> Tensor:
    """As :func:`pick_frames`, where all frames are shown equally long.

    Args:
        total: Number of frames, at least 1.
        seconds: How long they are shown altogether.
        rule: Its ``max_frames`` and ``fps``.
    """
    num = min(total, rule.max_frames)
    if rule.fps is not None and num > 1:
        num = min(max(math.floor(seconds * rule.fps + 1e-6), FRAME_FACTOR), num)  # 1e-6: 7.9999999 are 8
    return _spread(total, _even(num))


def are_even(times: Tensor, numbers: Tensor) -> bool:
    """Whether frames are shown when their numbers say, to half a frame, if the first and the last of them are.

    Args:
        times: [F] float64, when each is shown, in seconds, ascending.
        numbers: [F] int64, ascending.
    """
    span, steps = float(times[-1] - times[0]), int(numbers[-1] - numbers[0])
    step = span / max(steps, 1)
    return bool((times - times[0] - step * (numbers - numbers[0])).abs().max() <= step / 2)


def _even(num: int) -> int:
    return num if num == 1 else num - num % FRAME_FACTOR


def _spread(total: int, num: int) -> Tensor:
    # float32 as in the reference: the rounding of ties depends on it
    return torch.linspace(0, total - 1, num, dtype=torch.float32).round().long()


def target_size(height: int, width: int, rule: ClipRule) -> tuple[int, int]:
    """Height and width of a frame for the model: multiples of 28, about the same shape, within the rule's pixels.

    Each side is rounded to the nearest multiple; a frame that is then too large is scaled down with its sides rounded
    down, one that is too small is scaled up with its sides rounded up. A side is never less than one multiple. Where
    the least is more than the most, the most is what every frame is scaled to. The reference's second bound, on all
    frames together, is not applied: it concerns films of over 300 frames.

    Args:
        height: Of the decoded frame, upright.
        width: Likewise.
        rule: Its ``min_pixels`` and ``max_pixels``.

    Raises:
        ValueError: One side is over 200 times the other.

    Reference:
        transformers, ``smart_resize`` of Qwen2-VL; the cap holds for each frame, as with ``cap_pixels_per_frame``.
    """
    if max(height, width) > MAX_RATIO * min(height, width):
        shape = "wide as high" if width > height else "high as wide"
        raise ValueError(f"{width} x {height} pixels are more than {MAX_RATIO} times as {shape}")
    sides = [round(side / FACTOR) * FACTOR for side in (height, width)]
    pixels = sides[0] * sides[1]
    if pixels > rule.max_pixels or rule.min_pixels > rule.max_pixels:
        scale = math.sqrt(height * width / rule.max_pixels)
        sides = [max(FACTOR, math.floor(side / scale / FACTOR) * FACTOR) for side in (height, width)]
    elif pixels < rule.min_pixels:
        scale = math.sqrt(rule.min_pixels / (height * width))
        sides = [math.ceil(side * scale / FACTOR) * FACTOR for side in (height, width)]
    return sides[0], sides[1]
