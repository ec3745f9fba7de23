"""Images through Pillow: upright, in RGB, scaled like a frame of a film."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from avatar.data.frames import target_size
from avatar.data.picture import MAX_FRAME_PIXELS, scale
from avatar.data.rules import ClipRule
from avatar.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
BYTES_PER_PIXEL = 16  # while it is decoded, turned and laid on white
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # of EXIF


def read_still(payload: bytes, rule: ClipRule, where: str) -> Tensor:
    """The first picture of an image file, scaled like a frame of a film.

    Returns:
        [1, 3, H, W] uint8.

    Raises:
        DataError: See :func:`read_pixels`; or it is far wider than high.
    """
    pixels = read_pixels(payload, rule, where)
    try:
        size = target_size(pixels.shape[1], pixels.shape[2], rule)
    except ValueError as error:
        raise DataError(f"{where}: {error}", "too large") from None
    return scale(pixels[None], size)


def read_pixels(payload: bytes, rule: ClipRule, where: str) -> Tensor:
    """The first picture of an image file, turned as its EXIF data say, what is transparent over white.

    Returns:
        [3, H, W] uint8, as large as it is.

    Raises:
        DataError: It is none of the formats, or too large, or cut short, or its pixels are no whole numbers.
    """
    image = _open(payload, where)
    needed = BYTES_PER_PIXEL * image.width * image.height
    if needed > rule.max_decoded_mb * 2**20:
        raise DataError(
            f"{where}: decoding {image.width} x {image.height} pixels takes about {needed >> 20:,} MB, more than "
            f"data.max_decoded_mb, which is {rule.max_decoded_mb:,}",
            "too large",
        )
    try:
        image.load()
    except (OSError, SyntaxError) as error:
        if "truncated" in str(error):
            raise DataError(f"{where}: the image is cut short", "cut short") from None
        raise
    pixels = torch.from_numpy(np.array(_on_white(ImageOps.exif_transpose(image), where)))  # [H, W, 3]
    return pixels.permute(2, 0, 1)


def read_still_header(payload: bytes, where: str) -> tuple[int, int]:
    """Width and height of the image, upright if its header says which side is up.

    Raises:
        DataError: As :func:`read_still`.
    """
    image = _open(payload, where)
    # Of a PNG this would read the pixels.
    turned = image.format != "PNG" and image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
    return (image.height, image.width) if turned else (image.width, image.height)


def _open(payload: bytes, where: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many pixels, of odd tags: what matters is refused below
        try:
            image = Image.open(io.BytesIO(payload), formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError(f"{where}: it is no image of the formats {', '.join(FORMATS)}", "no picture") from None
        except Image.DecompressionBombError as error:
            raise DataError(f"{where}: {error}", "too large") from None
    if image.width * image.height > MAX_FRAME_PIXELS:
        raise DataError(
            f"{where}: an image of {image.width} x {image.height} pixels is larger than {MAX_FRAME_PIXELS:,} pixels",
            "too large",
        )
    return image


def _on_white(image: Image.Image, where: str) -> Image.Image:
    """In RGB."""
    if image.mode == "F":
        raise DataError(
            f"{where}: the image cannot be decoded: its pixels are fractions; save it with 8 bits a channel",
            "cannot be decoded",
        )
    if image.mode.startswith("I"):  # 16 bits of grey, of which Pillow itself would make white
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)).convert("RGB")
    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
