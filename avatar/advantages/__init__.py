"""Advantage estimators and credit shapes, by the names that users type."""

from avatar.advantages.avatar import AVATAR
from avatar.advantages.base import ADVANTAGES, Advantage
from avatar.advantages.drgrpo import DrGRPO
from avatar.advantages.grpo import GRPO, group_normalized_advantage
from avatar.advantages.mixed import Mixed, vcrs_advantage
from avatar.advantages.rloo import RLOO
from avatar.advantages.shapes import (
    SHAPES,
    CreditShape,
    InverseParabolic,
    LinearDecay,
    LinearIncline,
    Parabolic,
    Uniform,
)
from avatar.advantages.tas import TAS

__all__ = [
    "ADVANTAGES",
    "AVATAR",
    "GRPO",
    "RLOO",
    "SHAPES",
    "TAS",
    "Advantage",
    "CreditShape",
    "DrGRPO",
    "InverseParabolic",
    "LinearDecay",
    "LinearIncline",
    "Mixed",
    "Parabolic",
    "Uniform",
    "group_normalized_advantage",
    "vcrs_advantage",
]
