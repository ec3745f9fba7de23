"""LightningModules: what is trained, what it is held to, and how."""

from avatar.modules.asking import Answerer
from avatar.modules.evaluation import EvaluationModule
from avatar.modules.policy import Policy
from avatar.modules.reference import Reference
from avatar.modules.rl import RLModule
from avatar.modules.sft import SFTModule

__all__ = ["Answerer", "EvaluationModule", "Policy", "RLModule", "Reference", "SFTModule"]
