"""Replay: the stratified buffer, what prompts have earned so far, and when hints are shown."""

from avatar.replay.buffer import Occupancy, ReplayBuffer
from avatar.replay.hints import HINTS, HintTrigger, Stuck, ZeroStreak
from avatar.replay.memory import Memory, Visit
from avatar.replay.settings import TIERS, Replay
from avatar.replay.shelf import Entry
from avatar.replay.tracker import PromptHistory, RewardTracker

__all__ = [
    "HINTS",
    "TIERS",
    "Entry",
    "HintTrigger",
    "Memory",
    "Occupancy",
    "PromptHistory",
    "Replay",
    "ReplayBuffer",
    "RewardTracker",
    "Stuck",
    "Visit",
    "ZeroStreak",
]
