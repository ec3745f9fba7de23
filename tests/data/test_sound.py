import math
from random import Random

import pytest
import torch
from data.media_files import film, good, greys, late_sound, mute, spoiled, tone, wav
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from avatar.data.encode import encode_mp4
from avatar.data.media import decode_medium
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.errors import DataError

RATE = 16_000
WHERE = "clips/song-3.mp4"


def listen(payload, start=None, end=None, **rule):
    """The sound of a file."""
    return decode_medium(payload, Medium("audio", "wav", start, end), True, ClipRule(**rule), WHERE, "key").audio


def watch(payload, start=None, end=None, **rule):
    """The sound of a film."""
    rule = ClipRule(min_pixels=28 * 28, **rule)
    return decode_medium(payload, Medium("video", "mp4", start, end), True, rule, WHERE, "key").audio


def beep(at, seconds, rate=RATE):
    """[A]: silence but for 40 ms of 2 kHz, loudest in their middle, which is ``at`` seconds after the beginning."""
    t = torch.arange(round(seconds * rate)) / rate - at
    return 0.8 * torch.sin(2 * math.pi * 2000 * t) * torch.exp(-((t / 0.01) ** 2))


def found(samples):
    """Where the beep is, in seconds from the first sample."""
    pattern = beep(0.05, 0.1)
    match = torch.nn.functional.conv1d(samples[None, None], pattern[None, None])[0, 0]
    return int(match.argmax()) / RATE + 0.05


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_beep_is_heard_when_it_sounds_whatever_rate_duration_and_crop(data):
    fps, num = data.draw(st.sampled_from([8, 12.5, 29.97]), "fps"), data.draw(st.integers(10, 38), "frames")
    seconds = num / fps
    at = data.draw(st.floats(0.1, seconds - 0.1), "beep")
    kind = data.draw(st.sampled_from(["mp4", "mpegts", "late mp4", "44.1 kHz mp4"]))
    late = 0.4 if kind == "late mp4" else 0.0
    if kind == "44.1 kHz mp4":
        payload = encode_mp4(greys(num), fps, beep(at, seconds, 44_100), 44_100)
    else:
        payload = film(greys(num), fps, beep(at, seconds)[None], "mpegts" if kind == "mpegts" else "mp4")
    payload = late_sound(payload, late) if late else payload
    heard_at = at + late
    assume(heard_at < seconds - 0.1)
    start = data.draw(st.none() | st.floats(0, max(heard_at - 0.1, 0)), "start") if heard_at > 0.1 else None
    end = data.draw(st.none() | st.floats(min(heard_at + 0.1, seconds), seconds), "end")
    for hear in (watch, listen):
        if hear is listen and start is end is None:
            continue  # the track alone begins with its own first sample
        assert found(hear(payload, start, end)) == pytest.approx(heard_at - (start or 0), abs=0.005)


@pytest.mark.parametrize(("start", "end"), [(None, None), (0.25, None), (0.3, 1.1), (None, 0.7)])
def test_sound_lasts_as_long_as_the_part_of_the_film_that_is_shown(start, end):
    assert len(watch(good(), start, end)) == round(((end or 2) - (start or 0)) * RATE)


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_no_sample_of_a_part_is_lost_to_the_resampler(rate):
    mp4, random = encode_mp4(greys(32), 8, tone(4, rate)[0], rate), Random(0)
    for _ in range(30):
        start = random.uniform(0, 2.5)
        end = start + random.uniform(0.1, 1)
        assert len(watch(mp4, start, end)) == round((end - start) * RATE)


def test_where_the_track_begins_late_there_is_silence_before_it():
    samples = watch(late_sound(film(greys(16), 8, tone(1.5)), 0.5))
    assert len(samples) == 2 * RATE
    assert (samples[: round(0.49 * RATE)] == 0).all()
    assert samples[round(0.55 * RATE) :].abs().max() > 0.4


