"""Bytes to clips: films and sound through torchcodec, images through Pillow.

Nothing here swaps, pads or drops a stream without saying so. What a header shows to be too much is refused before any
memory is taken for it; against what only decoding shows, and against libraries that hang or crash, stand the limits of
the process that calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from json import JSONDecodeError

from torch import Tensor
from torchcodec.decoders import (
    AudioStreamHeaderMetadata,
    ContainerMetadata,
    VideoStreamHeaderMetadata,
    get_container_metadata,
)
from torchcodec.encoders import Encoder

from avatar.data.containers import film_format, is_cut_short, is_playlist, most_samples, still_format
from avatar.data.picture import LATE, Picture, read_picture
from avatar.data.rules import LEGACY_FPS, SAMPLE_RATE, ClipRule
from avatar.data.schema import Medium
from avatar.data.sound import read_sound
from avatar.data.still import read_still, read_still_header
from avatar.errors import AvatarError, ConfigError, DataError
from avatar.types import Clip

LATE_END = "a crop ends after its film"
NO_TRACK = "no sound track"  # what a clip notes
IN_SHARD = ", then write the shard again"
WAY_OUT = f"Replace or remove it{IN_SHARD}"
_MUTE = ", but its record has use_audio_in_video: true. Set it to false to train on the picture alone"
_SOURCE = re.compile(r"^.*\.(cpp|h):\d+,? *")  # where in torchcodec it was raised
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "not enough memory")


@dataclass(frozen=True)
class MediaInfo:
    """What a file's header says is in it; only decoding shows whether it is true.

    Attributes:
        has_video: Whether it has a film; an image has none.
        has_audio: Whether it has an audio track.
        seconds: How long the file is; 0 where it does not say, and for an image.
        audio_seconds: How long the audio track is; likewise.
        width: Of the upright frame or image, in pixels; 0 without one.
        height: Likewise.
        fps: Frames a second; 0 where it does not say, and for an image.
        frames: How many; 0 where it does not say, 1 for an image.
        sample_rate: Of the audio track, in Hz; 0 without one.
        channels: Of the audio track; 0 without one.
    """

    has_video: bool = False
    has_audio: bool = False
    seconds: float = 0.0
    audio_seconds: float = 0.0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    frames: int = 0
    sample_rate: int = 0
    channels: int = 0


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


def decode_medium(payload: bytes, medium: Medium, use_audio: bool, rule: ClipRule, where: str, key: str) -> Clip:
    """Decode what a record shows of one file.

    A pure function of its arguments: the same call gives the same clip, bit for bit, on one machine.

    Args:
        payload: The whole file.
        medium: What of it is shown: its film, its sound or an image, and from when to when. Times count from the first
            frame where there is a film, otherwise from the first sample.
        use_audio: Whether a film is to be heard; it then must have sound. That of ``audio`` always is.
        rule: Which frames are taken, how large, how much sound, and how much memory that may take.
        where: Names the file in messages.
        key: Of the clip.

    Returns:
        A film's sound begins and ends with its picture: AAC pads its last block, which would become a token. Without
        frames and sound where the rule leaves out the sound of a silent film.

    Raises:
        DataError: The file is broken, cut short or of another kind; what the record declares is not in it, or is more
            than the rule allows.
        ConfigError: FFmpeg's libraries are missing.
    """
    with naming(where):
        _check_file(payload, medium.kind, where)
        if medium.kind == "image":
            return Clip(key, read_still(payload, rule, where), image=True)
        require_ffmpeg()
        if medium.kind == "audio":
            if rule.silent_videos and _is_mute_film(payload):
                return Clip(key, notes=(NO_TRACK,))
            audio, notes = _listen(payload, medium, rule, where)
            return Clip(key, audio=audio, notes=notes)
        return _watch(payload, medium, use_audio, rule, where, key)


def probe(payload: bytes, kind: str, where: str = "the file") -> MediaInfo:
    """What the header of a file says is in it. Nothing is decoded.

    Args:
        payload: The whole file.
        kind: ``video``, ``image`` or ``audio``: what it is taken for.
        where: Names the file in messages.

    Raises:
        DataError: The file is broken, cut short or of another kind.
        ConfigError: FFmpeg's libraries are missing.
    """
    with naming(where):
        _check_file(payload, kind, where)
        if kind == "image":
            width, height = read_still_header(payload, where)
            return MediaInfo(width=width, height=height, frames=1)
        require_ffmpeg()
        return _info(get_container_metadata(payload))


def _info(container: ContainerMetadata) -> MediaInfo:
    film, sound = _best_streams(container)
    seconds = container.duration_seconds_from_header or 0.0
    info = MediaInfo(has_video=film is not None, has_audio=sound is not None, seconds=seconds)
    if film is not None:
        frames = film.num_frames_from_header or round(seconds * (film.average_fps_from_header or 0.0))
        info = replace(
            info,
            seconds=seconds or film.duration_seconds_from_header or 0.0,
            width=film.width or 0,
            height=film.height or 0,
            fps=film.average_fps_from_header or 0.0,
            frames=frames,
        )
    if sound is not None:
        info = replace(
            info,
            audio_seconds=sound.duration_seconds_from_header or seconds,
            sample_rate=sound.sample_rate or 0,
            channels=sound.num_channels or 0,
        )
    return info


def _best_streams(
    container: ContainerMetadata,
) -> tuple[VideoStreamHeaderMetadata | None, AudioStreamHeaderMetadata | None]:
    film, sound = container.best_video_stream_index, container.best_audio_stream_index
    return None if film is None else container.streams[film], None if sound is None else container.streams[sound]


def _watch(payload: bytes, medium: Medium, use_audio: bool, rule: ClipRule, where: str, key: str) -> Clip:
    picture = read_picture(payload, medium, rule, where)
    late = late_end(picture, medium)
    if not use_audio:
        return to_clip(picture, None, rule, key, late)
    if rule.silent_videos and _is_mute_film(payload):
        return to_clip(picture, None, rule, key, (*late, NO_TRACK))
    audio, notes = read_sound(payload, picture.begin, picture.end, rule, where, _MUTE)
    return to_clip(picture, audio, rule, key, (*late, *notes))


def late_end(picture: Picture, medium: Medium) -> tuple[str, ...]:
    """What is to be noted of a crop: that it ends after its film, or nothing."""
    wanted = (medium.end or 0.0) - (medium.start or 0.0)
    return (LATE_END,) if wanted > picture.end - picture.begin + LATE else ()


def to_clip(picture: Picture, audio: Tensor | None, rule: ClipRule, key: str, notes: tuple[str, ...] = ()) -> Clip:
    """The frames of a film with their times, and its sound."""
    steps, span = len(picture.times) - 1, float(picture.times[-1] - picture.times[0])
    fps = steps / span if steps else 1 / (picture.end - picture.begin)
    if rule.legacy_fps:
        return Clip(key, picture.frames, LEGACY_FPS, audio, notes=notes)
    return Clip(key, picture.frames, fps, audio, times=picture.times, notes=notes)


def _is_mute_film(payload: bytes) -> bool:
    film, sound = _best_streams(get_container_metadata(payload))
    return film is not None and sound is None and still_format(payload) is None


def _listen(payload: bytes, medium: Medium, rule: ClipRule, where: str) -> tuple[Tensor, tuple[str, ...]]:
    """The sound of a medium; a crop counts from the first frame, so that it means the same for a film and its sound."""
    if medium.start is medium.end is None:
        return read_sound(payload, None, None, rule, where)
    film, sound = _best_streams(get_container_metadata(payload))
    origin = 0.0
    if (first := film or sound) is not None:
        origin = first.begin_stream_seconds_from_header or 0.0
    begin, end = origin + (medium.start or 0.0), None if medium.end is None else origin + medium.end
    audio, notes = read_sound(payload, begin, end, rule, where)
    if end is not None and not notes and len(audio) < (end - begin - LATE) * SAMPLE_RATE:
        if rule.late_ends:
            return audio, (LATE_END,)
        lasts = (medium.start or 0.0) + len(audio) / SAMPLE_RATE
        raise DataError(
            f"{where}: end {medium.end:g} s lies beyond the end of the sound, which lasts {lasts:g} s", "no sound"
        )
    return audio, notes


def _check_file(payload: bytes, kind: str, where: str) -> None:
    if not payload:
        raise DataError(f"{where}: the file is empty. {WAY_OUT}", "cut short")
    if is_playlist(payload):
        raise DataError(f"{where}: it is a playlist, and what it names is never opened. {WAY_OUT}", "not allowed")
    if is_cut_short(payload):
        raise DataError(f"{where}: the file is cut short. {WAY_OUT}", "cut short")
    if (claim := most_samples(payload)) > len(payload):
        raise DataError(f"{where}: a track claims {claim:,} frames in a file of {len(payload):,} bytes", "too large")
    still, film = still_format(payload), film_format(payload)
    if kind == "video" and still is not None:
        raise DataError(
            f'{where}: it is an image ({still}) and no video; its record says {{"image": ...}}', "no picture"
        )
    if kind == "image" and film is not None:
        raise DataError(f'{where}: it is a video ({film}) and no image; its record says {{"video": ...}}', "no picture")


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Make whatever the libraries raise over bytes that anybody may have made an error that names the file."""
    try:
        yield
    except AvatarError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
            raise DataError(f"{where}: decoding it takes more memory than there is", "too large") from error
        if isinstance(error, JSONDecodeError):  # torchcodec has FFmpeg describe the file in JSON
            error = ValueError("its header holds what are no numbers")
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        reason = _SOURCE.sub("", first_line)
        raise DataError(f"{where}: the file cannot be decoded ({reason}). {WAY_OUT}", "cannot be decoded") from error
