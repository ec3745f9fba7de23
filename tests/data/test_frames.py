import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

from avatar.data.frames import pick_frames, target_size
from avatar.data.rules import ClipRule


def steady(num, fps=8.0, first=0.0):
    return first + torch.arange(num, dtype=torch.float64) / fps


def smart_nframes(total, video_fps, fps, max_frames):
    """qwen-omni-utils' number of frames, with 2 as the least."""
    num = total / video_fps * fps
    return math.floor(min(min(max(num, 2), math.floor(min(max_frames, total) / 2) * 2), total) / 2) * 2


@pytest.mark.parametrize(
    ("num", "max_frames", "expected"),
    [
        (33, 3, [0, 32]),  # 3 is odd, so 2
        (33, 5, [0, 11, 21, 32]),  # 4 frames, 32 / 3 = 10.67 apart
        (33, 9, [0, 5, 9, 14, 18, 23, 27, 32]),  # 8 frames, 32 / 7 = 4.57 apart
        (9, 16, [0, 1, 2, 3, 5, 6, 7, 8]),  # all 9, cut to 8
        (8, 8, list(range(8))),
        (33, 1, [0]),
        (1, 16, [0]),
        (2, 16, [0, 1]),
        (3, 16, [0, 2]),
    ],
)
def test_frames_are_spread_evenly_from_the_first_to_the_last_and_even_in_number(num, max_frames, expected):
    assert pick_frames(steady(num), ClipRule(max_frames)).tolist() == expected


@given(st.integers(1, 5000), st.integers(1, 800), st.sampled_from([5, 23.976, 29.97, 60]), st.floats(-5, 5))
def test_at_a_constant_rate_numbers_are_spread_as_in_the_reference_wherever_the_clock_begins(n, most, fps, first):
    num = min(n, most)
    num -= num % 2 if num > 1 else 0
    reference = torch.linspace(0, n - 1, num).round().long()
    assert torch.equal(pick_frames(steady(n, fps, first), ClipRule(most)), reference)


def test_in_long_films_too_numbers_are_rounded_as_in_the_reference():
    n, num = 173_121, 128  # two hours at 24 a second; in float64 one of the numbers is another
    picked = pick_frames(steady(n, 24), ClipRule(num))
    assert torch.equal(picked, torch.linspace(0, n - 1, num).round().long())
    assert not torch.equal(picked, torch.linspace(0, n - 1, num, dtype=torch.float64).round().long())


@given(st.integers(2, 5000), st.integers(2, 800), st.sampled_from([5, 10, 23.976, 25, 29.97]), st.floats(0.1, 30))
def test_at_a_wanted_rate_as_many_frames_are_taken_as_in_the_reference(n, most, video_fps, fps):
    num = n / video_fps * fps
    assume(abs(num - round(num)) > 1e-3)  # where it is whole, one rounds up what the other rounds down
    picked = pick_frames(steady(n, video_fps), ClipRule(most, fps=fps))
    assert len(picked) == smart_nframes(n, video_fps, fps, most)
    assert torch.equal(picked, torch.linspace(0, n - 1, len(picked)).round().long())


def test_rounding_of_times_costs_no_frames():
    # 102 frames at 12 a second, 4 wanted a second: 102 / 12 * 4 = 34. From the times it is 33.99999999999999.
    assert len(pick_frames(steady(102, 12), ClipRule(768, fps=4))) == 34


@pytest.mark.parametrize(
    ("seconds", "fps", "max_frames", "expected"),
    [
        (10, 2, 768, 20),
        (10, 1.5, 768, 14),  # 15, made even
        (10, 2, 16, 16),
        (10, 2, 15, 14),
        (10, 0.01, 768, 2),  # one in a hundred seconds
        (10, 100, 768, 80),  # there are 80
        (10, 2, 1, 1),
        (0.125, 2, 768, 1),  # one frame
    ],
)
def test_the_number_of_frames_at_a_wanted_rate(seconds, fps, max_frames, expected):
    assert len(pick_frames(steady(round(seconds * 8)), ClipRule(max_frames, fps=fps))) == expected


def test_where_the_rate_varies_the_frame_shown_at_each_of_evenly_spread_instants_is_taken_once():
    # 20 frames a second for a second, then one for five seconds, then 20 a second again.
    times = torch.cat([steady(20, 20), torch.tensor([1.0]), steady(20, 20, 6.0)])
    # Eight instants from 0 to 6.95, 0.993 apart: 0, 0.99 (frame 19, at 0.95), 1.99 to 5.96 (frame 20), 6.95.
    assert pick_frames(times, ClipRule(8)).tolist() == [0, 19, 20, 40]


