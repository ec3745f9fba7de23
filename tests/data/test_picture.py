import time

import pytest
import torch
from data.media_files import film, greys, timed, tone, turned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize
from transformers import Qwen2VLVideoProcessor
from transformers.image_utils import SizeDict

from avatar.data import picture
from avatar.data.encode import encode_mp4
from avatar.data.media import decode_medium
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.errors import DataError

WHERE = "clips/film-3.mp4"


def decode(payload, start=None, end=None, use_audio=False, max_frames=16, min_pixels=28 * 28, **rule):
    rule = ClipRule(max_frames, min_pixels=min_pixels, **rule)
    return decode_medium(payload, Medium("video", "mp4", start, end), use_audio, rule, WHERE, "key")


def numbers(clip):
    """Which frames of a film of greys these are."""
    return ((clip.frames.float().mean(dim=(1, 2, 3)) - 16) / 6).round().long()


def noise(num, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, height // 8 + 1, width // 8 + 1, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_each_frame_is_the_one_that_is_shown_at_its_time_whatever_rate_duration_and_crop(data):
    container, reordered = data.draw(st.sampled_from(["mp4", "matroska", "mpegts", "avi"])), data.draw(st.booleans())
    num = data.draw(st.integers(8 if container == "mpegts" else 2, 38), "frames")  # in too few FFmpeg finds no stream
    fps = data.draw(st.sampled_from([3, 8, 12.5, 23.976, 29.97]), "fps")
    payload = film(greys(num), fps, container=container, reordered=reordered)
    seconds = num / fps
    start = data.draw(st.none() | st.floats(0, 0.9 * seconds), "start")
    end = data.draw(st.none() | st.floats(0.01, seconds).map(lambda s: min((start or 0) + s, seconds)), "end")
    rate = data.draw(st.sampled_from([None, 1.0, 5.0]), "wanted rate")
    clip = decode(payload, start, end, max_frames=data.draw(st.sampled_from([1, 4, 16, 40])), fps=rate)
    shown = numbers(clip) / fps  # when each is shown, from the film's beginning on
    torch.testing.assert_close(clip.times, (shown.double() - (start or 0)).clamp(min=0), atol=1e-3, rtol=0)
    assert (clip.times.diff() > 0).all()
    within = (numbers(clip) > (start or 0) * fps - 0.05) & (numbers(clip) < (end or seconds) * fps + 0.05)
    assert within.all() or len(shown) == 1  # where none begins within, it is the one that is shown then


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, list(range(16))),
        (0.0, 2.0, list(range(16))),
        (0.5, 1.0, [4, 5, 6, 7]),  # eight frames a second: frame 4 is shown at 0.5 s, frame 8 at 1 s
        (0.51, 1.01, [5, 6, 7, 8]),
        (0.5, 1.01, [4, 5, 7, 8]),  # five, made even
        (1.5, None, [12, 13, 14, 15]),
        (1.5, 2.4, [12, 13, 14, 15]),  # less than half a second beyond the end
        (None, 0.25, [0, 1]),
        (0.3, 0.33, [2]),  # none begins within: the one that is shown
        (1.9, None, [15]),
    ],
)
def test_a_crop_shows_the_frames_that_begin_within_it(start, end, expected):
    clip = decode(film(greys(16), 8), start, end)
    assert numbers(clip).tolist() == expected
    torch.testing.assert_close(clip.times, (torch.tensor(expected) / 8.0 - (start or 0)).double().clamp(min=0))


@pytest.mark.parametrize("container", ["mp4", "mpegts", "matroska"])
def test_a_frame_that_is_shown_when_a_crop_begins_is_within_and_one_at_its_end_is_not(container):
    """Also where times are rounded: a Matroska shows the third of 30 frames a second at 0.067 s, not at 0.06667."""
    payload = film(greys(20), 30, container=container)
    for k in range(18):
        assert numbers(decode(payload, k / 30, (k + 2) / 30)).tolist() == [k, k + 1]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [(2.0, None, "start 2 s lies beyond the end of the video, which lasts 2 s"), (1.0, 2.6, "end 2.6 s lies beyond")],
)
def test_a_crop_beyond_the_end_says_how_long_the_film_is(start, end, message):
    with pytest.raises(DataError, match=f"film-3.mp4: {message}") as error:
        decode(film(greys(16), 8), start, end)
    assert error.value.cause == "no picture"


