"""From clips to what the towers make of them: once per clip while the towers are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from avatar.cache import ByteCache
from avatar.errors import DataError
from avatar.models.base import MediaLimits
from avatar.types import Clip


@dataclass(frozen=True)
class EncodedClip:
    """What is kept of a clip once the towers have seen it.

    Attributes:
        ids: The token ids that take the place of its placeholder.
        grid: [3], temporal patches, patch rows, patch columns.
        seconds_per_grid: Duration of one temporal patch.
        mel_frames: Number of mel frames of its sound; 0 for a silent clip.
        video: [video tokens, H].
        audio: [audio tokens, H].
    """

    ids: Tensor
    grid: Tensor
    seconds_per_grid: float
    mel_frames: int
    video: Tensor
    audio: Tensor


class ClipEncoder:
    """The vision and audio towers of a thinker, with their processor and a bounded store of what they gave.

    Args:
        model: The thinker.
        processor: Its processor.
        limits: Pixels of a frame, and how much of the encoded clips to hold.

    Attributes:
        num_calls: How often the towers have run.
    """

    def __init__(self, model: Qwen2_5OmniThinkerForConditionalGeneration, processor: Any, limits: MediaLimits) -> None:
        self.model, self.processor, self.limits = model, processor, limits
        self.cache = ByteCache(limits.cache_mb * 2**20)
        self.num_calls = 0

    def __call__(self, clips: Sequence[Clip], frozen: bool) -> list[EncodedClip]:
        """Encode ``clips``: all in one pass through each tower while they learn, each once and alone while they do not.

        Args:
            clips: The clips.
            frozen: Whether the towers take no gradients: only then are encoded clips kept and taken from the store.

        Raises:
            DataError: A clip has no frames.
        """
        if not frozen:
            self.cache.clear()
            return self._run_towers(clips)
        return [self._kept(clip) for clip in clips]

    def _kept(self, clip: Clip) -> EncodedClip:
        """From the store, or alone through the towers: in company its last bits would depend on what was held."""
        found: EncodedClip | None = self.cache.get(clip.key)
        if found is None:
            with torch.no_grad():
                found = self._run_towers([clip])[0]
            size = (found.video.numel() + found.audio.numel()) * found.video.element_size()
            self.cache.put(clip.key, found, size)
        return found

    def _run_towers(self, clips: Sequence[Clip]) -> list[EncodedClip]:
        if not clips:
            return []
        self.num_calls += 1
        inputs = [self._process(clip) for clip in clips]
        video = self._video_features(inputs)
        audio = iter(self._audio_features([i for i in inputs if "input_features" in i]))
        silent = video[0].new_zeros(0, video[0].shape[-1])
        return [
            EncodedClip(
                ids=i["input_ids"][0],
                grid=i["video_grid_thw"][0],
                seconds_per_grid=float(i["video_second_per_grid"][0]),
                mel_frames=int(i["feature_attention_mask"].sum()) if "input_features" in i else 0,
                video=v,
                audio=next(audio) if "input_features" in i else silent,
            )
            for i, v in zip(inputs, video, strict=True)
        ]

    def _process(self, clip: Clip) -> dict[str, Tensor]:
        if clip.frames is None:
            raise DataError(f"{clip.key}: a clip without frames is not supported yet")
        processor, config, limits = self.processor, self.model.config, self.limits
        size = {"shortest_edge": limits.min_pixels, "longest_edge": limits.max_pixels}
        sound: dict[str, Any] = {}
        if clip.audio is not None:
            hop = processor.feature_extractor.hop_length
            length = -(-len(clip.audio) // hop) * hop  # the whole clip and no more: chunk_length would pad to 300 s
            sound = {
                "audio": [clip.audio.numpy()],
                "load_audio_from_video": True,
                "audio_from_video_indices": [0],
                "audio_kwargs": {"max_length": length, "truncation": False, "sampling_rate": clip.sample_rate},
            }
        return dict(
            processor(
                text=[processor.vision_bos_token + processor.video_token + processor.vision_eos_token],
                videos=[clip.frames],
                videos_kwargs={"do_sample_frames": False, "fps": clip.fps, "cap_pixels_per_frame": True, "size": size},
                seconds_per_chunk=float(config.seconds_per_chunk),
                position_id_per_seconds=config.position_id_per_seconds,
                return_tensors="pt",
                **sound,
            )
        )

    def _video_features(self, inputs: list[dict[str, Tensor]]) -> list[Tensor]:
        device, dtype = self.model.device, self.model.dtype
        pixels = torch.cat([i["pixel_values_videos"] for i in inputs]).to(device, dtype)
        grids = torch.cat([i["video_grid_thw"] for i in inputs]).to(device)
        features = self.model.get_video_features(pixels, grids).pooler_output
        features = torch.cat(list(features)) if isinstance(features, (tuple, list)) else features
        merge = self.model.config.vision_config.spatial_merge_size**2
        return list(features.split((grids.prod(-1) // merge).tolist()))

    def _audio_features(self, inputs: list[dict[str, Tensor]]) -> list[Tensor]:
        if not inputs:
            return []
        longest = max(i["input_features"].shape[-1] for i in inputs)

        def stack(name: str) -> Tensor:
            return torch.cat([nn.functional.pad(i[name], (0, longest - i[name].shape[-1])) for i in inputs])

        mel = stack("input_features").to(self.model.device, self.model.dtype)
        mask = stack("feature_attention_mask").to(self.model.device)
        features = self.model.get_audio_features(mel, feature_attention_mask=mask).last_hidden_state
        lengths = [int((i["input_ids"] == self.model.config.audio_token_id).sum()) for i in inputs]
        return list(features.reshape(-1, features.shape[-1]).split(lengths))
