"""Bytes to clips and back, all through torchcodec. Nothing here swaps, pads or drops a stream without saying so."""

from __future__ import annotations

import io
from functools import cache

import torch
from torch import Tensor
from torchcodec.decoders import AudioDecoder, VideoDecoder
from torchcodec.encoders import Encoder

from avatar.errors import ConfigError, DataError
from avatar.types import Clip

SAMPLE_RATE = 16_000
WAY_OUT = "Replace or remove it, then write the shard again"
_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"sidx", b"udta", b"meta")


@cache
def require_ffmpeg() -> None:
    """Load FFmpeg's libraries through torchcodec, which otherwise does so at the first clip.

    Raises:
        ConfigError: They cannot be loaded; no clip of any kind could be read.
    """
    try:
        Encoder()
    except (RuntimeError, OSError):
        raise ConfigError(
            "FFmpeg's shared libraries cannot be loaded. Install them (Debian, Ubuntu: apt-get install ffmpeg; "
            "macOS: brew install ffmpeg; conda: conda install ffmpeg) and try again"
        ) from None


def encode_mp4(frames: Tensor, fps: float, audio: Tensor, sample_rate: int = SAMPLE_RATE, crf: int = 18) -> bytes:
    """H.264 video and AAC sound muxed into one MP4.

    Args:
        frames: [F, 3, H, W] uint8, even H and W.
        fps: Frames per second.
        audio: [A] float32 in -1..1, mono.
        sample_rate: Of ``audio``, in Hz.
        crf: Constant rate factor of libx264; lower is better.

    Raises:
        ConfigError: FFmpeg's libraries are missing.
    """
    require_ffmpeg()
    encoder, buffer = Encoder(), io.BytesIO()
    height, width = frames.shape[-2:]
    # The bytes must not depend on the machine: one thread, and none of x264's fast paths, whose look-ahead reads beyond
    # the edge of frames that are no multiple of 16 wide.
    video = encoder.add_video(
        height=height, width=width, frame_rate=fps, codec="libx264", crf=crf, preset="veryfast",
        pixel_format="yuv420p", extra_options={"threads": 1, "x264-params": "cpu-independent=1"},
    )  # fmt: skip
    sound = encoder.add_audio(sample_rate=sample_rate, num_channels=1)
    with encoder.open_file_like(buffer, format="mp4"):
        video.add_frames(frames)
        sound.add_samples(audio[None])
    return buffer.getvalue()


def decode_clip(
    payload: bytes, key: str, max_frames: int = 16, use_audio: bool = True, sample_rate: int = SAMPLE_RATE
) -> Clip:
    """Decode one video file: at most ``max_frames`` frames spread evenly over it, and its sound in mono.

    The sound is cut to the duration of the picture, since AAC pads its last block: the padding would become a token.

    Args:
        payload: The whole file.
        key: Of the clip, for messages and caches; a shard's name in it helps who reads the message.
        max_frames: Upper bound on F; a shorter video gives all its frames. An odd number of frames is cut to even,
            which is what a temporal patch of two wants, unless there is only one.
        use_audio: Decode the sound too.
        sample_rate: To resample to, in Hz.

    Raises:
        DataError: The file is cut short, cannot be decoded, has no picture, or has no sound although ``use_audio``.
        ConfigError: FFmpeg's libraries are missing.
    """
    require_ffmpeg()
    try:
        return _decode(payload, key, max_frames, use_audio, sample_rate)
    except (RuntimeError, ValueError, IndexError) as error:
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        reason = first_line.rpartition(": ")[2]  # before it torchcodec names its own source files
        raise DataError(f"{key}: the clip cannot be decoded ({reason}). {WAY_OUT}") from None


def _decode(payload: bytes, key: str, max_frames: int, use_audio: bool, sample_rate: int) -> Clip:
    if not payload:
        raise DataError(f"{key}: the clip is empty. {WAY_OUT}")
    if _is_cut_short(payload):
        raise DataError(f"{key}: the clip is cut short. {WAY_OUT}")
    video = VideoDecoder(payload, num_ffmpeg_threads=1)
    total, duration = len(video), float(video.metadata.duration_seconds or 0)
    if total == 0 or duration <= 0:
        raise DataError(f"{key}: the clip has no frames. {WAY_OUT}")
    frames, fps = _sample_frames(video, total, duration, max_frames)
    audio = _decode_audio(payload, key, duration, sample_rate) if use_audio else None
    return Clip(key=key, frames=frames, fps=fps, audio=audio, sample_rate=sample_rate)


def _is_cut_short(payload: bytes) -> bool:
    """Whether a box of an MP4 reaches past the end of the file.

    A file whose index comes first decodes when it is cut, to fewer frames. Counting them does not tell: a clip trimmed
    by an edit list has fewer than its index as well.
    """
    at = 0
    while at + 8 <= len(payload):
        size, kind = int.from_bytes(payload[at : at + 4], "big"), payload[at + 4 : at + 8]
        if size == 1:  # the size is a long one, after the kind
            size = int.from_bytes(payload[at + 8 : at + 16], "big")
        if kind not in _BOXES or size < 8:  # another container, or a last box that reaches to the end whatever it is
            return False
        at += size
    return at > len(payload)


def _sample_frames(video: VideoDecoder, total: int, duration: float, max_frames: int) -> tuple[Tensor, float]:
    num = min(total, max_frames)
    num -= num % 2 if num > 1 else 0
    indices = torch.linspace(0, total - 1, num).round().long().tolist() if num < total else list(range(total))
    rate = total / duration
    # From the first frame to the last it is total - 1 steps of the video and num - 1 of the sample.
    fps = rate * (num - 1) / (total - 1) if 1 < num < total else rate * num / total
    return video.get_frames_at(indices).data, fps


def _decode_audio(payload: bytes, key: str, duration: float, sample_rate: int) -> Tensor:
    try:
        sound = AudioDecoder(payload, sample_rate=sample_rate, num_channels=1)
    except ValueError:
        raise DataError(
            f"{key}: the clip has no audio track, but its record has use_audio_in_video: true. "
            "Set it to false to train on the picture alone"
        ) from None
    samples = sound.get_all_samples().data[0]  # [A]
    return samples[: round(duration * sample_rate)].clone()
