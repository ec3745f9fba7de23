"""What of a clip reaches the towers, and where its tokens sit: sizes of frames, true times."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_plain import plain_positions

from avatar.errors import DataError
from avatar.types import Clip, Prompt


def snow(num, height, width, seed=0):
    """[num, 3, height, width] frames of which any scaling changes the bytes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num, 3, height, width), dtype=torch.uint8, generator=generator)


def hiss(seconds):
    return 2 * torch.rand(round(16_000 * seconds), generator=torch.Generator().manual_seed(0)) - 1


# -- sizes -------------------------------------------------------------------------------------------------------------


def pixels_seen(adapter, clip, monkeypatch):
    """[F, 3, H, W] uint8 that the vision tower was shown, put together again from its patches; a video's F is even."""
    processor, shown = adapter.processor.video_processor, []

    def look(pixels, grids):
        shown.extend([pixels, grids])
        raise InterruptedError

    monkeypatch.setattr(adapter.model, "get_video_features", look)
    with pytest.raises(InterruptedError):
        adapter.tower_features([clip])
    (steps, rows, columns), pixels = shown[1][0].tolist(), shown[0]
    # steps, row and column of a token, row and column of a patch in it, colour, frame of the step, pixels of the patch
    patches = pixels.view(steps, rows // 2, columns // 2, 2, 2, 3, 2, 14, 14).permute(0, 6, 5, 1, 3, 7, 2, 4, 8)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (processor.image_mean, processor.image_std))
    frames = (patches.reshape(2 * steps, 3, 14 * rows, 14 * columns) * std + mean) * 255
    assert (frames - frames.round()).abs().max() < 1e-3
    return frames.round().byte()


# tiny; 201 times as wide as high, which Qwen's own sizing refuses; above all of Qwen's limits of a frame
@pytest.mark.parametrize("size", [(28, 28), (28, 5628), (140, 84), (1400, 1400)], ids=str)
@pytest.mark.parametrize("num", [1, 4, "image"])
def test_frames_of_whole_tokens_are_seen_to_the_byte_whatever_their_size(adapter, size, num, monkeypatch):
    frames = snow(1 if num == "image" else num, *size)
    seen = pixels_seen(adapter, Clip("whole", frames, 1.0, image=num == "image"), monkeypatch)
    assert torch.equal(seen[: len(frames)], frames)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize(
    ("size", "nearest"),
    [((60, 100), (56, 112)), ((27, 29), (28, 28)), ((5, 5), (28, 28)), ((1399, 1387), (1400, 1400))],
)
def test_other_frames_are_scaled_to_the_nearest_whole_tokens(adapter, size, nearest, image, monkeypatch):
    frames = torch.full((1, 3, *size), 77, dtype=torch.uint8)
    seen = pixels_seen(adapter, Clip("odd", frames, 1.0, image=image), monkeypatch)
    assert seen.shape[-2:] == nearest
    assert (seen == 77).all()


# -- true times --------------------------------------------------------------------------------------------------------


def timed(key, times, height=28, width=28, audio=None):
    """A clip whose frames are shown at ``times``; its rate says nothing of them."""
    return Clip(key, snow(len(times), height, width), 99.0, audio, times=torch.tensor(times, dtype=torch.float64))


def test_a_step_is_where_the_first_of_its_frames_is(adapter):
    # 25 positions a second: frames at 0.28 and 1.0 make the step at 7, those at 1.5 and 1.51 the one at 37, and the
    # last frame, alone and so shown twice, that at 90. One position more, since the clip opens with 0.
    positions = adapter.clips([timed("k", [0.28, 1.0, 1.5, 1.51, 3.6])], frozen=True)[0].segment.position_ids
    assert positions[0].tolist() == [0, 8, 38, 91, 92]
    one = adapter.clips([timed("one", [2.0])], frozen=True)[0].segment.position_ids
    assert one[0].tolist() == [0, 51, 52]


@pytest.mark.parametrize(("rate", "seconds"), [(8.0, 1.0), (2.0, 9.3), (1.6, 0.1), (0.5, 4.0), (4.0, None)])
def test_even_times_are_the_rate(adapter, rate, seconds):
    frames, audio = snow(9, 28, 56), None if seconds is None else hiss(seconds)
    by_rate = Clip("rate", frames, rate, audio)
    by_times = Clip("times", frames, 0.0, audio, times=torch.arange(9, dtype=torch.float64) / rate)
    ours, theirs = (encoded.segment for encoded in adapter.clips([by_times, by_rate], frozen=True))
    assert torch.equal(ours.ids, theirs.ids)
    assert torch.equal(ours.position_ids, theirs.position_ids)


@pytest.mark.parametrize(
    "times", [[0.0, 1.0], [0.0, 1.0, 2.0, 1.9], [-0.1, 0.0, 1.0, 2.0], [0.0, 1.0, float("nan"), 3.0]]
)
def test_times_that_do_not_fit_the_frames_are_refused(adapter, times):
    clip = Clip("late", snow(4, 28, 28), 1.0, times=torch.tensor(times, dtype=torch.float64))
    with pytest.raises(DataError, match="late: times must give each of 4 frames its second"):
        adapter.tower_features([clip])


@st.composite
def filmed(draw):
    """Frames at any times, a pause of many seconds among them, of any size, with sound of any length or none."""
    gaps = draw(st.lists(st.one_of(st.floats(0, 1), st.floats(0, 9)), min_size=1, max_size=24))
    times = torch.tensor(gaps, dtype=torch.float64).cumsum(0)
    samples = draw(st.one_of(st.none(), st.integers(321, 20 * 16_000)))
    audio = None if samples is None else torch.zeros(samples)
    rows, columns = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return timed(f"film {gaps} {samples} {rows} {columns}", times.tolist(), 28 * rows, 28 * columns, audio)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filmed())
