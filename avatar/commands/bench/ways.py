"""Ways to get the same frames and sound out of a file: ours, and those that ``avatar bench data`` sets beside it.

Each takes the bytes of a file and gives sixteen frames in RGB, as large as the film, and, where it is wanted, all sound
at 16 kHz with its channels averaged; each on one thread.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torchcodec.decoders import AudioDecoder, VideoDecoder

from avatar.commands.bench.errors import BenchError
from avatar.data.media import decode_medium
from avatar.data.rules import FACTOR, SAMPLE_RATE, ClipRule
from avatar.data.schema import Medium
from avatar.types import Clip

NUM_FRAMES = 16
RULE = ClipRule(max_frames=NUM_FRAMES, min_pixels=FACTOR**2, max_audio_seconds=1e6)  # frames stay as large as they are
VIDEO, SOUND = Medium("video", "mp4"), Medium("audio", "mp4")
PIECE = 256  # frames that are decoded at once where all are
CLOSE = 1.0  # grey levels, of the mean difference of two frames: versions of FFmpeg round colours differently
CLOSE_SOUND = 0.01  # of the mean difference of samples, full scale 1
CLOSE_LENGTH = SAMPLE_RATE // 10  # samples by which sounds may differ in length: what the last block is padded with


@dataclass(frozen=True, eq=False)
class File:
    """A file, and what is wanted of it.

    Attributes:
        payload: Its bytes.
        seconds: Its duration.
        indices: Numbers of the wanted frames, from 0, ascending.
        sound: Whether its sound is wanted too.
    """

    payload: bytes
    seconds: float
    indices: tuple[int, ...]
    sound: bool


@dataclass(frozen=True, eq=False)
class Seen:
    """What a way gives: frames [F, 3, H, W] uint8, and sound [A] float32 or None."""

    frames: Tensor
    audio: Tensor | None


Way = Callable[[File], Seen]


def by_us(file: File) -> Seen:
    """As a worker of the data plane decodes, with all its checks."""
    clip = _decoded(file.payload, VIDEO, file.sound)
    assert clip.frames is not None
    return Seen(clip.frames, clip.audio)


def by_pyav(file: File) -> Seen:
    """Through PyAV in sequence, once: every frame decoded, the wanted ones to RGB; sound through its resampler."""
    av = load_pyav()
    assert av is not None
    wanted, frames, sound, number = set(file.indices), [], [], 0
    resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
    with av.open(io.BytesIO(file.payload)) as container:
        streams = [container.streams.video[0], *(container.streams.audio[:1] if file.sound else ())]
        for stream in streams:
            stream.thread_count = 1
        for frame in container.decode(*streams):
            if isinstance(frame, av.AudioFrame):
                sound += resampler.resample(frame)
                continue
            if number in wanted:
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1))
            number += 1
        sound += resampler.resample(None) if file.sound else []
    audio = torch.cat([torch.from_numpy(part.to_ndarray().mean(0)) for part in sound]) if file.sound else None
    return Seen(torch.stack(frames), audio)


def by_full_decode(file: File) -> Seen:
    """All frames to RGB through torchcodec, then the wanted ones; in pieces, so that ten minutes fit into memory."""
    video, kept = VideoDecoder(file.payload, num_ffmpeg_threads=1), []
    for start in range(0, len(video), PIECE):
        piece = video[start : start + PIECE]
        kept += [piece[i - start].clone() for i in file.indices if start <= i < start + PIECE]
    if not file.sound:
        return Seen(torch.stack(kept), None)
    samples = AudioDecoder(file.payload, sample_rate=SAMPLE_RATE).get_all_samples()
    return Seen(torch.stack(kept), samples.data.mean(0))


WAYS: dict[str, Way] = {"decode": by_us, "pyav_sequential": by_pyav, "full_decode": by_full_decode}  # ours comes first


def load_pyav() -> Any | None:
    """The module, or None where it is not installed."""
    try:
        return import_module("av")
    except ImportError:
        return None


def file_of(payload: bytes, seconds: float, fps: float, sound: bool) -> File:
    """A file of a constant rate, and the numbers of the frames that our way takes of it."""
    times = _decoded(payload, VIDEO, False).times
    assert times is not None
    return File(payload, seconds, tuple((times * fps).round().int().tolist()), sound)


def sound_of(payload: bytes, medium: Medium) -> Tensor:
    """[A] float32, our way."""
    audio = _decoded(payload, medium, True).audio
    assert audio is not None
    return audio


def _decoded(payload: bytes, medium: Medium, use_audio: bool) -> Clip:
    return decode_medium(payload, medium, use_audio, RULE, "bench", "bench")


# -- whether they are the same -----------------------------------------------------------------------------------------


def check_same(name: str, ours: Seen, theirs: Seen) -> None:
    """Refuse to compare ways that do not give the same.

    Args:
        name: Of the other way.
        ours: What our way gave.
        theirs: What the other gave.

    Raises:
        BenchError: Frames or sound differ by more than versions of FFmpeg do.
    """
    if ours.frames.shape != theirs.frames.shape:
        raise BenchError(f"{name}: frames of {list(theirs.frames.shape)}, and decode gave {list(ours.frames.shape)}")
    gaps = (ours.frames.float() - theirs.frames.float()).abs().mean((1, 2, 3))  # [F]
    if gaps.max() > CLOSE:
        which = f"{name}: frame {int(gaps.argmax())} of {len(gaps)}"
        raise BenchError(f"{which} is another than decode gave: they are {gaps.max():.1f} grey levels apart on average")
    if ours.audio is not None and theirs.audio is not None:
        _check_sound(name, ours.audio, theirs.audio)
    elif ours.audio is not theirs.audio:
        raise BenchError(f"{name}: either it or decode gave no sound")


def check_crop(payload: bytes, crop: Medium) -> None:
    """Refuse to compare the sound of a crop with all of it where it is not a part of it.

    Raises:
        BenchError: It is not.
    """
    start, end = (round((side or 0) * SAMPLE_RATE) for side in (crop.start, crop.end))
    _check_sound("sound of a crop", sound_of(payload, SOUND)[start:end], sound_of(payload, crop))


def _check_sound(name: str, ours: Tensor, theirs: Tensor) -> None:
    if abs(len(ours) - len(theirs)) > CLOSE_LENGTH:
        raise BenchError(f"{name}: {len(theirs)} samples of sound in place of {len(ours)}")
    length = min(len(ours), len(theirs))
    gap = float((ours[:length] - theirs[:length]).abs().mean())
    if not gap <= CLOSE_SOUND:
        raise BenchError(f"{name}: another sound than decode gave: samples are {gap:.3f} apart on average")
