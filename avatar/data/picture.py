"""The frames of a film: their times from its index, their pixels by seeking, scaled as they come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor
from torchcodec.decoders import ColorConverter, Demuxer, RawFrame, VideoDecoder
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from avatar.data.frames import are_even, pick_frames, spread_frames, target_size
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.errors import DataError

MAX_FRAME_PIXELS = 2**26  # no camera makes more; a decoder takes memory by what a header claims
CHUNK_BYTES = 64 * 2**20  # of frames at their own size that are held at a time
REFERENCE_FRAMES = 8  # that a decoder keeps, roughly
LONG = 1000  # frames from which on a second look through all of them is worth avoiding
LATE = 0.5  # seconds by which a crop may end after the film
ROUNDING = 6e-4  # seconds by which a file may round a time: Matroska counts in milliseconds
EPSILON = 1e-6  # seconds, of what floats lose
MAX_SECONDS = 1e9  # a time beyond is a missing one
MIN_FOUND = 0.98  # share of the frames of the index that a decoder must give; MPEG streams lose some at their ends

Shrink = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Film:
    """What is known of a film before its pixels are.

    Attributes:
        times: [n] float64, when each frame is shown, in seconds of the file's own clock, ascending; n at least 1.
        end: When the last one goes, by the same clock.
        height: Of a frame, upright, in pixels.
        width: Likewise.
    """

    times: Tensor
    end: float
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Picture:
    """What is shown.

    Attributes:
        frames: [F, 3, H, W] uint8.
        times: [F] float64, when each is shown, in seconds from ``begin``.
        begin: Seconds of the file's own clock at which the clip begins.
        end: Likewise, at which it ends.
    """

    frames: Tensor
    times: Tensor
    begin: float
    end: float


def read_picture(payload: bytes, medium: Medium, rule: ClipRule, where: str) -> Picture:
    """The frames that ``rule`` takes of a film between a medium's start and end.

    Raises:
        DataError: There is no film, or not between start and end; a frame or all of them are too large; frames are
            missing or do not say when they are shown.
        RuntimeError: It cannot be decoded.
    """
    if (picture := _even_picture(payload, medium, rule, where)) is not None:
        return picture
    film = _read_index(payload, where)
    inside, begin, end = crop(film, medium, rule, where)
    picked = inside[pick_frames(film.times[inside], rule)]
    shrink = shrink_to(film.height, film.width, len(picked), rule, where)
    if (frames := _seek_frames(payload, film.times, picked, shrink)) is None:
        film = _read_all(payload, film, where)
        inside, begin, end = crop(film, medium, rule, where)
        picked = inside[pick_frames(film.times[inside], rule)]
        frames = _collect_frames(payload, picked, shrink)
    return Picture(frames, (film.times[picked] - begin).clamp(min=0), begin, end)


def _even_picture(payload: bytes, medium: Medium, rule: ClipRule, where: str) -> Picture | None:
    """A whole film of constant rate, from one look at its index; None for any other, and wherever there is a doubt.

    The times that come with the frames tell: those of a film of another kind, and those of frames that seeking has
    missed, are not evenly spread.
    """
    if rule.fps is not None or not medium.start is medium.end is None:
        return None
    with suppress(RuntimeError, ValueError, IndexError):  # those who look closer will meet it again
        video = VideoDecoder(payload, num_ffmpeg_threads=1, device="cpu")
        header = video.metadata
        if not (header.height and header.width):
            return None
        begin, end = header.begin_stream_seconds, header.end_stream_seconds
        picked = spread_frames(len(video), end - begin, rule)
        shrink = shrink_to(header.height, header.width, len(picked), rule, where)
        frames, times = _decode(video, picked, shrink)
        if abs(times[0] - begin) < EPSILON and -MAX_SECONDS < times[-1] < end < MAX_SECONDS and are_even(times, picked):
            return Picture(frames, times - begin, begin, end)
    return None


def _read_index(payload: bytes, where: str) -> Film:
    """The times of all frames from the index or the packets of a file."""
    try:
        stream = Demuxer(payload, streams="video").streams[0]
    except ValueError:
        raise DataError(
            f'{where}: the file has no picture. If it is to be heard only, its record says {{"audio": ...}}',
            "no picture",
        ) from None
    height, width = stream.metadata.height or 0, stream.metadata.width or 0
    try:
        index = stream.scan()
    except RuntimeError:  # it cannot be wound back, as some FLV
        return _read_all(payload, Film(torch.zeros(0), 0.0, height, width), where)
    return _film(index.pts_seconds, index.duration_seconds, height, width, where)


def _read_all(payload: bytes, index: Film, where: str) -> Film:
    """The times of all frames as they come out of the decoder.

    An AVI knows no times but its index, and frames that are predicted from later ones come out of it without: there the
    first frame is shown at the first time of the index, and so on.
    """
    shown = [(frame.pts_seconds, frame.duration_seconds) for frame in _raw_frames(payload)]
    times, seconds = torch.tensor(shown, dtype=torch.float64).reshape(-1, 2).unbind(1)
    if len(times) < MIN_FOUND * len(index.times):
        raise DataError(
            f"{where}: the video cannot be decoded: only {len(times)} of {len(index.times)} frames are to be found",
            "cannot be decoded",
        )
    if len(times) == len(index.times) and bool((times.abs() > MAX_SECONDS).any()):
        return index
    return _film(times, seconds, index.height, index.width, where)


def _film(times: Tensor, seconds: Tensor, height: int, width: int, where: str) -> Film:
    if not len(times) or not height * width:
        raise DataError(f"{where}: the video has no frames", "no picture")
    end, begin = float((times + seconds).max()), float(times[0])
    unknown = bool(times.abs().max() > MAX_SECONDS) or bool((times.diff() < 0).any())
    if unknown or end - begin < EPSILON or (len(times) > 1 and times[-1] - begin < EPSILON):
        raise DataError(
            f"{where}: the video cannot be decoded: it does not say when its frames are shown", "cannot be decoded"
        )
    return Film(times, end, height, width)


def crop(film: Film, medium: Medium, rule: ClipRule, where: str) -> tuple[Tensor, float, float]:
    """[m] the frames that begin within start and end, or, where none does, the one that is shown; and these two.

    Raises:
        DataError: Start lies beyond the end of the film; or end does, and the rule does not take that.
    """
    origin = float(film.times[0])
    seconds = film.end - origin
    start, end = medium.start or 0.0, seconds if medium.end is None else medium.end
    latest = math.inf if rule.late_ends else seconds + LATE
    for name, value, most in (("start", start, seconds - EPSILON), ("end", end, latest)):
        if value > most:
            raise DataError(
                f"{where}: {name} {value:g} s lies beyond the end of the video, which lasts {seconds:g} s", "no picture"
            )
    begin, stop = origin + start, origin + min(end, seconds)
    inside = ((film.times >= begin - ROUNDING) & (film.times < stop - ROUNDING)).nonzero()[:, 0]
    if not len(inside):
        inside = (film.times < begin).nonzero()[-1:, 0]
    return inside, begin, stop


def shrink_to(height: int, width: int, num_frames: int, rule: ClipRule, where: str) -> Shrink:
    """What scales frames to the size that the rule wants, after a look at the memory that it will take.

    Raises:
        DataError: A frame or all of them are too large, or one is far wider than high.
    """
    if height * width > MAX_FRAME_PIXELS:
        raise DataError(
            f"{where}: a frame of {width} x {height} pixels is larger than {MAX_FRAME_PIXELS:,} pixels", "too large"
        )
    try:
        size = target_size(height, width, rule)
    except ValueError as error:
        raise DataError(f"{where}: {error}", "too large") from None
    needed = 3 * REFERENCE_FRAMES * height * width + CHUNK_BYTES + 2 * 3 * num_frames * size[0] * size[1]
    if needed > rule.max_decoded_mb * 2**20:
        raise DataError(
            f"{where}: decoding {num_frames} frames takes about {needed >> 20:,} MB, more than data.max_decoded_mb, "
            f"which is {rule.max_decoded_mb:,}. Take fewer (data.max_frames) or smaller ones (data.max_pixels)",
            "too large",
        )
    return lambda frames: scale(frames, size)


def scale(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """[..., 3, H, W] uint8 to ``size``, as the reference does it; those that have the size are given back untouched."""
    if frames.shape[-2:] == size:
        return frames
    return resize(frames, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)


def _seek_frames(payload: bytes, times: Tensor, picked: Tensor, shrink: Shrink) -> Tensor | None:
    """The frames numbered ``picked``; None where seeking does not find them.

    Seeking misses in MPEG streams, and in approximate mode, which does not look through the file first, wherever a
    header's rate is not the true one. The times that come with the frames tell. In an AVI with frames that are
    predicted from later ones all of them are off, and the first frame's tells.
    """
    for mode in ("approximate", "exact") if len(times) > LONG else ("exact",):
        with suppress(RuntimeError, ValueError, IndexError):  # a look at all frames will meet it again
            video = VideoDecoder(payload, num_ffmpeg_threads=1, device="cpu", seek_mode=mode)
            if picked[0] > 0 and video.get_frame_at(0).pts_seconds != times[0]:
                continue
            frames, found = _decode(video, picked, shrink)
            if torch.equal(found, times[picked]):
                return frames
    return None


def _decode(video: VideoDecoder, picked: Tensor, shrink: Shrink) -> tuple[Tensor, Tensor]:
    """[F, 3, H, W] scaled frames and [F] their times; a few at a time, so that few are held at their own size."""
    size = max(1, CHUNK_BYTES // (3 * video.metadata.height * video.metadata.width))
    frames, times = [], []
    for numbers in picked.split(size):
        batch = video.get_frames_at(numbers)
        frames.append(shrink(batch.data))
        times.append(batch.pts_seconds)
    return (frames[0], times[0]) if len(frames) == 1 else (torch.cat(frames), torch.cat(times))


def _collect_frames(payload: bytes, picked: Tensor, shrink: Shrink) -> Tensor:
    """The frames numbered ``picked``, from a look at all of them in order."""
    converter, wanted, last = ColorConverter("cpu"), set(picked.tolist()), int(picked[-1])
    frames = []
    for number, frame in enumerate(_raw_frames(payload)):
        if number in wanted:
            frames.append(shrink(converter.convert(frame).data))
        if number == last:
            break
    return torch.stack(frames)


def _raw_frames(payload: bytes) -> Iterator[RawFrame]:
    demuxer = Demuxer(payload, streams="video")
    decoder = demuxer.streams[0].make_decoder("cpu")
    for packet in demuxer:
        yield from decoder.decode(packet)
    yield from decoder.drain()
