"""What to do where the memory is not enough to answer questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from avatar.benchmarks.recipe import Recipe
from avatar.data.workers import NO_MEMORY
from avatar.errors import AvatarError


@contextmanager
def naming_what_fits(num: int, recipe: Recipe | None) -> Iterator[None]:
    """Make of memory that ran out an error that says what takes less.

    Args:
        num: Questions that are answered at a time.
        recipe: How a benchmark asks them; None for other data.

    Raises:
        AvatarError: There was not enough memory, of the GPU or of the machine.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_shortage(error):
            raise
        said = str(error).partition(". ")[0]
        raise AvatarError(
            f"out of memory with {num} questions answered at a time ({said}). {_less(num, recipe)}"
        ) from None


def _is_shortage(error: BaseException) -> bool:
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(words in str(error) for words in NO_MEMORY)


def _less(num: int, recipe: Recipe | None) -> str:
    if recipe is None:
        return "Lower data.eval_batch_size or model.max_new_tokens"
    fewer = f"the same command with --batch_size {num // 2} asks only what is left. Or show" if num > 1 else "show"
    return (
        f"All replies before are kept: {fewer} less of each clip, with all questions asked anew: "
        f"--recipe.max_frames below {recipe.max_frames}, --recipe.max_pixels below {recipe.max_pixels}"
    )
