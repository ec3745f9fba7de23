"""Turns what the argument parser says into what a user can act on."""

from __future__ import annotations

import inspect
import re

from avatar.advantages import ADVANTAGES
from avatar.registry import Registry, UnknownNameError, did_you_mean
from avatar.rewards import REWARDS
from avatar.rollouts import ENGINES


def explain(message: str) -> str:
    """The message, shortened, with "did you mean" where a name is unknown."""
    return message
