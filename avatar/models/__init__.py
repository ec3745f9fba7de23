"""Adapters to Hugging Face models."""

from avatar.models.base import MODELS, ModelAdapter, Prefix, load_adapter, load_skeleton, pack_skeleton
from avatar.models.lora import LoRA
from avatar.models.omni import OmniAdapter

__all__ = [
    "MODELS",
    "LoRA",
    "ModelAdapter",
    "OmniAdapter",
    "Prefix",
    "load_adapter",
    "load_skeleton",
    "pack_skeleton",
]
