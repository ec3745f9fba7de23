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
from avatar.models.layout import (
    MediaTokens,
    Segment,
    clip_segment,
    even_step_positions,
    picture_positions,
    step_positions,
)
from avatar.types import Clip

MOST_PIXELS = 2**40  # of a frame: no limit


@dataclass(frozen=True)
class EncodedClip:
    """What is kept of a clip once the towers have seen it.

    Attributes:
        segment: Its tokens and their positions.
        features: [tokens, H] of ``video``, ``image`` or ``audio``, by the token whose place they take; only those that
            the clip has.
    """

    segment: Segment
    features: dict[str, Tensor]


def content_key(clip: Clip) -> tuple[str, str, bool]:
    """What a clip is told apart by: its key, what it is shown as, and whether its sound is heard."""
    return clip.key, clip.kind, clip.audio is not None


class ClipEncoder:
    """The vision and audio towers of a thinker, with their processor and a bounded store of what they gave.

    Frames whose sides are multiples of a video token's, as the data give them, go into the tower as they are; others
    are first scaled to the nearest multiple.

    Args:
        model: The thinker.
        processor: Its processor.
        cache_mb: Bound of the store, in MB.

    Attributes:
        counts: How many clips have gone through a tower as ``video``, ``image`` and ``audio``, each time counted; a
            video with sound counts as both.
    """

    def __init__(self, model: Qwen2_5OmniThinkerForConditionalGeneration, processor: Any, cache_mb: int) -> None:
        self.model, self.processor = model, processor
        self.cache = ByteCache(cache_mb * 2**20)
        self.counts = {"video": 0, "image": 0, "audio": 0}
        config, ids = model.config, processor.tokenizer.convert_tokens_to_ids
        self.tokens = MediaTokens(
            pieces={kind: getattr(config, f"{kind}_token_id") for kind in self.counts},
            picture=(ids(processor.vision_bos_token), ids(processor.vision_eos_token)),
            sound=(ids(processor.audio_bos_token), ids(processor.audio_eos_token)),
        )

    def __call__(self, clips: Sequence[Clip], frozen: bool) -> list[EncodedClip]:
        """Encode ``clips``, each distinct one once: those of one key share their features and the graph behind them.

        While the towers learn, all go through each of them in one pass; while they do not, each alone.

        Args:
            clips: The clips; those of one key are the same clip.
            frozen: Whether the towers take no gradients: only then are encoded clips kept and taken from the store.

        Returns:
            One for each of ``clips``, in their order.

        Raises:
            DataError: A clip has nothing to encode, too little sound for one token, or times that do not fit its
                frames.
        """
        distinct = {content_key(clip): clip for clip in clips}
        if frozen:
            encoded = [self._kept(clip) for clip in distinct.values()]
        else:
            self.cache = ByteCache(self.cache.max_bytes)  # what was held may be others' as well
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
            self.cache.put(key, found, sum(f.numel() * f.element_size() for f in found.features.values()))
        return found

    def _run_towers(self, clips: Sequence[Clip]) -> list[EncodedClip]:
        inputs = [self._process(clip) for clip in clips]
        pictures = iter(self._look([i for i in inputs if "pixels" in i]))
        sounds = iter(self._listen([i for i in inputs if "mel" in i]))
        encoded = []
        for clip, given in zip(clips, inputs, strict=True):
            picture = {clip.kind: next(pictures)} if "pixels" in given else {}
            sound = {"audio": next(sounds)} if "mel" in given else {}
            self.counts.update({kind: self.counts[kind] + 1 for kind in picture | sound})
            encoded.append(EncodedClip(self._segment(clip, given), picture | sound))
        return encoded

    # -- tokens and positions ----------------------------------------------------------------------------------------

    def _segment(self, clip: Clip, inputs: dict[str, Tensor]) -> Segment:
        config = self.model.config
        picture = torch.zeros(3, 0, dtype=torch.long)
        if "grid" in inputs:
            steps, rows, columns = inputs["grid"][0].tolist()
            merge = config.vision_config.spatial_merge_size
            picture = picture_positions(self._steps(clip, steps), rows // merge, columns // merge)
        num_audio = self._num_audio(inputs["mask"]) if "mask" in inputs else 0
        per_chunk = int(config.position_id_per_seconds * config.seconds_per_chunk)
        return clip_segment(clip.kind, picture, num_audio, self.tokens, per_chunk)

    def _steps(self, clip: Clip, steps: int) -> Tensor:
        """[S] positions in time; a step is where its first frame is."""
        per_second = self.model.config.position_id_per_seconds
        per_step = self.processor.video_processor.temporal_patch_size
        if clip.image:
            return torch.zeros(1, dtype=torch.long)
        if clip.times is None:
            return even_step_positions(steps, per_step / clip.fps, per_second)
        return step_positions(clip.times[::per_step], per_second)

    def _num_audio(self, mask: Tensor) -> int:
        """Tokens of a sound whose mel frames are marked."""
        num = self.model.model.audio_tower._get_feat_extract_output_lengths(mask.sum())[1]
        return int(num)

    # -- what goes into the towers -----------------------------------------------------------------------------------

    def _process(self, clip: Clip) -> dict[str, Tensor]:
        """``pixels`` [patches, D] with their ``grid`` [1, 3], and ``mel`` [1, bins, frames] with its ``mask``."""
        if clip.frames is None and clip.audio is None:
            raise DataError(f"{clip.key}: a clip needs frames, sound or both, but it has neither", "missing media")
        inputs: dict[str, Tensor] = {}
        if clip.frames is not None:
            _check_frames(clip, clip.frames)
            inputs |= self._pixels(clip.frames, clip.image)
        if clip.audio is not None:
            inputs |= self._mel(clip.key, clip.audio, clip.sample_rate)
        return inputs

    def _pixels(self, frames: Tensor, image: bool) -> dict[str, Tensor]:
        processor = self.processor.image_processor if image else self.processor.video_processor
        factor = processor.patch_size * processor.merge_size
        kwargs = {
            "do_resize": any(side % factor for side in frames.shape[-2:]),
            "size": {"shortest_edge": factor**2, "longest_edge": MOST_PIXELS},
            "return_tensors": "pt",
        }
        if image:
            made = processor(images=[frames[0]], **kwargs)
            return {"pixels": made["pixel_values"], "grid": made["image_grid_thw"]}
        made = processor(videos=[frames], do_sample_frames=False, cap_pixels_per_frame=False, **kwargs)
        return {"pixels": made["pixel_values_videos"], "grid": made["video_grid_thw"]}

    def _mel(self, key: str, audio: Tensor, sample_rate: int) -> dict[str, Tensor]:
        hop = self.processor.feature_extractor.hop_length
        if len(audio) <= 2 * hop:  # three mel frames make the first token
            raise DataError(
                f"{key}: a sound needs more than {2 * hop} samples for its first token, but it has {len(audio)}; "
                "leave it out, or take a longer clip",
                "sound too short" if len(audio) else "no sound",
            )
        # The whole sound and no more: chunk_length would pad it to 300 s. One hop of silence is added, which is masked:
        # the window of the last frame reaches past the end, and would see the sound reflected there instead.
        length = -(-len(audio) // hop) * hop + hop
        with torch.autocast("cpu", enabled=False):  # the extractor is written for fp32
            made = self.processor.feature_extractor(
                [audio.numpy()],
                padding="max_length",
                max_length=length,
                truncation=False,
                sampling_rate=sample_rate,
                return_attention_mask=True,
                return_tensors="pt",
            )
        if not self._num_audio(made["attention_mask"]):
            raise DataError(f"{key}: the clip has sound, but no audio token came of it", "no sound")
        return {"mel": made["input_features"], "mask": made["attention_mask"]}

    # -- the towers --------------------------------------------------------------------------------------------------

    def _look(self, inputs: list[dict[str, Tensor]]) -> list[Tensor]:
        """[tokens, H] of each picture; to the tower an image is a video of one step."""
        if not inputs:
            return []
        device, dtype = self.model.device, self.model.dtype
        pixels = torch.cat([i["pixels"] for i in inputs]).to(device, dtype)
        grids = torch.cat([i["grid"] for i in inputs]).to(device)
        features = self.model.get_video_features(pixels, grids).pooler_output
        features = torch.cat(list(features)) if isinstance(features, (tuple, list)) else features
        merge = self.model.config.vision_config.spatial_merge_size**2
        return list(features.split((grids.prod(-1) // merge).tolist()))

    def _listen(self, inputs: list[dict[str, Tensor]]) -> list[Tensor]:
        """[tokens, H] of each sound."""
        if not inputs:
            return []
        longest = max(i["mel"].shape[-1] for i in inputs)

        def stack(name: str) -> Tensor:
            return torch.cat([nn.functional.pad(i[name], (0, longest - i[name].shape[-1])) for i in inputs])

        mel, mask = stack("mel").to(self.model.device, self.model.dtype), stack("mask").to(self.model.device)
        features = self.model.get_audio_features(mel, feature_attention_mask=mask).last_hidden_state
        lengths = [self._num_audio(i["mask"]) for i in inputs]
        return list(features.reshape(-1, features.shape[-1]).split(lengths))


def _check_frames(clip: Clip, frames: Tensor) -> None:
    if not len(frames):
        raise DataError(f"{clip.key}: the clip has a picture, but no frames", "no picture")
    if clip.image and (len(frames) > 1 or clip.audio is not None):
        sound = "no sound" if clip.audio is None else "sound"
        raise DataError(f"{clip.key}: an image is one frame without sound, but this has {len(frames)} and {sound}")
    if clip.times is None or clip.image:
        return
    if clip.times.shape != frames.shape[:1] or not (clip.times.diff(prepend=torch.zeros(1)) >= 0).all():
        raise DataError(
            f"{clip.key}: times must give each of {len(frames)} frames its second, from 0 on and in order, "
            f"but they are {clip.times.tolist()}"
        )