def test_frames_of_a_varying_rate_have_their_true_times_and_are_spread_over_time():
    # Eight frames 0.05 s apart, then eight 0.2 s apart: shown at 0, 0.05 .. 0.35, 0.4, 0.6 .. 1.8 s.
    mp4 = timed(film(greys(16), 8), [(8, 0.05), (8, 0.2)])
    true = torch.cat([0.05 * torch.arange(8), 0.4 + 0.2 * torch.arange(8)]).double()
    whole = decode(mp4)
    torch.testing.assert_close(whole.times, true, atol=1e-3, rtol=0)
    assert whole.fps == pytest.approx(15 / 1.8, rel=1e-3)
    # Four instants 0.6 apart: 0, 0.6, 1.2, 1.8 s. By number it would be frames 0, 5, 10, 15.
    four = decode(mp4, max_frames=4)
    assert numbers(four).tolist() == [0, 9, 12, 15]
    torch.testing.assert_close(four.times, true[[0, 9, 12, 15]], atol=1e-3, rtol=0)


@pytest.mark.parametrize("fps", [8, 29.97])
@pytest.mark.parametrize("max_frames", [1, 2, 7, 16, 40])
def test_the_short_way_gives_what_the_closer_look_gives(fps, max_frames, monkeypatch):
    mp4 = encode_mp4(greys(38), fps, tone(38 / fps)[0])
    short = decode(mp4, max_frames=max_frames, use_audio=True)
    monkeypatch.setattr(picture, "_even_picture", lambda *_: None)
    long = decode(mp4, max_frames=max_frames, use_audio=True)
    assert torch.equal(short.frames, long.frames)
    torch.testing.assert_close(short.times, long.times)
    assert short.fps == pytest.approx(long.fps)
    assert torch.equal(short.audio, long.audio)


@pytest.mark.parametrize("most", [10, 10_000])
def test_seeking_by_the_header_s_rate_gives_the_frames_of_seeking_by_the_index(most, monkeypatch):
    """On films of more than LONG frames approximate seeks are tried first; they must not be what decides."""
    films = [encode_mp4(greys(38), 8, tone(1)[0]), timed(film(greys(38), 8), [(19, 0.05), (19, 0.2)])]
    monkeypatch.setattr(picture, "LONG", most)
    clips = [decode(mp4, start=0.0, max_frames=6) for mp4 in films]
    assert numbers(clips[0]).tolist() == [0, 7, 15, 22, 30, 37]  # 37 / 5 = 7.4 apart
    # Shown at 0 .. 0.9, 0.95, 1.15 .. 4.55 s; six instants 0.91 apart: 0, 0.91, 1.82, 2.73, 3.64, 4.55.
    assert numbers(clips[1]).tolist() == [0, 18, 23, 27, 32, 37]


@pytest.mark.parametrize("start", [None, 1.0])
@pytest.mark.parametrize("max_frames", [1, 4])
@pytest.mark.parametrize("container", ["mpegts", "avi"])
@pytest.mark.parametrize("reordered", [False, True])
def test_a_stream_in_which_seeking_misses_gives_the_right_frames(start, max_frames, container, reordered):
    """torchcodec gives a later frame for the first of some of these; if it no longer does, all the better."""
    clip = decode(film(greys(38), 8, container=container, reordered=reordered), start, max_frames=max_frames)
    first = round((start or 0) * 8)
    expected = [first + round(k * (37 - first) / 3) for k in range(max_frames)]
    assert numbers(clip).tolist() == expected
    torch.testing.assert_close(clip.times, (torch.tensor(expected) - first).double() / 8, atol=1e-3, rtol=0)


