"""Frames and sound to the bytes of a file, through torchcodec: for the micro-world, the benchmarks and the tests."""

from __future__ import annotations

import io

from torch import Tensor
from torchcodec.encoders import Encoder

from avatar.data.media import require_ffmpeg
from avatar.data.rules import SAMPLE_RATE


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
