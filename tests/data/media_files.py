"""Media files made on the spot, good ones and those that surgery has spoiled."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from functools import cache
from random import Random

import torch
from PIL import Image
from torch import Tensor
from torchcodec.encoders import Encoder

RATE = 16_000


# Films and sounds


def greys(number: int, height: int = 56, width: int = 56) -> Tensor:
    """[number, 3, H, W]: frame i is one grey, 16 + 6 i."""
    levels = (16 + 6 * torch.arange(number)).to(torch.uint8)
    return levels[:, None, None, None].expand(number, 3, height, width).contiguous()


def tone(seconds: float, rate: int = RATE, channels: int = 1) -> Tensor:
    """[channels, A]: 1 kHz at half the full scale."""
    wave = 0.5 * torch.sin(2 * math.pi * 1000 * torch.arange(round(seconds * rate)) / rate)
    return wave.expand(channels, -1).contiguous()


def film(
    frames: Tensor | None = None, fps: float = 8, sound: Tensor | None = None, container: str = "mp4",
    pixel_format: str = "yuv420p", reordered: bool = False,
) -> bytes:  # fmt: skip
    """A file with H.264 frames and sound at 16 kHz, or one of the two.

    The frames come in the order they are shown, or ``reordered``: some are predicted from later ones.
    """
    encoder, buffer = Encoder(), io.BytesIO()
    if frames is not None:
        height, width = frames.shape[-2:]
        video = encoder.add_video(
            height=height, width=width, frame_rate=fps, codec="libx264", pixel_format=pixel_format,
            extra_options={"threads": 1, "x264-params": f"bframes={2 if reordered else 0}:b-adapt=0"},
        )  # fmt: skip
    if sound is not None:
        audio = encoder.add_audio(sample_rate=RATE, num_channels=len(sound))
    with encoder.open_file_like(buffer, format=container):
        if frames is not None:
            video.add_frames(frames)
        if sound is not None:
            audio.add_samples(sound)
    return buffer.getvalue()


@cache
def good() -> bytes:
    """Sixteen frames in two seconds, with sound."""
    return film(greys(16), 8, tone(2))


@cache
def mute() -> bytes:
    """The same without sound."""
    return film(greys(16), 8)


def adts(sound: Tensor, rate: int) -> bytes:
    """A stream of AAC without a container; two of them one after the other are one as well."""
    encoder, buffer = Encoder(), io.BytesIO()
    audio = encoder.add_audio(sample_rate=rate, num_channels=len(sound))
    with encoder.open_file_like(buffer, format="adts"):
        audio.add_samples(sound)
    return buffer.getvalue()


def two_then_one() -> bytes:
    """A second of sound in two channels, then one in one: torchcodec reads the second channel from nowhere."""
    return adts(tone(1, 44_100, 2), 44_100) + adts(tone(1, 44_100), 44_100)


def wav(samples: Tensor, rate: int = RATE) -> bytes:
    """A WAV of float samples [channels, A]."""
    data = samples.T.contiguous().numpy().astype("<f4").tobytes()
    channels = len(samples)
    form = struct.pack("<HHIIHH", 3, channels, rate, rate * channels * 4, channels * 4, 32)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16)
        + form
        + struct.pack("<4sI", b"data", len(data))
        + data
    )


def spoiled(value: float) -> bytes:
    """A WAV one sample of which is ``value``."""
    samples = tone(1)
    samples[0, 5000] = value
    return wav(samples)


# Images


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (56, 84), **options: object) -> bytes:
    """An image of one colour, 56 wide and 84 high."""
    buffer = io.BytesIO()
    Image.new(mode, size, 200 if mode in ("L", "I;16") else (200,) * len(Image.new(mode, (1, 1)).getbands())).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def noise_image(kind: str) -> bytes:
    """An image that does not compress."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (56, 56), Random(0).randbytes(56 * 56 * 3)).save(buffer, kind)
    return buffer.getvalue()


