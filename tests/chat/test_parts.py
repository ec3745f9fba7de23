import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from avatar.chat import image_part, text_part


def picture(part):
    """[3, H, W] uint8 of what was sent."""
    head, data = part["image_url"]["url"].split(",")
    assert (part["type"], head) == ("image_url", "data:image/jpeg;base64")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == "JPEG"
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_a_text_part_is_its_text():
    assert text_part("hello") == {"type": "text", "text": "hello"}


def test_a_frame_comes_out_in_its_size_its_colours_and_the_right_way_up():
    frame = torch.zeros(3, 32, 64, dtype=torch.uint8)
    frame[0, :, :32], frame[2, 16:, 32:] = 200, 100  # left half red, lower right blue
    sent = picture(image_part(frame))
    assert sent.shape == frame.shape
    assert (sent.int() - frame.int()).abs().float().mean() < 5


@pytest.mark.parametrize(
    ("size", "longest", "scaled"),
    [((1080, 1920), 768, (432, 768)), ((100, 50), 20, (20, 10)), ((8, 8), 768, (8, 8)), ((1, 2000), 100, (1, 100))],
)
def test_a_large_frame_is_scaled_down_in_proportion_and_a_small_one_stays(size, longest, scaled):
    # 1080 * 768 / 1920 = 432
    assert picture(image_part(torch.zeros(3, *size, dtype=torch.uint8), longest))[0].shape == scaled


def test_the_same_frame_gives_the_same_part_so_that_a_cache_knows_it():
    frame = torch.arange(3 * 16 * 16, dtype=torch.uint8).view(3, 16, 16)
    strided = torch.stack([frame, frame], -1)[..., 0]  # not contiguous
    assert image_part(frame) == image_part(strided)
    assert image_part(frame) != image_part(frame + 40)


@pytest.mark.parametrize(
    "frame",
    [torch.zeros(16, 16, 3, dtype=torch.uint8), torch.zeros(3, 16, 16), torch.zeros(3, 0, 16, dtype=torch.uint8)],
)
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(ValueError, match=r"a frame is \[3, H, W\] uint8"):
        image_part(frame)
