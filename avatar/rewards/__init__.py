"""Rewards, by the name that users type."""

from avatar.rewards.accuracy import Accuracy, is_correct
from avatar.rewards.base import REWARDS, Reward, Scored, score
from avatar.rewards.format import Format, is_well_formed

__all__ = ["REWARDS", "Accuracy", "Format", "Reward", "Scored", "is_correct", "is_well_formed", "score"]
