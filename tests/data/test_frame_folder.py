import io

import pytest
import torch
from PIL import Image

from avatar.data.frame_folder import decode_images, pick_images
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.errors import DataError

RULE = ClipRule(4, min_pixels=28 * 28)
FILM = Medium("video", "frames")


def png(grey, size=(56, 84)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def images(number, size=(56, 84)):
    """So many images by name, image i of the one grey 10 i."""
    return {f"frames/{i}.png": png(10 * i, size) for i in range(number)}


def decode(total, medium=FILM, use_audio=False, rule=RULE, size=(56, 84)):
    picked = pick_images(total, medium, rule, "frames")
    some = {name: payload for i, (name, payload) in enumerate(images(total, size).items()) if i in picked}
    return decode_images(some, total, medium, use_audio, rule, "frames", "key")


def greys(clip):
    return clip.frames.float().mean((1, 2, 3)).tolist()


def test_images_are_shown_a_third_of_a_second_each():
    # Four of ten, from the first to the last: 0, 3, 6, 9; three a second make that a rate of one a second.
    clip = decode(10)
    assert greys(clip) == [0, 30, 60, 90]
    torch.testing.assert_close(clip.times, torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64))
    assert clip.fps == pytest.approx(1.0)
    assert (clip.kind, clip.key, clip.audio, clip.notes) == ("video", "key", None, ())
    assert clip.frames.shape == (4, 3, 84, 56)


def test_a_crop_is_in_seconds_and_times_count_from_its_start():
    # From 1 s to 2 s images 3, 4, 5 are shown, of which an even number is taken: the first and the last.
    clip = decode(10, Medium("video", "frames", 1.0, 2.0))
    assert greys(clip) == [30, 50]
    torch.testing.assert_close(clip.times, torch.tensor([0.0, 2 / 3], dtype=torch.float64))


def test_a_crop_beyond_the_end_is_refused():
    with pytest.raises(DataError, match=r"frames: end 9 s lies beyond the end of the video, which lasts 3.3\d* s"):
        decode(10, Medium("video", "frames", 1.0, 9.0))


def test_a_crop_beyond_the_end_ends_there_and_is_noted_if_the_rule_takes_it():
    clip = decode(10, Medium("video", "frames", 1.0, 9.0), rule=ClipRule(4, min_pixels=28 * 28, late_ends=True))
    assert greys(clip) == [30, 50, 70, 90]  # 3 to 9, four of them
    assert clip.notes == ("a crop ends after its film",)


def test_frames_are_taken_at_a_rate_as_of_any_film():
    assert greys(decode(12, rule=ClipRule(16, fps=1.0, min_pixels=28 * 28))) == [0, 40, 70, 110]  # 4 s: 4 frames


def test_one_image_is_a_film_of_one_frame():
    clip = decode(1)
    assert (clip.kind, len(clip.frames), clip.fps) == ("video", 1, 3.0)


def test_frames_of_different_sizes_are_no_film():
    odd = {**images(2), "frames/9.png": png(0, (28, 28))}
    with pytest.raises(DataError, match=r"^frames/9.png: 28 x 28 pixels, but the first frame has 56 x 84$") as error:
        decode_images(odd, 3, FILM, False, RULE, "frames", "key")
    assert error.value.cause == "no picture"


def test_a_broken_image_is_named():
    with pytest.raises(DataError, match=r"^frames/9.png: the image is cut short"):
        decode_images({**images(1), "frames/9.png": png(0)[:-30]}, 2, FILM, False, RULE, "frames", "key")


def test_frames_are_scaled_as_those_of_a_film():
    clip = decode(2, rule=ClipRule(4, min_pixels=28 * 28, max_pixels=28 * 28), size=(112, 56))
    assert clip.frames.shape[-2:] == (28, 28)


def test_there_is_nothing_to_hear():
    for medium in (FILM, Medium("audio", "frames")):
        with pytest.raises(DataError, match="a folder of frames has no sound") as error:
            decode(2, medium, True)
        assert error.value.cause == "no sound"
    silent = ClipRule(4, min_pixels=28 * 28, silent_videos=True)
    film, sound = decode(2, FILM, True, silent), decode(2, Medium("audio", "frames"), True, silent)
    assert film.notes == sound.notes == ("no sound track",)
    assert (len(film.frames), film.audio, sound.frames, sound.audio) == (2, None, None, None)
