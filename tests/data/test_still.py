import io

import numpy as np
import pytest
import torch
from data.media_files import gif, huge_png, noise_image, picture, tenth
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from transformers import Qwen2VLImageProcessor
from transformers.image_utils import SizeDict

from avatar.data.media import decode_medium
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.errors import DataError

SMALL = ClipRule(min_pixels=28 * 28)


def decode(payload, rule=SMALL):
    return decode_medium(payload, Medium("image", "x"), False, rule, "pictures/cat.png", "key").frames


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_an_image_is_one_frame_of_its_pixels(kind):
    pixels = noise(56, 84)
    options = {"lossless": True} if kind == "WEBP" else {}
    frames = decode(saved(Image.fromarray(pixels), kind, **options))
    assert frames.dtype == torch.uint8
    assert torch.equal(frames[0].permute(1, 2, 0), torch.from_numpy(pixels))


def test_a_jpeg_is_an_image_too():
    assert decode(noise_image("JPEG")).shape == (1, 3, 56, 56)


def test_of_a_gif_that_moves_the_first_picture_is_taken():
    # Picture i is (40 i, 255 - 40 i, 80).
    assert decode(gif(4))[0, :, 0, 0].tolist() == [0, 255, 80]


def test_what_is_transparent_is_laid_on_white():
    pixels = np.zeros((56, 56, 4), np.uint8)
    pixels[..., 0], pixels[:28, :, 3], pixels[28:42, :, 3] = 200, 255, 51  # red: opaque, a fifth, and not at all
    frames = decode(saved(Image.fromarray(pixels)))[0, :, ::14, 0].T.tolist()
    # A fifth of (200, 0, 0) and four fifths of white: (244, 204, 204).
    assert frames == [[200, 0, 0], [200, 0, 0], [244, 204, 204], [255, 255, 255]]


def test_a_palette_with_a_transparent_colour_is_laid_on_white():
    image = Image.new("P", (56, 56), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.paste(0, (0, 0, 28, 56))
    frames = decode(saved(image, transparency=0))
    assert frames[0, :, 0, 0].tolist() == [255, 255, 255]
    assert frames[0, :, 0, 40].tolist() == [10, 20, 30]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_comes_upright(orientation):
    """The eight ways of EXIF: what is saved is turned back so that it looks as it should."""
    upright = torch.zeros(84, 56, 3, dtype=torch.uint8)
    upright[:28, :28, 0], upright[:28, 28:, 1] = 255, 255  # red above on the left, green above on the right
    turns = [(0, False), (0, True), (2, False), (2, True), (1, True), (1, False), (3, True), (3, False)]
    quarters, mirrored = turns[orientation - 1]
    stored = torch.rot90(upright.flip(1) if mirrored else upright, quarters, (0, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    frames = decode(saved(Image.fromarray(stored.contiguous().numpy()), exif=exif))
    assert torch.equal(frames[0].permute(1, 2, 0), upright)


def test_sixteen_bits_of_grey_become_eight_and_not_white():
    levels = np.tile(np.linspace(0, 65535, 56).astype(np.uint16), (56, 1))
    frames = decode(saved(Image.fromarray(levels)))
    assert torch.equal(frames[0, 0], torch.from_numpy((levels // 256).astype(np.uint8)))


@pytest.mark.parametrize(("height", "width"), [(100, 150), (333, 97), (600, 900)])
def test_pixels_are_those_of_transformers_image_processor(height, width):
    pixels = noise(height, width)
    rule = ClipRule(min_pixels=64 * 28 * 28, max_pixels=256 * 28 * 28)
    frames = decode(saved(Image.fromarray(pixels)), rule)
    size = SizeDict(shortest_edge=rule.min_pixels, longest_edge=rule.max_pixels)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    assert torch.equal(frames, Qwen2VLImageProcessor().resize(image, size, InterpolationMode.BICUBIC, 28))
    assert rule.min_pixels <= frames.shape[2] * frames.shape[3] <= rule.max_pixels


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF"])
def test_an_image_that_is_cut_short_is_refused(kind, tenths):
    pixels = noise(56, 56)
    image = Image.fromarray(pixels)
    payload = saved(image.quantize(256) if kind == "GIF" else image, kind)
    with pytest.raises(DataError, match=r"^pictures/cat.png: ") as error:
        decode(tenth(payload, tenths))
    assert error.value.cause in ("cut short", "cannot be decoded", "no picture")


def test_a_header_of_too_many_pixels_is_refused_before_memory_is_taken():
    # 560 x 560 pixels at 16 bytes each while they are decoded: 4.8 MiB.
    with pytest.raises(
        DataError, match=r"560 x 560 pixels takes about 4 MB, more than data.max_decoded_mb, which is 3"
    ):
        decode(picture(size=(560, 560)), ClipRule(max_decoded_mb=3))
    # 81 million pixels, which Pillow lets pass, and 900 million, which it does not
    for side, message in ((9_000, "9000 x 9000 pixels is larger than 67,108,864"), (30_000, "900000000 pixels")):
        with pytest.raises(DataError, match=message) as error:
            decode(huge_png(side))
        assert error.value.cause == "too large"


def test_formats_that_run_programs_are_none_of_ours():
    with pytest.raises(DataError, match="it is no image of the formats JPEG, PNG, WEBP, BMP, GIF, TIFF"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n")
