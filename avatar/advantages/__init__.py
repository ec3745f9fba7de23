"""Advantage estimators, by the name that users type."""

from avatar.advantages.base import ADVANTAGES, Advantage
from avatar.advantages.grpo import GRPO, group_normalized_advantage

__all__ = ["ADVANTAGES", "GRPO", "Advantage", "group_normalized_advantage"]
