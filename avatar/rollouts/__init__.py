"""Rollout engines, by the name that users type."""

from avatar.rollouts.base import ENGINES, RolloutEngine
from avatar.rollouts.hf import HFEngine

__all__ = ["ENGINES", "HFEngine", "RolloutEngine"]
