"""Redraws the clips of a benchmark: how far a figure would move if other clips had been picked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

NUM_RESAMPLES = 2000
CELLS = 1_000_000  # weights held at once: 8 MB


def redraw(clips: Sequence[str], num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Iterator[Tensor]:
    r"""How often each question is drawn when the C clips are drawn C times with replacement, :math:`w_i = c_{clip(i)}`.

    All questions about one clip are drawn together: what makes a clip hard makes all of them hard, so they are no
    independent draws, and drawing them one by one would make intervals too narrow. A single clip is always drawn once.

    Args:
        clips: [n], what each question is about. Only which are equal matters, and the order of their names.
        num_resamples: How many draws, R.
        seed: The same draws for the same seed and clips.

    Yields:
        [r, n] whole numbers in float64, R rows in all, in pieces of at most ``CELLS`` numbers or one row.
    """
    place = {name: index for index, name in enumerate(sorted(set(clips)))}
    clip_of = torch.tensor([place[name] for name in clips], dtype=torch.long)  # [n]
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, CELLS // max(1, len(clips)))
    for start in range(0, num_resamples, rows):
        size = min(rows, num_resamples - start)
        drawn = torch.randint(len(place), (size, len(place)), generator=generator)  # [r, C]
        one = torch.ones((), dtype=torch.float64).expand(drawn.shape)
        yield torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, one)[:, clip_of]


def middle(values: Tensor, share: float = 0.95) -> tuple[float, float] | None:
    """Between which two values the middle ``share`` lies, percentiles interpolated; None where none is a number.

    Args:
        values: [R]; what is not a number, from draws that a figure does not exist for, is left out.
        share: 0 to 1.
    """
    values = values[values.isfinite()]
    if not len(values):
        return None
    tail = (1 - share) / 2
    low, high = torch.quantile(values, values.new_tensor([tail, 1 - tail])).tolist()
    return low, high