def test_a_part_of_a_sound_is_that_of_the_whole():
    wave = torch.randn(1, 3 * 44_100, generator=torch.Generator().manual_seed(0)) / 5
    for payload in (wav(wave, 44_100), film(sound=torch.nn.functional.avg_pool1d(wave, 4)[:, : 2 * RATE])):
        whole, part = listen(payload), listen(payload, 0.5, 1.5)
        torch.testing.assert_close(part, whole[RATE // 2 : RATE // 2 * 3], atol=1e-3, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_channels_are_averaged_so_that_nothing_is_louder_than_it_was(channels, rate):
    alike = listen(wav(tone(1, rate, channels), rate))
    assert alike.shape == (RATE,)
    torch.testing.assert_close(alike[1000:-1000], tone(1)[0, 1000:-1000], atol=2e-3, rtol=0)
    for loud in range(channels):
        samples = torch.zeros(channels, rate)
        samples[loud] = tone(1, rate)[0]
        torch.testing.assert_close(listen(wav(samples, rate)), alike / channels, atol=1e-5, rtol=0)


def test_a_sound_is_resampled_and_not_merely_relabelled():
    samples = listen(wav(tone(1, 44_100), 44_100))
    assert samples.shape == (RATE,)
    # One second: bin k of the spectrum is k Hz, and the tone was 1,000 Hz.
    assert int(torch.fft.rfft(samples).abs().argmax()) == 1000


@pytest.mark.parametrize("samples", [321, 320])
def test_a_sound_needs_three_steps_of_a_spectrum(samples):
    payload = wav(tone(1)[:, :samples])
    if samples == 321:
        assert len(listen(payload)) == 321
        return
    with pytest.raises(DataError, match=r"song-3.mp4: a sound of 320 samples at 16 kHz is too short") as error:
        listen(payload)
    assert error.value.cause == "sound too short"


def test_a_sound_may_be_as_long_as_the_rule_says_and_no_longer():
    assert len(listen(wav(tone(2)), max_audio_seconds=2)) == 2 * RATE
    assert len(listen(wav(tone(2)), 0.5, 1.5, max_audio_seconds=1)) == RATE
    with pytest.raises(
        DataError, match=r"longer than 1.5 s; give its record a start and an end, or raise data"
    ) as error:
        listen(wav(tone(2)), max_audio_seconds=1.5)
    assert error.value.cause == "sound too long"


@pytest.mark.parametrize("crop", [(None, None), (0.25, None), (0.25, 2.0)])
def test_a_sound_that_may_be_cut_loses_its_end_and_nothing_else(crop):
    payload = film(greys(16), 8, beep(0.6, 2)[None])
    for medium in (Medium("audio", "mp4", *crop), Medium("video", "mp4", *crop)):
        whole, cut = (
            decode_medium(payload, medium, True, ClipRule(min_pixels=28 * 28, **rule), WHERE, "key")
            for rule in ({}, {"max_audio_seconds": 1.0, "cut_audio": True})
        )
        torch.testing.assert_close(cut.audio, whole.audio[:RATE])
        assert (whole.notes, cut.notes) == ((), ("sound cut at 1 s",))
        assert cut.frames is whole.frames is None or torch.equal(cut.frames, whole.frames)


def test_a_sound_of_just_the_length_is_not_cut_and_one_sample_more_is():
    rule = ClipRule(max_audio_seconds=1.0, cut_audio=True)
    for samples, notes in ((RATE, ()), (RATE + 1, ("sound cut at 1 s",))):
        clip = decode_medium(wav(torch.ones(1, samples) / 2), Medium("audio", "wav"), True, rule, WHERE, "key")
        assert (len(clip.audio), clip.notes) == (RATE, notes)


@pytest.mark.parametrize("end", [None, 500])
def test_of_a_sound_that_is_too_long_no_more_is_decoded_than_shows_it(monkeypatch, end):
    """A rule that allows 1 s must not have ten minutes decoded to see that they are longer."""
    from avatar.data import sound

    asked = []

    class Watched(sound.AudioDecoder):
        def get_samples_played_in_range(self, start, stop):
            asked.append(stop - start)
            return super().get_samples_played_in_range(start, stop)

    monkeypatch.setattr(sound, "AudioDecoder", Watched)
    with pytest.raises(DataError, match="longer than 1 s"):
        listen(wav(torch.zeros(1, 600 * 1000), 1000), end=end, max_audio_seconds=1)
    assert max(asked) < 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_samples_that_are_no_numbers_are_refused_where_they_are_heard(value):
    payload = spoiled(value)  # at 0.31 s
    with pytest.raises(DataError, match=r"samples that are no numbers \(NaN\)") as error:
        listen(payload)
    assert error.value.cause == "cannot be decoded"
    assert len(listen(payload, 0.5, 1)) == RATE // 2


def test_a_missing_track_says_what_a_film_s_record_may_do_about_it():
    with pytest.raises(
        DataError, match=r"no audio track, but its record has use_audio_in_video: true\. Set it to false"
    ):
        watch(mute())
    with pytest.raises(DataError, match=r"no audio track$") as error:
        listen(mute())
    assert error.value.cause == "no sound"


@pytest.mark.parametrize(("start", "end"), [(3, None), (3, 4)])
def test_a_part_beyond_the_end_of_a_sound_is_no_sound(start, end):
    with pytest.raises(DataError, match="nothing of it lies between the clip's start and end") as error:
        listen(wav(tone(1)), start, end)
    assert error.value.cause == "no sound"


@pytest.mark.parametrize("late", [1.0, 1.05, 1.5])
def test_a_track_that_begins_after_the_part_is_no_silence(late):
    with pytest.raises(DataError, match="nothing of it lies between") as error:
        watch(late_sound(good(), late), 0, 1)
    assert error.value.cause == "no sound"


def test_an_end_beyond_that_of_a_sound_by_over_half_a_second_is_an_error():
    assert len(listen(wav(tone(1)), 0.5, 1.4)) == RATE // 2
    with pytest.raises(DataError, match=r"end 1.6 s lies beyond the end of the sound, which lasts 1 s") as error:
        listen(wav(tone(1)), 0.5, 1.6)
    assert error.value.cause == "no sound"


def test_a_crop_of_a_film_s_sound_counts_from_its_first_frame():
    mp4 = late_sound(good(), 0.5)
    torch.testing.assert_close(listen(mp4, 0.25, 1.25), watch(mp4, 0.25, 1.25))


def test_many_channels_of_a_long_sound_are_refused_before_memory_is_taken():
    # Eight channels of 60 s at 16 kHz are 31 MB in float32, twice while they are put together: 59 MiB.
    with pytest.raises(
        DataError, match=r"60 s of 8 channels takes about 59 MB, more than data.max_decoded_mb"
    ) as error:
        listen(wav(torch.zeros(8, 60_000), 1000), max_decoded_mb=50)
    assert error.value.cause == "too large"
