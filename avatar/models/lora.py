"""Low-rank adaptation (Hu et al., 2021, arXiv:2106.09685) through peft: small matrices learn beside frozen weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from avatar.errors import ConfigError

TEXT_LAYERS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


@dataclass(frozen=True)
class LoRA:
    """What is trained in the place of the weights: W x becomes W x + (alpha / r) B A x, where B starts at 0.

    A and B are held in float32 whatever the model's own dtype is. There is no dropout: generation and scoring must give
    a token the same log-prob.

    Attributes:
        r: Rank: A is [r, inputs], B is [outputs, r].
        alpha: Numerator of the scale.
        targets: The layers: a regular expression for their whole path, a list of ends of paths, or ``all-linear``
            (towers and their projections too, all but the head). The default is every linear layer of the text model.

    Raises:
        ConfigError: A value is out of bounds, or ``targets`` is empty or no regular expression.
    """

    r: int = 8
    alpha: int = 32
    targets: str | list[str] = TEXT_LAYERS

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ConfigError(f"policy.lora.r must be at least 1, got {self.r}")
        if self.alpha <= 0:
            raise ConfigError(f"policy.lora.alpha must be above 0, got {self.alpha}")
        if not self.targets:
            raise ConfigError("policy.lora.targets is empty: name at least one layer, or leave it out")
        try:
            re.compile(self.targets if isinstance(self.targets, str) else "")
        except re.error as error:
            raise ConfigError(f"policy.lora.targets is no regular expression: {self.targets!r} ({error})") from None


def inject(model: nn.Module, lora: LoRA) -> None:
    """Put A and B beside the targets, in place; they alone take gradients from then on.

    A is drawn on the CPU from a stream of its own, which follows from the global seed; the global stream stays where
    it is.

    Args:
        model: A model of transformers.
        lora: The settings.

    Raises:
        ConfigError: The targets match nothing, or a layer that cannot be adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes a second, and most runs go without

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=targets)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(torch.initial_seed() ^ 0x10AA)
            inject_adapter_in_model(config, model)
    except ValueError as error:
        lines = str(error).splitlines()
        reason = lines[0] + (lines[-1] if len(lines) > 1 else "")  # between them lies the layer, printed
        some = ", ".join(names[:: max(1, len(names) // 6)])
        raise ConfigError(
            f"policy.lora.targets cannot be {lora.targets!r}: {reason} Linear layers are, for example, {some}."
        ) from None
    for name, parameter in model.named_parameters():
        if is_lora(name):
            parameter.data = parameter.data.float()  # peft has given them the dtype of the layer


def lora_layers(model: nn.Module) -> dict[str, Any]:
    """The adapted layers, by the names that they have in the model without adapter."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}


def is_lora(name: str) -> bool:
    """Whether a parameter of this name was added by :func:`inject`."""
    return any(part.startswith("lora_") for part in name.split("."))


def base_name(name: str) -> str:
    """What a parameter is called in the model without adapter."""
    return name.replace(".base_layer.", ".")


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Inside, the model is what it was before :func:`inject`; after it all is as it was, gradient flags too."""
    layers = [(layer, layer.disable_adapters) for layer in lora_layers(model).values()]
    flags = [(parameter, parameter.requires_grad) for layer, _ in layers for parameter in layer.parameters()]
    try:
        for layer, _ in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer, was_off in layers:
            layer.enable_adapters(not was_off)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@torch.no_grad()
def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """W + (alpha / r) B A under the names of the model without adapter, which stays as it is.

    The sum is taken in float32 and rounded to the dtype of W.
    """
    weights = {base_name(name): weight for name, weight in model.state_dict().items() if not is_lora(name)}
    for name, layer in lora_layers(model).items():
        weight, delta = weights[f"{name}.weight"], layer.get_delta_weight("default")
        weights[f"{name}.weight"] = (weight + delta).to(weight.dtype)
    return weights
