"""Clips made on the spot for ``avatar bench data``: picture that pans, cuts and is noisy, and stereo sound."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torchcodec.encoders import Encoder

FPS, SOUND_RATE = 25, 44_100
SHOT = (2.0, 18.0)  # seconds of a shot, so that both cuts and the encoder's default of 250 frames set keyframes
TEXTURE = ((6, 60.0), (24, 30.0), (96, 16.0))  # (cells along a side, grey levels) of each layer of a shot's scene
SPEED = 1.5  # least pixels a frame of a pan: one of y and x then changes from frame to frame, and no two are the same
GRAINS = 24  # frames of noise that are drawn from
PIECE = 32  # frames that are handed to the encoder at once


def make_clip(
    seconds: float, side: int, seed: int, noise: float = 6.0, advance: Callable[[float], object] = lambda done: None
) -> bytes:
    """An MP4 of H.264 in the encoder's default groups of pictures, and of AAC at 44.1 kHz in stereo.

    Args:
        seconds: Its duration.
        side: Height and width of its frames in pixels, even.
        seed: The same seed gives the same picture and sound.
        noise: Of the camera, in grey levels. With more of it the stream has more bits and takes longer to decode.
        advance: Told the seconds of each piece that is encoded.
    """
    generator, encoder, buffer = torch.Generator().manual_seed(seed), Encoder(), io.BytesIO()
    video = encoder.add_video(
        height=side, width=side, frame_rate=FPS, codec="libx264", pixel_format="yuv420p", preset="veryfast",
        extra_options={"threads": 1, "x264-params": "cpu-independent=1"},  # else the bytes differ from run to run
    )  # fmt: skip
    sound = encoder.add_audio(sample_rate=SOUND_RATE, num_channels=2)
    with encoder.open_file_like(buffer, format="mp4"):
        for start in range(0, math.ceil(seconds)):
            sound.add_samples(_sound(min(1.0, seconds - start), generator))
        for frames in _frames(round(seconds * FPS), side, noise, generator):
            video.add_frames(frames)
            advance(len(frames) / FPS)
    return buffer.getvalue()


def _frames(total: int, side: int, noise: float, generator: torch.Generator) -> Iterator[Tensor]:
    """Pieces of up to [PIECE, 3, side, side] uint8: shot after shot, each a slow pan over a scene of its own."""
    grain = (noise * torch.randn(GRAINS, 3, side, side, generator=generator)).round().to(torch.int16)
    while total > 0:
        shortest, longest = SHOT
        length = shortest + (longest - shortest) * torch.rand(1, generator=generator).item()
        shot = min(total, round(length * FPS))
        scene, start = _scene(side, generator), side * torch.rand(2, generator=generator)
        angle, speed = torch.rand(2, generator=generator).tolist()
        drift = (SPEED + speed) * torch.tensor([math.sin(math.tau * angle), math.cos(math.tau * angle)])
        for at in range(0, shot, PIECE):
            places = [_bounce(start + i * drift, side) for i in range(at, min(at + PIECE, shot))]
            windows = torch.stack([scene[:, y : y + side, x : x + side] for y, x in places])
            picked = grain[torch.randint(GRAINS, (len(places),), generator=generator)]
            yield (windows + picked).clamp(0, 255).to(torch.uint8)
        total -= shot


def _scene(side: int, generator: torch.Generator) -> Tensor:
    """[3, 2 side, 2 side] int16: blobs, shapes and detail."""
    size = (2 * side, 2 * side)
    layers = [
        strength
        * torch.nn.functional.interpolate(torch.randn(1, 3, n, n, generator=generator), size=size, mode="bicubic")
        for n, strength in TEXTURE
    ]
    return (torch.stack(layers).sum(0)[0] + 128).round().to(torch.int16)


def _bounce(place: Tensor, side: int) -> tuple[int, int]:
    """(y, x) of a window that moves to and fro in a scene twice its size."""
    there = place.abs().remainder(2 * side)
    y, x = torch.where(there > side, 2 * side - there, there).int().tolist()
    return y, x


def _sound(seconds: float, generator: torch.Generator) -> Tensor:
    """[2, A] float32: a tone of any pitch, and noise that differs by channel."""
    t = torch.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    pitch = 200 + 800 * torch.rand(1, generator=generator).item()
    noise = torch.randn(2, len(t), generator=generator)
    return (0.2 * torch.sin(2 * math.pi * pitch * t) + 0.05 * noise).clamp(-1, 1)