def test_a_film_of_which_frames_are_missing_is_refused():
    """In a stream one packet of which is overwritten the decoder may give up before the index ends."""
    stream, refused = film(greys(38), 8, container="mpegts"), []
    for packet in range(60, len(stream) // 188 - 1, 2):
        damaged = stream[: packet * 188] + b"\xff" * 188 + stream[(packet + 1) * 188 :]
        try:
            assert len(decode(damaged, max_frames=40).frames) >= 34  # what the index lacks as well nobody can miss
        except DataError as error:
            refused.append(error)
    assert any("frames are to be found" in str(error) for error in refused)
    assert {error.cause for error in refused} == {"cannot be decoded"}


def test_legacy_fps_takes_all_frames_to_be_half_a_second_apart():
    mp4 = film(greys(32), 8)
    true, legacy = decode(mp4), decode(mp4, legacy_fps=True)
    assert torch.equal(true.frames, legacy.frames)
    assert (legacy.fps, legacy.times) == (2.0, None)
    assert true.fps == pytest.approx(15 / (31 / 8))


def test_a_film_turned_by_its_header_comes_upright():
    frames = torch.zeros(4, 3, 56, 112, dtype=torch.uint8)
    frames[..., :28] = 255  # the left quarter is white; turned clockwise it is the upper one
    shown = decode(turned(film(frames, 8))).frames
    assert shown.shape == (4, 3, 112, 56)
    assert (shown[:, :, :24] > 200).all()
    assert (shown[:, :, 32:] < 55).all()


@pytest.mark.parametrize(("height", "width"), [(120, 160), (224, 224), (250, 96), (300, 700)])
@pytest.mark.parametrize("most", [100 * 28 * 28, 768 * 28 * 28])
def test_pixels_are_those_of_transformers_video_processor(height, width, most):
    mp4 = film(noise(4, height, width), 8)
    least = 64 * 28 * 28
    untouched = decode(mp4, min_pixels=1, max_pixels=2**40)  # rounded to multiples of 28, no more
    raw = picture._decode(picture.VideoDecoder(mp4), torch.arange(4), lambda frames: frames)[0]
    processor = Qwen2VLVideoProcessor()
    size = SizeDict(shortest_edge=least, longest_edge=most)
    theirs = processor.resize(raw[None].contiguous(), size, InterpolationMode.BICUBIC, 28, cap_pixels_per_frame=True)[0]
    ours = decode(mp4, min_pixels=least, max_pixels=most)
    assert torch.equal(ours.frames, theirs)
    assert untouched.frames.shape[2:] == tuple(round(side / 28) * 28 for side in (height, width))


def test_frames_that_have_the_size_are_not_touched():
    frames = noise(4, 56, 84)
    mp4 = film(frames, 8)
    assert torch.equal(decode(mp4).frames, picture.VideoDecoder(mp4).get_all_frames().data)


def test_frames_are_scaled_a_few_at_a_time_and_come_out_as_if_at_once(monkeypatch):
    mp4 = film(noise(10, 120, 160), 8)
    at_once = decode(mp4, min_pixels=200 * 200)
    seen = []
    monkeypatch.setattr(picture, "CHUNK_BYTES", 3 * 120 * 160 * 3)  # three frames
    monkeypatch.setattr(picture, "resize", lambda x, *a, **k: seen.append(len(x)) or resize(x, *a, **k))
    assert torch.equal(decode(mp4, min_pixels=200 * 200).frames, at_once.frames)
    assert seen == [3, 3, 3, 1]


def test_more_memory_than_is_granted_is_refused_before_it_is_taken():
    # 38 frames of 1,400 x 1,400 pixels would be kept, twice while they are joined: 38 x 2 x 5.88 MB = 447 MB, and 64.
    with pytest.raises(DataError, match=r"about 49\d MB, more than data.max_decoded_mb, which is 400") as error:
        decode(film(greys(38), 8), max_frames=38, min_pixels=1400**2, max_pixels=1400**2, max_decoded_mb=400)
    assert error.value.cause == "too large"


@pytest.fixture(scope="module")
def ten_minutes():
    """Ten minutes of 5 small frames a second, a key frame every 250, with sound."""
    levels = torch.arange(3000) % 200 + 20
    frames = levels[:, None, None, None].expand(3000, 3, 56, 56).to(torch.uint8)
    return encode_mp4(frames.contiguous(), 5, tone(600)[0])


def cpu(work):
    """CPU seconds, the least of three."""
    spent = []
    for _ in range(3):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


def test_a_part_of_ten_minutes_costs_a_small_part_of_them(ten_minutes):
    everything = cpu(lambda: picture.VideoDecoder(ten_minutes).get_all_frames())
    part = cpu(lambda: decode(ten_minutes, 300, 310))
    sixteen = cpu(lambda: decode(ten_minutes))
    assert everything > 4 * part, (everything, part, sixteen)
    assert everything > 1.5 * sixteen  # twelve key frames: 16 x 125 of 3,000 frames are decoded, but not converted
    clip = decode(ten_minutes, 300, 310)
    expected = (1500 + torch.linspace(0, 49, 16).round()) % 200 + 20
    torch.testing.assert_close(clip.frames.float().mean((1, 2, 3)), expected, atol=3, rtol=0)


def test_the_sound_of_a_part_of_ten_minutes_costs_a_small_part_of_them(ten_minutes):
    def listen(start=None, end=None):
        medium = Medium("audio", "mp4", start, end)
        return decode_medium(ten_minutes, medium, True, ClipRule(max_audio_seconds=1000), WHERE, "key").audio

    whole, part = listen(), listen(300, 310)
    assert cpu(listen) > 8 * cpu(lambda: listen(300, 310))
    torch.testing.assert_close(part, whole[300 * 16_000 : 310 * 16_000], atol=1e-4, rtol=0)
