"""From clips to what the towers make of them: once per clip in a batch, and for good while the towers are frozen."""

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
from avatar.models.layout import Segment, bracket, interleave, video_positions
from avatar.types import Clip


@dataclass(frozen=True)
class EncodedClip:
    """What is kept of a clip once the towers have seen it.

    Attributes:
        segment: Its tokens and their positions.
        video: [video tokens, H]; none for sound alone.
        audio: [audio tokens, H]; none for a silent clip.
    """

    segment: Segment
    video: Tensor
    audio: Tensor


def content_key(clip: Clip) -> tuple[str, bool, bool]:
    """What a clip is told apart by: its key, and whether its frames and its sound are shown."""
    return clip.key, clip.frames is not None, clip.audio is not None


class ClipEncoder:
    """The vision and audio towers of a thinker, with their processor and a bounded store of what they gave.

    Args:
        model: The thinker.
        processor: Its processor.
        limits: Pixels of a frame, and how much of the encoded clips to hold.

    Attributes:
        counts: How many clips have gone through the tower of ``video`` and that of ``audio``, each time counted.
    """

    def __init__(self, model: Qwen2_5OmniThinkerForConditionalGeneration, processor: Any, limits: MediaLimits) -> None:
        self.model, self.processor, self.limits = model, processor, limits
        self.cache = ByteCache(limits.cache_mb * 2**20)
        self.counts = {"video": 0, "audio": 0}

    def __call__(self, clips: Sequence[Clip], frozen: bool) -> list[EncodedClip]:
        """Encode ``clips``, each distinct one once: those of one key share their features and the graph behind them.

        While the towers learn, all go through each of them in one pass; while they do not, each alone.

        Args:
            clips: The clips; those of one key are the same clip.
            frozen: Whether the towers take no gradients: only then are encoded clips kept and taken from the store.

        Returns:
            One for each of ``clips``, in their order.

        Raises:
            DataError: A clip has neither frames nor sound, or too little sound for one token.
        """
        distinct = {content_key(clip): clip for clip in clips}
        if frozen:
            encoded = [self._kept(clip) for clip in distinct.values()]
        else:
            self.cache.clear()
            encoded = self._run_towers(list(distinct.values()))
        found = dict(zip(distinct, encoded, strict=True))
        return [found[content_key(clip)] for clip in clips]

    def _kept(self, clip: Clip) -> EncodedClip:
        """From the store, or alone through the towers: in company its last bits would depend on what was held."""
        key = content_key(clip)
        found: EncodedClip | None = self.cache.get(key)
        if found is None:
            with torch.no_grad():
                found = self._run_towers([clip])[0]
            size = (found.video.numel() + found.audio.numel()) * found.video.element_size()
            self.cache.put(key, found, size)
        return found

    def _run_towers(self, clips: Sequence[Clip]) -> list[EncodedClip]:
        inputs = [self._process(clip) for clip in clips]
        video = iter(self._video_features([i for i in inputs if "pixel_values_videos" in i]))
        audio = iter(self._audio_features([i for i in inputs if "input_features" in i]))
        nothing = torch.zeros(
            0, self.model.config.text_config.hidden_size, dtype=self.model.dtype, device=self.model.device
        )
        return [
            EncodedClip(
                segment=self._segment(i),
                video=next(video) if "pixel_values_videos" in i else nothing,
                audio=next(audio) if "input_features" in i else nothing,
            )
            for i in inputs
        ]

    def _segment(self, inputs: dict[str, Tensor]) -> Segment:
        """Tokens as the processor wrote them; positions from the size of the video and the number of audio tokens."""
        config, ids = self.model.config, inputs["input_ids"][0]
        num_audio = int((ids == config.audio_token_id).sum())
        media = torch.arange(num_audio).expand(3, -1)
        has_video = "pixel_values_videos" in inputs
        if has_video:
            grid = inputs["video_grid_thw"][0].clone()
            grid[1:] //= config.vision_config.spatial_merge_size
            per_second = config.position_id_per_seconds
            video = video_positions(grid, float(inputs["video_second_per_grid"][0]), per_second)
            media = interleave(video, media, int(per_second * config.seconds_per_chunk))
        num_ends = 2 if has_video and num_audio else 1
        return Segment(ids, bracket(media, num_ends), "video" if has_video else "audio")

    def _process(self, clip: Clip) -> dict[str, Tensor]:
        """What the processor makes of a clip and its placeholder."""
        processor, config = self.processor, self.model.config
        text = processor.audio_bos_token + processor.audio_token + processor.audio_eos_token
        media: dict[str, Any] = {}
        if clip.audio is not None:
            media |= self._sound(clip.key, clip.audio, clip.sample_rate)
        if clip.frames is not None:
            text = processor.vision_bos_token + processor.video_token + processor.vision_eos_token
            size = {"shortest_edge": self.limits.min_pixels, "longest_edge": self.limits.max_pixels}
            media |= {
                "videos": [clip.frames],
                "videos_kwargs": {
                    "do_sample_frames": False,
                    "fps": clip.fps,
                    "cap_pixels_per_frame": True,
                    "size": size,
                },
                "seconds_per_chunk": float(config.seconds_per_chunk),
                "position_id_per_seconds": config.position_id_per_seconds,
            }
            if clip.audio is not None:
                media |= {"load_audio_from_video": True, "audio_from_video_indices": [0]}
        if not media:
            raise DataError(f"{clip.key}: a clip needs frames, sound or both, but it has neither")
        with torch.autocast("cpu", enabled=False):  # the extractor of mel frames is written for fp32
            return dict(processor(text=[text], return_tensors="pt", **media))

    def _sound(self, key: str, audio: Tensor, sample_rate: int) -> dict[str, Any]:
        hop = self.processor.feature_extractor.hop_length
        if len(audio) <= 2 * hop:  # three mel frames make the first token
            raise DataError(
                f"{key}: a sound needs more than {2 * hop} samples for its first token, but it has {len(audio)}; "
                "leave it out, or take a longer clip"
            )
        # The whole sound and no more: chunk_length would pad it to 300 s. One hop of silence is added, which is masked:
        # the window of the last frame reaches past the end, and would see the sound reflected there instead.
        length = -(-len(audio) // hop) * hop + hop
        kwargs = {"max_length": length, "truncation": False, "sampling_rate": sample_rate}
        return {"audio": [audio.numpy()], "audio_kwargs": kwargs}

    def _video_features(self, inputs: list[dict[str, Tensor]]) -> list[Tensor]:
        if not inputs:
            return []
        self.counts["video"] += len(inputs)
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
        self.counts["audio"] += len(inputs)
        longest = max(i["input_features"].shape[-1] for i in inputs)

        def stack(name: str) -> Tensor:
            return torch.cat([nn.functional.pad(i[name], (0, longest - i[name].shape[-1])) for i in inputs])

        mel = stack("input_features").to(self.model.device, self.model.dtype)
        mask = stack("feature_attention_mask").to(self.model.device)
        features = self.model.get_audio_features(mel, feature_attention_mask=mask).last_hidden_state
        lengths = [int((i["input_ids"] == self.model.config.audio_token_id).sum()) for i in inputs]
        return list(features.reshape(-1, features.shape[-1]).split(lengths))