def turned_jpeg() -> bytes:
    """A JPEG that says to be shown on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture("JPEG", exif=exif)


def gif(frames: int) -> bytes:
    """A GIF of so many frames, a tenth of a second each."""
    pages, buffer = [Image.new("RGB", (56, 56), (40 * i, 255 - 40 * i, 80)) for i in range(frames)], io.BytesIO()
    pages[0].save(buffer, "GIF", save_all=True, append_images=pages[1:], duration=100)
    return buffer.getvalue()


def huge_png(side: int = 30_000) -> bytes:
    """A PNG whose header claims so many pixels each way."""
    png = bytearray(picture())
    png[16:24] = struct.pack(">II", side, side)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    return bytes(png)


# Surgery on boxes


def patched(mp4: bytes, tag: bytes, at: int, value: bytes, nth: int = 0) -> bytes:
    """``mp4`` with ``value`` put ``at`` bytes behind the nth ``tag``."""
    place = -1
    for _ in range(nth + 1):
        place = mp4.index(tag, place + 1)
    start = place + 4 + at
    return mp4[:start] + value + mp4[start + len(value) :]


def rewritten(mp4: bytes, path: list[tuple[bytes, int]], content: bytes) -> bytes:
    """``mp4`` with the content of the box at ``path``, pairs of kind and which of them, put anew; frames come first."""
    (kind, nth), *rest = path
    at, out, seen = 0, b"", 0
    while at < len(mp4):
        size, name = int.from_bytes(mp4[at : at + 4], "big"), mp4[at + 4 : at + 8]
        body = mp4[at + 8 : at + size]
        if name == kind:
            if seen == nth:
                body = rewritten(body, rest, content) if rest else content
            seen += 1
        out += (8 + len(body)).to_bytes(4, "big") + name + body
        at += size
    assert seen > nth, f"there is no {kind!r} number {nth}"
    return out


def table_path(track: int, kind: bytes) -> list[tuple[bytes, int]]:
    """Where a table of samples lies."""
    return [(b"moov", 0), (b"trak", track), (b"mdia", 0), (b"minf", 0), (b"stbl", 0), (kind, 0)]


def timed(mp4: bytes, runs: list[tuple[int, float]]) -> bytes:
    """``mp4`` whose frames last, in runs of (how many, seconds)."""
    place = mp4.index(b"mdhd") + 16
    second = int.from_bytes(mp4[place : place + 4], "big")
    entries = b"".join(struct.pack(">II", count, round(seconds * second)) for count, seconds in runs)
    return rewritten(mp4, table_path(0, b"stts"), struct.pack(">II", 0, len(runs)) + entries)


def late_sound(mp4: bytes, seconds: float) -> bytes:
    """``mp4`` whose sound begins later, by an edit list."""
    place = mp4.index(b"mvhd") + 16
    second = int.from_bytes(mp4[place : place + 4], "big")
    old = mp4[mp4.index(b"elst", mp4.index(b"elst") + 1) + 12 :][:12]
    edits = struct.pack(">III", 0, 2, round(seconds * second)) + struct.pack(">iI", -1, 1 << 16) + old
    return rewritten(mp4, [(b"moov", 0), (b"trak", 1), (b"edts", 0), (b"elst", 0)], edits)


def ten_hours(mp4: bytes) -> bytes:
    """``mp4`` whose headers claim ten hours of film and of each track."""
    for tag, at, times in ((b"mvhd", 16, 1), (b"tkhd", 20, 2), (b"mdhd", 16, 2)):
        for nth in range(times):
            mp4 = patched(mp4, tag, at, (36_000_000).to_bytes(4, "big"), nth)
    return mp4


def jumping_flv() -> bytes:
    """An FLV the ninth frame of which says to be shown three seconds later, when all others have been."""
    flv, at, frames = bytearray(film(greys(16), 8, container="flv")), 13, 0
    while at + 11 < len(flv):
        size, when = (int.from_bytes(flv[at + i : at + i + 3], "big") for i in (1, 4))
        frames += flv[at] == 9  # a tag with a frame; the first holds none, but what the decoder is set up with
        if frames == 10:
            flv[at + 4 : at + 7] = (when + 3000).to_bytes(3, "big")
            break
        at += 11 + size + 4
    return bytes(flv)


def without_data(mp4: bytes) -> bytes:
    """``mp4`` whose frames are all gone, its boxes whole."""
    return rewritten(mp4, [(b"mdat", 0)], b"")


def garbled(mp4: bytes) -> bytes:
    """``mp4`` with the middle third of its frames overwritten by noise."""
    start = mp4.index(b"mdat") + 4
    third = int.from_bytes(mp4[start - 8 : start - 4], "big") // 3
    return mp4[: start + third] + Random(0).randbytes(third) + mp4[start + 2 * third :]


def zipped() -> bytes:
    """A ZIP."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("clip.mp4", good())
    return buffer.getvalue()


def y4m(width: int, height: int) -> bytes:
    """A film without compression whose header claims frames of this size."""
    return b"YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420\nFRAME\n" % (width, height) + bytes(99)


def turned(mp4: bytes) -> bytes:
    """``mp4`` that says to be shown a quarter turn clockwise."""
    height = mp4[mp4.index(b"tkhd") + 84 :][:4]
    matrix = struct.pack(">6i", 0, 1 << 16, 0, -1 << 16, 0, 0) + height + struct.pack(">2i", 0, 1 << 30)
    return patched(mp4, b"tkhd", 40, matrix)


def nested(depth: int) -> bytes:
    """Boxes in boxes."""
    out = b""
    for _ in range(depth):
        out = (8 + len(out)).to_bytes(4, "big") + b"moov" + out
    return b"\0\0\0\x10ftypisom\0\0\0\0" + out


def tenth(mp4: bytes, tenths: int) -> bytes:
    """The first tenths of it."""
    return mp4[: len(mp4) * tenths // 10]
