"""The sound of a file: mono, at the rate of the audio tower, from a true instant to another."""

from __future__ import annotations

from json import JSONDecodeError

import torch
from torch import Tensor
from torchcodec import AudioSamples
from torchcodec.decoders import AudioDecoder, AudioStreamMetadata

from avatar.data.rules import SAMPLE_RATE, ClipRule
from avatar.errors import DataError

MIN_SAMPLES = 321  # three steps of a spectrum, from which the audio tower makes its first token
MAX_SOURCE_RATE = 768_000  # Hz, the highest of any recorder; the filter from rate to rate grows with it
MARGIN = 0.1  # seconds to decode beyond the end, where a resampler would otherwise lack some samples
PADDING = 0.15  # seconds by which a codec fills its last block beyond the end that a header tells
LOUDEST = 1e6  # beyond it a power spectrum in float32 overflows


def read_sound(
    payload: bytes, begin: float | None, end: float | None, rule: ClipRule, where: str, way_out: str = ""
) -> tuple[Tensor, tuple[str, ...]]:
    """Samples from ``begin`` on; where the track begins later, silence is put before it.

    Channels are averaged, as the reference does: a mix by FFmpeg's weights would be up to four times too loud.

    Args:
        payload: The whole file.
        begin: Seconds of the file's own clock; None is where the track begins.
        end: Likewise; None is where the track ends. A track that ends before gives fewer samples.
        rule: Its ``max_audio_seconds``, ``cut_audio`` and ``max_decoded_mb``.
        where: For messages.
        way_out: What to do where there is no audio track.

    Returns:
        [A] float32 at 16 kHz, and a note where it was cut.

    Raises:
        DataError: There is no sound, none in between, too little or too much of it, or its samples are no numbers.
    """
    try:
        decoder = AudioDecoder(payload, sample_rate=SAMPLE_RATE)
    except JSONDecodeError:  # the header is broken, whatever is in the file
        raise
    except ValueError:
        raise DataError(f"{where}: the file has no audio track{way_out}", "no sound") from None
    own_begin = decoder.metadata.begin_stream_seconds or 0.0
    first = own_begin if begin is None else begin
    longest = first + rule.max_audio_seconds + 1.0  # one more, to tell that it is too long
    stop = longest if end is None else min(end, longest)
    _check_header(decoder, stop - first, rule, where)
    nothing = DataError(
        f"{where}: the file has an audio track, but nothing of it lies between the clip's start and end", "no sound"
    )
    try:
        heard = decoder.get_samples_played_in_range(first, stop + MARGIN)
    except RuntimeError as error:
        raise (nothing if "No audio frames were decoded" in str(error) else error) from None
    samples = _without_padding(heard, decoder.metadata).mean(0)
    late = 0 if begin is None else max(round((heard.pts_seconds - begin) * SAMPLE_RATE), 0)
    wanted = late + len(samples) if end is None else round((end - first) * SAMPLE_RATE)
    if not len(samples) or late >= wanted:
        raise nothing
    samples, notes = _cut(torch.cat([samples.new_zeros(late), samples])[:wanted], rule)
    _check_samples(samples, rule, where)
    return samples.clone(), notes  # a slice would hold on to the whole


def _cut(samples: Tensor, rule: ClipRule) -> tuple[Tensor, tuple[str, ...]]:
    most = int(rule.max_audio_seconds * SAMPLE_RATE)
    if not rule.cut_audio or len(samples) <= most:
        return samples, ()
    return samples[:most], (f"sound cut at {rule.max_audio_seconds:g} s",)


def _without_padding(heard: AudioSamples, header: AudioStreamMetadata) -> Tensor:
    """[C, A], cut where the track ends: what AAC pads its last block with would become a token."""
    if header.duration_seconds_from_header is None:
        return heard.data
    end = (header.begin_stream_seconds or 0.0) + header.duration_seconds_from_header
    samples = max(round((end - heard.pts_seconds) * SAMPLE_RATE), 0)
    return heard.data[:, :samples] if 0 < heard.data.shape[1] - samples < PADDING * SAMPLE_RATE else heard.data


def _check_header(decoder: AudioDecoder, wanted: float, rule: ClipRule, where: str) -> None:
    """Refuse what would take too much memory: a strange rate, or ``wanted`` seconds of many channels."""
    rate, channels = decoder.metadata.sample_rate or 0, decoder.metadata.num_channels or 1
    if rate > MAX_SOURCE_RATE:
        raise DataError(f"{where}: the sound cannot be decoded: it claims {rate:,} samples a second", "too large")
    seconds = min(decoder.metadata.duration_seconds or wanted, wanted)
    needed = 2 * 4 * channels * seconds * SAMPLE_RATE  # the samples, and the pieces that they are put together from
    if needed > rule.max_decoded_mb * 2**20:
        raise DataError(
            f"{where}: decoding {seconds:g} s of {channels} channels takes about {needed / 2**20:,.0f} MB, more than "
            f"data.max_decoded_mb, which is {rule.max_decoded_mb:,}",
            "too large",
        )


def _check_samples(samples: Tensor, rule: ClipRule, where: str) -> None:
    seconds = len(samples) / SAMPLE_RATE
    if len(samples) < MIN_SAMPLES:
        raise DataError(
            f"{where}: a sound of {len(samples)} samples at 16 kHz is too short; {MIN_SAMPLES} (0.02 s) make a token",
            "sound too short",
        )
    if seconds > rule.max_audio_seconds:
        raise DataError(
            f"{where}: the sound is longer than {rule.max_audio_seconds:g} s; give its record a start and an end, or "
            "raise data.max_audio_seconds",
            "sound too long",
        )
    if not bool(samples.abs().max() < LOUDEST):  # also not a number
        raise DataError(
            f"{where}: the sound cannot be decoded: it has samples that are no numbers (NaN) or beyond any scale",
            "cannot be decoded",
        )
