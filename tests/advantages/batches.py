"""Batches for the tests of estimators: fresh and replayed completions, ragged, by hand or drawn by hypothesis."""

import math
from dataclasses import fields, replace

import torch
from hypothesis import strategies as st

from avatar.types import Completion, Experience


def experience(rewards, group, lengths=None, valid=None, replayed=None, reference=None):
    """Completions with these rewards; by default ragged (1, 2, 3, 1, ... tokens), valid, fresh, without a score."""
    num = len(rewards)
    lengths = [1 + i % 3 for i in range(num)] if lengths is None else lengths
    flags = [[True] * num if valid is None else valid, [False] * num if replayed is None else replayed]
    valid, replayed = (torch.tensor(flag, dtype=torch.bool) for flag in flags)
    completions = [Completion(torch.arange(n), -torch.ones(n), "", True) for n in lengths]
    score = None if reference is None else torch.tensor(reference, dtype=torch.float32)
    batch = Experience.from_completions(
        completions, torch.tensor(group), torch.tensor(rewards, dtype=torch.float32), valid, score
    )
    return replace(batch, is_replayed=replayed)


def reordered(batch, order):
    """The same completions in another order, or some of them."""
    return replace(batch, **{f.name: getattr(batch, f.name)[order] for f in fields(batch)})


def widened(batch, by):
    """The same completions with ``by`` more columns of padding."""
    pad = torch.nn.functional.pad
    return replace(batch, **{k: pad(getattr(batch, k), (0, by)) for k in ("ids", "mask", "behaviour_logprobs")})


@st.composite
def experiences(draw, max_size=9):
    """Up to three ragged groups in any order, some of them replayed, not valid, without a score or without a token."""
    row = st.tuples(
        st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0, -1.0, 3.0]),
        st.integers(0, 2),
        st.integers(0, 5),
        st.sampled_from([True, True, True, False]),
        st.booleans(),
        st.sampled_from([0.0, 0.25, 0.5, math.nan]),
    )
    return experience(*zip(*draw(st.lists(row, min_size=1, max_size=max_size)), strict=True))
