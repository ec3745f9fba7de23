"""Teaching a tower to see and hear before the language model listens to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avatar.errors import ConfigError, DataError
from avatar.models.base import ModelAdapter
from avatar.types import Prompt


class Perception(nn.Module):
    """Linear probes that name what lies under each media token; thrown away once the towers have learnt it.

    A released checkpoint comes with towers that perceive. A random one does not, and teaching it through the language
    model alone takes far longer. Records carry one class per token in ``metadata``: ``video_labels``, ``audio_labels``.

    Args:
        steps: Number of training steps; the cold start proper begins after them.
        hidden_size: Of the tower features.
        num_video_classes: Classes of a video token.
        num_audio_classes: Classes of an audio token.
    """

    def __init__(self, steps: int, hidden_size: int, num_video_classes: int, num_audio_classes: int) -> None:
        super().__init__()
        if steps < 1:
            raise ConfigError(f"perception.steps must be at least 1, got {steps}; leave perception out for none")
        self.steps = steps
        self.video = nn.Linear(hidden_size, num_video_classes)
        self.audio = nn.Linear(hidden_size, num_audio_classes)

    def forward(self, adapter: ModelAdapter, prompts: list[Prompt]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of both probes over the tokens of a batch, and the share each gets right."""
        features = adapter.tower_features([clip for prompt in prompts for clip in prompt.clips])
        loss = torch.zeros((), device=self.video.weight.device)
        metrics = {}
        for name, probe in (("video", self.video), ("audio", self.audio)):
            nothing = probe.weight.new_zeros(0, probe.in_features)
            seen = torch.cat([nothing, *(f[name].float() for f in features if name in f)])
            logits = probe(seen)  # [tokens, classes]
            labels = torch.tensor([c for p in prompts for c in _labels(p, f"{name}_labels")], device=logits.device)
            if len(labels) != len(logits):
                raise DataError(f"{prompts[0].key}: {len(labels)} {name}_labels in the batch for {len(logits)} tokens")
            loss = loss + nn.functional.cross_entropy(logits, labels)
            metrics[f"perception/{name}"] = (logits.argmax(-1) == labels).float().mean()
        return loss, metrics


def _labels(prompt: Prompt, name: str) -> list[int]:
    if name not in prompt.metadata:
        raise DataError(f"{prompt.key}: metadata has no {name!r}, which teaching the towers needs")
    labels: list[int] = prompt.metadata[name]
    return labels
