"""Rewards, by the name that users type."""

from avatar.rewards.accuracy import Accuracy, accuracy
from avatar.rewards.base import REWARDS, Reward, Score, Scored, leaves_of, rehearse, score
from avatar.rewards.consistency import SelfConsistency
from avatar.rewards.format import Format, is_well_formed
from avatar.rewards.judge import Judge
from avatar.rewards.weighted import Weighted

__all__ = [
    "REWARDS",
    "Accuracy",
    "Format",
    "Judge",
    "Reward",
    "Score",
    "Scored",
    "SelfConsistency",
    "Weighted",
    "accuracy",
    "is_well_formed",
    "leaves_of",
    "rehearse",
    "score",
]
