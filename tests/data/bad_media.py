"""Bad and odd media files, made on the spot, with what must become of each.

``BAD_MEDIA`` lists them; the bytes of a case are made when they are first asked for and kept for the session. Each ends
as a clip with all that its record declares, or as a ``DataError`` whose cause is one of those expected.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from random import Random

import torch
from PIL import Image
from torch import Tensor
from torchcodec.encoders import Encoder

from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record

RATE = 16_000
SMALL = ClipRule(min_pixels=28 * 28)  # frames of 56 x 56 stay as they are
VIDEO, AUDIO, IMAGE = Medium("video", "mp4"), Medium("audio", "wav"), Medium("image", "png")
ROTATED = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)  # a quarter turn, clockwise


@dataclass(frozen=True)
class Gives:
    """A clip.

    Attributes:
        frames: How many; 0 for sound alone.
        size: Height and width of each.
        seconds: Of sound, to a hundredth; 0 for none.
        fps: As the clip says it; None is not looked at.
    """

    frames: int = 0
    size: tuple[int, int] = (56, 56)
    seconds: float = 0.0
    fps: float | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A file and what is asked of it.

    Attributes:
        name: What is wrong with it.
        make: Its bytes.
        medium: What a record shows of it.
        expected: A clip, or the causes one of which it must fail for, or either.
        use_audio: Whether a film is to be heard.
        rule: How it is decoded.
    """

    name: str
    make: Callable[[], bytes]
    medium: Medium
    expected: tuple[Gives | str, ...]
    use_audio: bool = True
    rule: ClipRule = field(default=SMALL)

    @cached_property
    def payload(self) -> bytes:
        """The file."""
        return self.make()

    @property
    def causes(self) -> set[str]:
        """What it may fail for; empty where it must not fail."""
        return {one for one in self.expected if isinstance(one, str)}

    @property
    def record(self) -> Record:
        """A question about it."""
        return Record("what is it ?", "1", "number", [self.medium], use_audio_in_video=self.use_audio)


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
    pixel_format: str = "yuv420p",
) -> bytes:  # fmt: skip
    """A file with H.264 frames that come in the order they are shown, and sound at 16 kHz, or one of the two."""
    encoder, buffer = Encoder(), io.BytesIO()
    if frames is not None:
        height, width = frames.shape[-2:]
        video = encoder.add_video(
            height=height, width=width, frame_rate=fps, codec="libx264", pixel_format=pixel_format,
            extra_options={"threads": 1, "x264-params": "bframes=0"},
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


def noise_png(kind: str = "PNG") -> bytes:
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


def huge_png() -> bytes:
    """A PNG whose header claims 30,000 x 30,000 pixels."""
    png = bytearray(picture())
    png[16:24] = struct.pack(">II", 30_000, 30_000)
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


def nested(depth: int) -> bytes:
    """Boxes in boxes."""
    out = b""
    for _ in range(depth):
        out = (8 + len(out)).to_bytes(4, "big") + b"moov" + out
    return b"\0\0\0\x10ftypisom\0\0\0\0" + out


def tenth(mp4: bytes, tenths: int) -> bytes:
    """The first tenths of it."""
    return mp4[: len(mp4) * tenths // 10]


def crop(kind: str, start: float | None, end: float | None) -> Medium:
    """Part of a film or a sound."""
    return Medium(kind, "mp4", start, end)


WHOLE = Gives(16, (56, 56), 2.0, 8.0)
BROKEN = ("cannot be decoded", "no picture")
HTML = b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body>" + b"<p>no</p>" * 200 + b"</body></html>"
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:1/x.mp4\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile '/etc/passwd'\n"

BAD_MEDIA: list[Case] = [
    *[Case(f"mp4 cut at {i} tenths", lambda i=i: tenth(good(), i), VIDEO, ("cut short",)) for i in range(1, 10)],
    Case("no bytes", lambda: b"", VIDEO, ("cut short",)),
    Case("no bytes for an image", lambda: b"", IMAGE, ("cut short",)),
    Case("a matroska cut at half", lambda: tenth(film(greys(16), 8, container="matroska"), 5), VIDEO, ("cut short",)),
    Case("a wav cut at half", lambda: tenth(wav(tone(1)), 5), AUDIO, ("cut short",)),
    Case("a png cut at half", lambda: tenth(noise_png(), 5), IMAGE, ("cut short",)),
    Case("a jpeg cut at half", lambda: tenth(noise_png("JPEG"), 5), IMAGE, ("cut short",)),
    Case("frames gone, boxes whole", lambda: without_data(good()), VIDEO, (*BROKEN, "cut short")),
    Case("noise in the middle", lambda: garbled(good()), VIDEO, (WHOLE, "cannot be decoded", "no sound")),
    # of another kind than its name says
    Case("a wav called mp4", lambda: wav(tone(1)), VIDEO, ("no picture",)),
    Case("a png called mp4", picture, VIDEO, ("no picture",)),
    Case("an mp4 called jpg", good, IMAGE, ("no picture",)),
    Case("an mp4 called wav", good, AUDIO, (Gives(seconds=2.0),)),
    Case("a png called wav", picture, AUDIO, ("no sound",)),
    Case("text", lambda: b"this is no video\n" * 99, VIDEO, ("cannot be decoded",)),
    Case("text for a sound", lambda: b"this is no sound\n" * 99, AUDIO, ("cannot be decoded", "no sound")),
    Case("text for an image", lambda: b"this is no image\n" * 99, IMAGE, ("no picture",)),
    Case("zeros", lambda: bytes(5000), VIDEO, BROKEN),
    Case("random bytes", lambda: Random(1).randbytes(5000), VIDEO, BROKEN),
    Case("random bytes for a sound", lambda: Random(1).randbytes(5000), AUDIO, ("cannot be decoded", "no sound")),
    Case("a page of html", lambda: HTML, VIDEO, BROKEN),
    Case("a zip", zipped, VIDEO, BROKEN),
    Case("a pdf", lambda: b"%PDF-1.7\n" * 99, IMAGE, ("no picture",)),
    Case("a program in postscript", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" * 9, IMAGE, ("no picture",)),
    Case("a playlist", lambda: HLS, VIDEO, ("not allowed",)),
    Case("a list of files", lambda: CONCAT, VIDEO, ("not allowed",)),
    Case("four thousand boxes in each other", lambda: nested(4000), VIDEO, BROKEN),
    # streams that are missing
    Case("a film without sound", mute, VIDEO, ("no sound",)),
    Case("a film without sound that needs none", mute, VIDEO, (Gives(16, fps=8.0),), use_audio=False),
    Case("the sound of a film without any", mute, AUDIO, ("no sound",)),
    Case("sound without a picture", lambda: film(sound=tone(1)), VIDEO, ("no picture",)),
    Case("sound in a container of films", lambda: film(sound=tone(1)), AUDIO, (Gives(seconds=1.0),)),
    Case("a wav without samples", lambda: wav(tone(0)), AUDIO, ("no sound", "cannot be decoded")),
    # sounds
    Case("a sound of 10 ms", lambda: wav(tone(0.01)), AUDIO, ("sound too short",)),
    Case("a crop of 10 ms", good, crop("video", 0.5, 0.51), ("sound too short",)),
    Case("a long sound", good, AUDIO, ("sound too long",), rule=ClipRule(max_audio_seconds=1)),
    Case("a long film", good, VIDEO, ("sound too long",), rule=ClipRule(min_pixels=784, max_audio_seconds=1)),
    Case("a sample that is no number", lambda: spoiled(math.nan), AUDIO, ("cannot be decoded",)),
    Case("an endless sample", lambda: spoiled(-math.inf), AUDIO, ("cannot be decoded",)),
    Case("a sample beyond any scale", lambda: spoiled(1e30), AUDIO, ("cannot be decoded",)),
    Case("eight channels", lambda: wav(tone(1, channels=8)), AUDIO, (Gives(seconds=1.0),)),
    Case("a wav written to a pipe", lambda: patched(wav(tone(1)), b"data", 0, b"\xff" * 4), AUDIO, (Gives(seconds=1.0),)),
    Case("a million samples a second", lambda: wav(tone(1), 1_000_000), AUDIO, ("too large",)),
    Case("less sound than picture", lambda: film(greys(16), 8, tone(1)), VIDEO, (Gives(16, seconds=1.0, fps=8.0),)),
    Case("sound that begins late", lambda: late_sound(good(), 0.5), VIDEO, (WHOLE,)),
    Case("sound that begins after the crop", lambda: late_sound(good(), 1.5), crop("video", 0, 1), ("no sound",)),
    Case("sound that ends before the crop", lambda: film(greys(16), 8, tone(0.5)), crop("video", 1, 2), ("no sound",)),
    # frames and their times
    Case("one frame", lambda: film(greys(1), 8, tone(0.125)), VIDEO, (Gives(1, seconds=0.125, fps=8.0),)),
    Case("0 fps", lambda: timed(good(), [(16, 0.0)]), VIDEO, ("cannot be decoded", "no picture")),
    Case("a varying rate", lambda: timed(good(), [(8, 0.05), (8, 0.2)]), VIDEO, (Gives(16, seconds=2.0, fps=15 / 1.8),)),
    Case("a film slower than its sound", lambda: timed(good(), [(16, 0.25)]), VIDEO, (Gives(8, seconds=2.0, fps=4.0),)),
    Case("a header that claims ten hours", lambda: ten_hours(good()), VIDEO, (WHOLE,)),
    Case("turned by its header", lambda: patched(film(greys(8, 56, 112), 8), b"tkhd", 40, ROTATED), VIDEO, (Gives(8, (112, 56), fps=8.0),), use_audio=False),
    Case("odd sides", lambda: film(greys(8, 57, 83), 8, pixel_format="yuv444p"), VIDEO, (Gives(8, (56, 84), fps=8.0),), use_audio=False),
    Case("a stream that cannot be searched", lambda: film(greys(16), 8, container="mpegts"), VIDEO, (Gives(16, fps=8.0),), use_audio=False),
    Case("start beyond the end", good, crop("video", 3, None), ("no picture",)),
    Case("end beyond the end", good, crop("video", 1, 3), ("no picture",)),
    Case("sound from beyond its end", lambda: wav(tone(1)), crop("audio", 3, None), ("no sound",)),
    Case("sound to beyond its end", lambda: wav(tone(1)), crop("audio", 0.5, 3), ("no sound",)),
    # too much
    Case("a billion frames", lambda: patched(good(), b"stsz", 8, (10**9).to_bytes(4, "big")), VIDEO, ("too large",)),
    Case("a billion frames of one size", lambda: patched(good(), b"stsz", 4, struct.pack(">II", 1, 10**9)), VIDEO, ("too large",)),
    Case("a frame of 16,000 x 8,000", lambda: b"YUV4MPEG2 W16000 H8000 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(99), VIDEO, ("too large",)),
    Case("a frame of 30,000 x 30,000", lambda: b"YUV4MPEG2 W30000 H30000 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(99), VIDEO, ("too large", *BROKEN)),
    Case("a header that claims 30,000 x 30,000", lambda: patched(good(), b"avc1", 24, struct.pack(">HH", 30_000, 30_000)), VIDEO, (WHOLE, "too large")),
    Case("a png of 30,000 x 30,000", huge_png, IMAGE, ("too large",)),
    Case("a line of pixels", lambda: picture(size=(500, 1)), IMAGE, ("too large",)),
    Case("a film of a line of pixels", lambda: film(greys(2, 2, 500), 8), VIDEO, ("too large",), use_audio=False),
    Case("no memory for it", good, VIDEO, ("too large",), rule=ClipRule(max_decoded_mb=1)),
    # images
    Case("a picture with alpha", lambda: picture(mode="RGBA"), IMAGE, (Gives(1, (84, 56)),)),
    Case("a picture in print colours", lambda: picture("JPEG", "CMYK"), IMAGE, (Gives(1, (84, 56)),)),
    Case("a picture of 16 bits", lambda: picture(mode="I;16"), IMAGE, (Gives(1, (84, 56)),)),
    Case("a picture on its side", turned_jpeg, IMAGE, (Gives(1, (56, 84)),)),
    Case("a picture of fractions", lambda: picture("TIFF", "F"), IMAGE, ("cannot be decoded",)),
    Case("a gif as a picture", lambda: gif(4), IMAGE, (Gives(1),)),
    Case("a gif as a film", lambda: gif(4), VIDEO, (Gives(4, fps=10.0),), use_audio=False),
]  # fmt: skip
