"""A page measured in inches from its upper left corner, as long as what is put on it; drawn by matplotlib."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.textpath import text_to_path

DPI = 110
MOST_PIXELS = 60_000  # along a side; matplotlib draws no more than 2^16
NO_GLYPH = "Glyph .* missing from font"  # what matplotlib warns of, once for each sign
POINT = 1 / 72  # inches
HINTED = 1.05  # how much wider a line becomes when its signs are fitted to pixels
LEADING = 1.35  # from one line to the next, in font sizes
OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS", "Noto Sans",
)  # fmt: skip
_EAST = r"\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"  # signs of scripts without blanks between words
_PIECES = re.compile(rf"\s+|[{_EAST}]|[^\s{_EAST}]+")


class Page:
    """What has been put on a page; :meth:`save` cuts it to its height.

    Args:
        width: In inches.

    Attributes:
        signs: That were written so far.
    """

    def __init__(self, width: float) -> None:
        self.width = width
        self._figure = plt.figure(figsize=(width, 1), dpi=DPI, facecolor="white")
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self.signs: set[str] = set()

    def text(self, x: float, y: float, text: str, size: float = 9, **look: Any) -> float:
        """Put one line with its top at ``y``; returns where the next one begins."""
        look = {"color": "0.1", "family": list(families()), "zorder": 5, **look}
        text = printable(text)
        self.signs.update(text)
        self._axes.text(x, y + size * POINT, text, fontsize=size, va="baseline", parse_math=False, **look)
        return y + size * LEADING * POINT

    def paragraph(
        self, x: float, y: float, text: str, width: float, size: float = 9, most: int = 12, **look: Any
    ) -> float:
        """Put a text in lines that are no wider than ``width``, ``most`` of them; returns where the next one begins."""
        lines = wrap(text, width, size, look.get("weight", "normal"))
        if len(lines) > most:
            lines = [*lines[: most - 1], f"{lines[most - 1]} ..."]
        for line in lines:
            y = self.text(x, y, line, size, **look)
        return y

    def picture(self, frame: Tensor, x: float, y: float, width: float, height: float) -> None:
        """Put a frame [3, H, W] uint8 there, with a thin edge."""
        _, rows, columns = frame.shape
        size = min(rows, round(2 * height * DPI)), min(columns, round(2 * width * DPI))
        small = interpolate(frame[None].float(), size, mode="bilinear", antialias=True)[0]
        pixels = small.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        self._axes.imshow(pixels, extent=(x, x + width, y + height, y), interpolation="antialiased", zorder=3)
        self.box(x, y, width, height, facecolor="none", edgecolor="0.3", linewidth=0.6, zorder=4)

    def box(self, x: float, y: float, width: float, height: float, **look: Any) -> None:
        """Put a rectangle there."""
        self._axes.add_patch(plt.Rectangle((x, y), width, height, **{"linewidth": 0, "zorder": 1, **look}))

    def line(self, xs: Sequence[float], ys: Sequence[float], **look: Any) -> None:
        """Draw from point to point."""
        self._axes.plot(xs, ys, **{"color": "0.6", "linewidth": 0.7, "zorder": 2, "solid_capstyle": "butt", **look})

    def wave(self, audio: Tensor, x: float, y: float, width: float, height: float, **look: Any) -> None:
        """Draw sound [A] float32 over ``width``: between its lowest and highest sample, pixel by pixel.

        The highest peak fills the height.
        """
        samples = audio.numpy()
        edges = np.linspace(0, len(samples), max(2, min(len(samples), round(width * DPI))) + 1).astype(int)[:-1]
        low, high = np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
        scale = height / 2 / max(float(np.abs(samples).max()), 1e-6)
        xs = x + width * edges / len(samples)
        middle = y + height / 2
        self._axes.fill_between(
            xs, middle - scale * high, middle - scale * low, **{"linewidth": 0.5, "zorder": 2, **look}
        )

    def save(self, path: Path, height: float) -> None:
        """Write the upper ``height`` inches as PNG, with a box for each sign that has no glyph."""
        self._figure.set_size_inches(self.width, height)
        self._axes.set(xlim=(0, self.width), ylim=(height, 0), aspect="auto")
        self._axes.set_axis_off()
        dpi = min(DPI, MOST_PIXELS / height)
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", NO_GLYPH)
            self._figure.savefig(path, dpi=dpi, format="png")
        plt.close(self._figure)


def wrap(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Lines of at most ``width`` inches; what is longer without a blank is broken. Line breaks are kept."""
    lines = []
    for paragraph in text.splitlines() or [""]:
        line, used = "", 0.0
        for piece in _PIECES.findall(printable(paragraph)):
            needed = _width(piece, size, weight)
            for part in [piece] if needed <= width else piece:
                needed = _width(part, size, weight)
                if line and used + needed > width and not part.isspace():
                    lines.append(line.rstrip())
                    line, used = "", 0.0
                line, used = line + part, used + needed
        lines.append(line.rstrip())
    return lines


def printable(text: str) -> str:
    """A blank in place of each sign that cannot be drawn."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def without_glyph(signs: Iterable[str]) -> list[str]:
    """Those that none of the fonts can draw: a box stands for them."""
    fonts = [get_font(fontManager.findfont(FontProperties(family=name))) for name in families()]
    return sorted(sign for sign in signs if not any(font.get_char_index(ord(sign)) for font in fonts))


@cache
def families() -> tuple[str, ...]:
    """Matplotlib's own font, and after it those of other scripts that are installed."""
    installed = set(fontManager.get_font_names())
    return ("DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed))


@lru_cache(10_000)
def _width(text: str, size: float, weight: str) -> float:
    font = FontProperties(family=list(families()), size=size, weight=weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", NO_GLYPH)
        points = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return float(points) * HINTED * POINT
