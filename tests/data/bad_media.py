"""Bad and odd media files with what must become of each: ``from data.bad_media import BAD_MEDIA``.

The bytes of a case are made when they are first asked for and kept for the session. Each case ends as a clip with all
that its record declares, or as a ``DataError`` whose cause is one of those expected; none kills or holds up a process,
but for those in ``DEADLY``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from random import Random

from data.media_files import (
    film,
    garbled,
    gif,
    good,
    greys,
    huge_png,
    jumping_flv,
    late_sound,
    mute,
    nested,
    noise_image,
    patched,
    picture,
    spoiled,
    ten_hours,
    tenth,
    timed,
    tone,
    turned,
    turned_jpeg,
    two_then_one,
    wav,
    without_data,
    y4m,
    zipped,
)  # fmt: skip

from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record

SMALL = ClipRule(min_pixels=28 * 28)  # frames of 56 x 56 stay as they are
SHORT = ClipRule(min_pixels=28 * 28, max_audio_seconds=1)
TINY = ClipRule(max_decoded_mb=1)
VIDEO, AUDIO, IMAGE = Medium("video", "mp4"), Medium("audio", "wav"), Medium("image", "png")


@dataclass(frozen=True)
class Gives:
    """A clip.

    Attributes:
        frames: How many; 0 for sound alone.
        size: Height and width of each.
        seconds: Of sound, to a hundredth; 0 for none.
        fps: As the clip says it; 0 for an image and for sound alone.
    """

    frames: int = 0
    size: tuple[int, int] = (56, 56)
    seconds: float = 0.0
    fps: float = 0.0


@dataclass(frozen=True, eq=False)
class Case:
    """A file and what is asked of it.

    Attributes:
        name: What is wrong with it.
        make: Makes its bytes.
        medium: What a record shows of it.
        expected: A clip, or the causes one of which it must fail for, or all of these.
        use_audio: Whether a film is to be heard.
        rule: How it is decoded.
    """

    name: str
    make: Callable[[], bytes]
    medium: Medium
    expected: tuple[Gives | str, ...]
    use_audio: bool = True
    rule: ClipRule = SMALL

    @cached_property
    def payload(self) -> bytes:
        """The file."""
        return self.make()

    @property
    def causes(self) -> set[str]:
        """What it may fail for; empty where it must not fail."""
        return {one for one in self.expected if isinstance(one, str)}

    @property
    def clips(self) -> list[Gives]:
        """What it may give; empty where it must fail."""
        return [one for one in self.expected if isinstance(one, Gives)]

    @property
    def record(self) -> Record:
        """A question about it."""
        return Record("what is it ?", "1", "number", [self.medium], use_audio_in_video=self.use_audio)


def fails(name: str, make: Callable[[], bytes], medium: Medium, *causes: str, rule: ClipRule = SMALL) -> Case:
    """A file that must be refused."""
    return Case(name, make, medium, causes, rule=rule)


def gives(name: str, make: Callable[[], bytes], medium: Medium, clip: Gives) -> Case:
    """A file that is odd and no worse; it is heard if there is sound to expect."""
    return Case(name, make, medium, (clip,), use_audio=clip.seconds > 0)


def part(kind: str, start: float | None, end: float | None) -> Medium:
    """What is shown of a file between two times."""
    return Medium(kind, "mp4", start, end)


WHOLE = Gives(16, seconds=2.0, fps=8.0)
BROKEN = ("cannot be decoded", "no picture")
TEXT = b"this is no video\n" * 99
NOISE = Random(1).randbytes(5000)
HTML = b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body>" + b"<p>no</p>" * 200 + b"</body></html>"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" * 9
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:1/x.mp4\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile '/etc/passwd'\n"
BILLION, SIDES = (10**9).to_bytes(4, "big"), struct.pack(">HH", 30_000, 30_000)

CUT = [
    *[fails(f"mp4 cut at {i} tenths", lambda i=i: tenth(good(), i), VIDEO, "cut short") for i in range(1, 10)],
    fails("no bytes", bytes, VIDEO, "cut short"),
    fails("no bytes for an image", bytes, IMAGE, "cut short"),
    fails("a matroska cut at half", lambda: tenth(film(greys(16), 8, None, "matroska"), 5), VIDEO, "cut short"),
    fails("a wav cut at half", lambda: tenth(wav(tone(1)), 5), AUDIO, "cut short"),
    fails("a png cut at half", lambda: tenth(noise_image("PNG"), 5), IMAGE, "cut short"),
    fails("a jpeg cut at half", lambda: tenth(noise_image("JPEG"), 5), IMAGE, "cut short"),
    fails("frames gone, boxes whole", lambda: without_data(good()), VIDEO, "no picture"),
    Case("noise in the middle", lambda: garbled(good()), VIDEO, (WHOLE, "cannot be decoded", "no sound")),
]
OF_ANOTHER_KIND = [
    fails("a wav called mp4", lambda: wav(tone(1)), VIDEO, "no picture"),
    fails("a png called mp4", picture, VIDEO, "no picture"),
    fails("an mp4 called jpg", good, IMAGE, "no picture"),
    gives("an mp4 called wav", good, AUDIO, Gives(seconds=2.0)),
    fails("a png called wav", picture, AUDIO, "no sound"),
    fails("text", lambda: TEXT, VIDEO, *BROKEN),
    fails("text for a sound", lambda: TEXT, AUDIO, "cannot be decoded", "no sound"),
    fails("text for an image", lambda: TEXT, IMAGE, "no picture"),
    fails("zeros", lambda: bytes(5000), VIDEO, *BROKEN),
    fails("random bytes", lambda: NOISE, VIDEO, *BROKEN),
    fails("random bytes for a sound", lambda: NOISE, AUDIO, "cannot be decoded", "no sound"),
    fails("a page of html", lambda: HTML, VIDEO, *BROKEN),
    fails("a zip", zipped, VIDEO, *BROKEN),
    fails("a pdf", lambda: b"%PDF-1.7\n" * 99, IMAGE, "no picture"),
    fails("a program in postscript", lambda: EPS, IMAGE, "no picture"),
    fails("a playlist", lambda: HLS, VIDEO, "not allowed"),
    fails("a list of files", lambda: CONCAT, VIDEO, "not allowed"),
    fails("four thousand boxes in each other", lambda: nested(4000), VIDEO, *BROKEN),
]
STREAMS = [
    fails("a film without sound", mute, VIDEO, "no sound"),
    gives("a film without sound that needs none", mute, VIDEO, Gives(16, fps=8.0)),
    fails("the sound of a film without any", mute, AUDIO, "no sound"),
    fails("sound without a picture", lambda: film(sound=tone(1)), VIDEO, "no picture"),
    gives("sound in a container of films", lambda: film(sound=tone(1)), AUDIO, Gives(seconds=1.0)),
    fails("a wav without samples", lambda: wav(tone(0)), AUDIO, "no sound"),
]
SOUNDS = [
    fails("a sound of 10 ms", lambda: wav(tone(0.01)), AUDIO, "sound too short"),
    fails("a film cut to 10 ms", good, part("video", 0.5, 0.51), "sound too short"),
    fails("a long sound", good, AUDIO, "sound too long", rule=SHORT),
    fails("a film with a long sound", good, VIDEO, "sound too long", rule=SHORT),
    fails("a sample that is no number", lambda: spoiled(math.nan), AUDIO, "cannot be decoded"),
    fails("an endless sample", lambda: spoiled(-math.inf), AUDIO, "cannot be decoded"),
    fails("a sample beyond any scale", lambda: spoiled(1e30), AUDIO, "cannot be decoded"),
    gives("eight channels", lambda: wav(tone(1, channels=8)), AUDIO, Gives(seconds=1.0)),
    gives("a wav from a pipe", lambda: patched(wav(tone(1)), b"data", 0, b"\xff" * 4), AUDIO, Gives(seconds=1.0)),
    fails("a million samples a second", lambda: wav(tone(1), 1_000_000), AUDIO, "too large"),
    gives("half as much sound", lambda: film(greys(16), 8, tone(1)), VIDEO, Gives(16, seconds=1.0, fps=8.0)),
    gives("sound that begins late", lambda: late_sound(good(), 0.5), VIDEO, WHOLE),
    fails("sound that begins after the part", lambda: late_sound(good(), 1.5), part("video", 0, 1), "no sound"),
    fails("sound that ends before the part", lambda: film(greys(16), 8, tone(0.5)), part("video", 1, 2), "no sound"),
    fails("sound from beyond its end", lambda: wav(tone(1)), part("audio", 3, None), "no sound"),
    fails("sound to beyond its end", lambda: wav(tone(1)), part("audio", 0.5, 3), "no sound"),
]
TIMES = [
    gives("one frame", lambda: film(greys(1), 8, tone(0.125)), VIDEO, Gives(1, seconds=0.125, fps=8.0)),
    fails("0 fps", lambda: timed(good(), [(16, 0.0)]), VIDEO, "cannot be decoded"),
    fails("frames without times", partial(film, greys(16), 8, None, "h264"), VIDEO, "cannot be decoded"),
    fails("frames out of order", jumping_flv, VIDEO, "cannot be decoded"),
    # 16 frames of which the last is shown after 8 x 0.05 + 7 x 0.2 = 1.8 s.
    gives("a varying rate", lambda: timed(good(), [(8, 0.05), (8, 0.2)]), VIDEO, Gives(16, (56, 56), 2.0, 15 / 1.8)),
    # Its edit list still ends after 2 s.
    gives("slower than its sound", lambda: timed(good(), [(16, 0.25)]), VIDEO, Gives(8, seconds=2.0, fps=4.0)),
    gives("a header that claims ten hours", lambda: ten_hours(good()), VIDEO, WHOLE),
    gives("turned by its header", lambda: turned(film(greys(8, 56, 112), 8)), VIDEO, Gives(8, (112, 56), fps=8.0)),
    gives("odd sides", partial(film, greys(8, 57, 83), 8, pixel_format="yuv444p"), VIDEO, Gives(8, (56, 84), fps=8.0)),
    gives("a film that cannot be searched", partial(film, greys(16), 8, None, "mpegts"), VIDEO, Gives(16, fps=8.0)),
    fails("start beyond the end", good, part("video", 3, None), "no picture"),
    fails("end beyond the end", good, part("video", 1, 3), "no picture"),
]
TOO_MUCH = [
    fails("a billion frames", lambda: patched(good(), b"stsz", 8, BILLION), VIDEO, "too large"),
    fails("a billion samples", lambda: patched(good(), b"stsz", 8, BILLION, nth=1), VIDEO, "too large"),
    fails("a billion frames of a byte", lambda: patched(good(), b"stsz", 4, b"\0\0\0\1" + BILLION), VIDEO, "too large"),
    fails("a frame of 16,000 x 8,000", lambda: y4m(16_000, 8_000), VIDEO, "too large"),
    fails("a frame of 30,000 x 30,000", lambda: y4m(30_000, 30_000), VIDEO, *BROKEN),
    gives("a header that claims 30,000 x 30,000", lambda: patched(good(), b"avc1", 24, SIDES), VIDEO, WHOLE),
    fails("a png of 30,000 x 30,000", huge_png, IMAGE, "too large"),
    fails("a line of pixels", lambda: picture(size=(500, 1)), IMAGE, "too large"),
    fails("a film of a line of pixels", lambda: film(greys(2, 2, 500), 8, tone(1)), VIDEO, "too large"),
    fails("no memory for a film", good, VIDEO, "too large", rule=TINY),
    fails("no memory for an image", lambda: picture(size=(560, 560)), IMAGE, "too large", rule=TINY),
]
IMAGES = [
    gives("a picture with alpha", lambda: picture(mode="RGBA"), IMAGE, Gives(1, (84, 56))),
    gives("a picture in print colours", lambda: picture("JPEG", "CMYK"), IMAGE, Gives(1, (84, 56))),
    gives("a picture of 16 bits", lambda: picture(mode="I;16"), IMAGE, Gives(1, (84, 56))),
    gives("a picture on its side", turned_jpeg, IMAGE, Gives(1, (56, 84))),
    fails("a picture of fractions", lambda: picture("TIFF", "F"), IMAGE, "cannot be decoded"),
    gives("a gif as a picture", lambda: gif(4), IMAGE, Gives(1)),
    gives("a gif as a film", lambda: gif(4), VIDEO, Gives(4, fps=10.0)),
]

# What may kill the process that decodes it, as a fault of the library: for processes that may be killed.
DEADLY = [fails("a sound that loses a channel", two_then_one, AUDIO, "cannot be decoded", "decoder crashed")]

BAD_MEDIA: list[Case] = [*CUT, *OF_ANOTHER_KIND, *STREAMS, *SOUNDS, *TIMES, *TOO_MUCH, *IMAGES]