def test_a_frame_that_is_more_than_half_a_step_off_its_place_makes_the_rate_a_varying_one():
    # 33 frames at 8 a second; from frame 17 on they come 2.5 steps late. Four instants are 34.5 / 3 = 11.5 steps apart:
    # 0, 11.5 (frame 11), 23 (frame 20, shown from 22.5 to 23.5), 34.5. By number it would be frames 0, 11, 21, 32, of
    # which frame 21 is at 23.5 steps, where an even rate would have it at 22.6.
    times = steady(33)
    times[17:] += 2.5 / 8
    assert pick_frames(times, ClipRule(5)).tolist() == [0, 11, 20, 32]


def test_of_an_odd_number_of_frames_shown_the_one_shown_shortest_is_left_out_the_later_of_two():
    # Frames at 0, 1, 2 and twelve at 9.0 to 9.11. Eight instants 1.30 apart: 0, 1.3, 2.6 to 7.8, and 9.11 show four
    # frames; without the frame at 1 they show three: two, five times and once.
    late = steady(12, 100, 9.0)
    four = pick_frames(torch.cat([torch.tensor([0.0, 1.0, 2.0]), late]), ClipRule(8))
    three = pick_frames(torch.cat([torch.tensor([0.0, 2.0]), late]), ClipRule(8))
    assert four.tolist() == [0, 1, 2, 14]
    assert three.tolist() == [0, 1]
    # 41 frames in 7.1 s, at one a second: six instants 1.39 apart, which show frame 0, frame 20 four times, frame 40.
    times = torch.cat([steady(20, 20), torch.tensor([1.0]), steady(20, 20, 6.0)])
    assert pick_frames(times, ClipRule(768, fps=1)).tolist() == [0, 20]


def test_a_video_whose_frames_all_fit_gives_them_all_whatever_their_times():
    times = torch.tensor([0.0, 0.1, 0.2, 5.0, 9.0, 9.1])
    assert pick_frames(times, ClipRule(6)).tolist() == list(range(6))
    assert pick_frames(times, ClipRule(16)).tolist() == list(range(6))


def test_jitter_of_less_than_half_a_frame_changes_nothing():
    times = steady(100, 30)
    jittered = times + (torch.rand(100, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.4 / 30
    assert torch.equal(pick_frames(times, ClipRule(16)), pick_frames(jittered.sort().values, ClipRule(16)))


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60), st.integers(1, 40), st.sampled_from([None, 0.5, 2.0]))
def test_whatever_the_times_frames_are_distinct_ascending_within_bounds_and_even_in_number(times, most, fps):
    picked = pick_frames(torch.tensor(sorted(times), dtype=torch.float64), ClipRule(most, fps=fps))
    assert 1 <= len(picked) <= min(most, len(times))
    assert len(picked) == 1 or len(picked) % 2 == 0
    assert (picked.diff() > 0).all()
    assert 0 <= picked[0] <= picked[-1] < len(times)


def test_frames_that_are_all_of_one_time_are_one():
    assert pick_frames(torch.full((7,), 3.0, dtype=torch.float64), ClipRule()).tolist() == [0]


@given(
    st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([1, 784, 4 * 784, 128 * 784]),
    st.sampled_from([784, 256 * 784, 768 * 784, 2**40]),
)  # fmt: skip
def test_the_size_is_that_of_transformers(height, width, least, most):
    assume(max(height, width) <= 200 * min(height, width) and least <= most)
    expected = smart_resize(height, width, 28, least, most)
    assert target_size(height, width, ClipRule(min_pixels=least, max_pixels=most)) == expected


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1080, 1920, (560, 1008)),  # 602,112 pixels at most: sqrt(2,073,600 / 602,112) = 1.856: 582 and 1034.6
        (720, 1280, (560, 1008)),
        (224, 224, (336, 336)),  # 100,352 pixels at least: sqrt = 1.414: 316.8, up to 336
        (360, 640, (364, 644)),
        (1920, 1080, (1008, 560)),
    ],
)
def test_the_size_of_known_formats(height, width, expected):
    assert target_size(height, width, ClipRule()) == expected


@pytest.mark.parametrize(("height", "width", "shape"), [(1, 201, "wide as high"), (2010, 10, "high as wide")])
def test_a_side_of_over_two_hundred_times_the_other_is_refused(height, width, shape):
    with pytest.raises(ValueError, match=rf"{width} x {height} pixels are more than 200 times as {shape}"):
        target_size(height, width, ClipRule())
    assert target_size(10, 2000, ClipRule())


@given(st.integers(28, 2000), st.integers(28, 2000))
def test_a_least_above_the_most_scales_every_frame_to_the_most_and_never_beyond(height, width):
    assume(max(height, width) <= 20 * min(height, width))
    rows, columns = target_size(height, width, ClipRule(min_pixels=128 * 784, max_pixels=64 * 784))
    assert rows * columns <= 64 * 784
    assert (rows + 28) * (columns + 28) >= 64 * 784  # one patch more on each side would be too much, or just fit
