import io
from itertools import count

import pytest
import torch

from avatar.replay import Entry


@pytest.fixture(scope="session")
def entry():
    """Makes completions; each has a number of its own, its first token, and one to three tokens."""
    numbers = count()

    def make(key="a", step=0, priority=0.0, reward=0.0, hinted=False, reference=True):
        number = next(numbers)
        length = 1 + number % 3
        ids = torch.full((length,), number, dtype=torch.int32)
        logprobs = -torch.arange(1.0, length + 1)
        return Entry(key, ids, logprobs, 2 * logprobs if reference else None, reward, hinted, step, priority)

    return make


@pytest.fixture(scope="session")
def through_a_file():
    """What comes back of a state that was written to a checkpoint."""

    def roundtrip(state):
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    return roundtrip
