"""The parts of a message: text, and pictures as data URLs."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor


def text_part(text: str) -> dict[str, Any]:
    """``{"type": "text", "text": text}``."""
    return {"type": "text", "text": text}


def image_part(frame: Tensor, longest_side: int = 768, quality: int = 90) -> dict[str, Any]:
    """A frame as a JPEG in a data URL; one that is larger is scaled down, its proportions kept, none is scaled up.

    Args:
        frame: [3, H, W] uint8.
        longest_side: Pixels that the longer side has at most.
        quality: Of the JPEG, 1 to 95.

    Raises:
        ValueError: The frame has another shape or dtype, or no pixels.
    """
    if frame.dim() != 3 or frame.shape[0] != 3 or frame.dtype != torch.uint8 or not frame.numel():
        raise ValueError(f"a frame is [3, H, W] uint8 with at least one pixel, got {list(frame.shape)} {frame.dtype}")
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().cpu().numpy())
    image.thumbnail((longest_side, longest_side), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": url}}