def test_picture_and_sound_sit_at_their_true_times(adapter, clip):
    """Each step less than 1/25 s before its first frame, each audio token at its 40 ms, and in order by 2 s chunks."""
    adapter.model.config.seconds_per_chunk = 2
    segment = adapter.clips([clip], frozen=True)[0].segment
    ids, positions = segment.ids, segment.position_ids - 1  # the clip opens with one position
    is_video, is_audio = (ids == adapter.media_token_ids[kind] for kind in ("video", "audio"))

    true = clip.times[::2]
    tokens = clip.frames[0, 0].numel() // 28**2  # of a step
    seen = positions[:, is_video].view(3, len(true), tokens)
    assert (seen[0] == seen[0, :, :1]).all()
    early = true - seen[0, :, 0] / 25
    assert (early >= -1e-3 / 25).all()
    assert (early < 1 / 25).all()
    assert (seen[1:] == seen[1:, :1]).all()  # rows and columns are those of each step

    heard = positions[0, is_audio]
    starts = torch.arange(0, 0 if clip.audio is None else len(clip.audio), 640) / 16_000  # 640 samples are 40 ms
    assert abs(len(heard) - len(starts)) <= 1
    assert ((heard[: len(starts)] / 25 - starts[: len(heard)]).abs() < 0.04).all()

    chunk = positions[0] // 50
    sounds_before = is_audio.cumsum(0)[is_video]
    assert (sounds_before <= 50 * chunk[is_video]).all()  # no picture after the sound of a later chunk
    if (true.diff(prepend=torch.zeros(1)) < 2).all():  # else a step may fall into the chunks that have no other
        order = (2 * chunk + is_audio.long())[is_video | is_audio]
        assert (order.diff() >= 0).all()


# (frames, seconds of sound) of each clip
@pytest.mark.parametrize("asked", [[(16, 5.0)], [(16, None), (5, None)], [(9, 12.7), (None, 1.0), (2, 0.1)]], ids=str)
def test_without_times_at_two_a_second_it_is_the_processor_that_knows_no_rate(adapter, asked):
    """``legacy_fps``: ids and positions of transformers left to its defaults, with chunks of 2 s as released."""
    adapter.model.config.seconds_per_chunk = 2
    clips = [
        Clip(str(i), None if num is None else snow(num, 56, 28), 2.0, None if seconds is None else hiss(seconds))
        for i, (num, seconds) in enumerate(asked)
    ]
    prompt = Prompt("k", [{"role": "user", "content": [{"type": clip.kind} for clip in clips]}], tuple(clips), "1")
    text = adapter.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
    videos, sounds = ([c for c in clips if getattr(c, what) is not None] for what in ("frames", "audio"))
    number = iter(range(len(videos)))
    media = {"videos": [clip.frames for clip in videos], "videos_kwargs": {"do_resize": False}}
    if sounds:
        sources = [None if clip.frames is None else next(number) for clip in sounds]
        media |= {"audio": [clip.audio.numpy() for clip in sounds], "audio_from_video_indices": sources}
        media |= {"load_audio_from_video": True}
    inputs = adapter.processor(text=[text], return_tensors="pt", **media)
    prefix = adapter.encode([prompt])[0]
    assert torch.equal(prefix.ids, inputs["input_ids"][0])
    assert torch.equal(prefix.position_ids, plain_positions(adapter, inputs, bool(sounds)))
    steps = prefix.position_ids[0].diff()[prefix.ids[1:] == adapter.media_token_ids["video"]]
    assert 25 in steps  # two frames, one second
