"""How clips are decoded: which frames, how large, how much sound, within which bounds."""

from __future__ import annotations

from dataclasses import dataclass

from avatar.errors import ConfigError

FACTOR = 28  # height and width of a frame are multiples of it: a patch of 14 pixels, two patches merged
SAMPLE_RATE = 16_000  # Hz, what the audio tower was trained on
FOLDER_FPS = 3.0  # of a folder of frames, as those of TVQA in MVBench were taken
LEGACY_FPS = 2.0  # what transformers' processor assumes where it is told no rate, as in the authors' release


@dataclass(frozen=True)
class ClipRule:
    """How a file becomes a clip; a pure function of both, so that a clip decoded again is the same clip.

    Attributes:
        max_frames: Most frames of a video.
        fps: Frames a second to take, as far as ``max_frames`` allows; None spreads ``max_frames`` over the whole.
        min_pixels: Smaller frames are scaled up to this, or to ``max_pixels`` if that is less; the default is Qwen's
            for video.
        max_pixels: Larger frames are scaled down to this, each for itself; the default is Qwen's for video.
        legacy_fps: Positions take the frames to be ``LEGACY_FPS`` apart whatever their true times are, as the authors'
            release does.
        max_audio_seconds: A longer sound is an error, unless ``cut_audio`` is set: it must be cropped, or this raised.
            Nothing is cut off unseen.
        max_decoded_mb: Most memory that decoding one clip may take, in MB.
        time_limit: Seconds that decoding one clip may take.
        cut_audio: Of a longer sound take the first ``max_audio_seconds``, and note it; the reference processor cuts it
            off unseen.
        silent_videos: Show a film without a sound track silent where its record plays the sound, leave out the sound
            alone of such a film, and note it; else it is an error.
        late_ends: A crop that ends after its film ends with it, and that is noted; else it is an error.
    """

    max_frames: int = 16
    fps: float | None = None
    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 768 * 28 * 28
    legacy_fps: bool = False
    max_audio_seconds: float = 300.0
    max_decoded_mb: int = 4096
    time_limit: float = 60.0
    cut_audio: bool = False
    silent_videos: bool = False
    late_ends: bool = False

    def __post_init__(self) -> None:
        for name in ("max_frames", "min_pixels", "max_pixels", "max_decoded_mb"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("fps", "max_audio_seconds", "time_limit"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ConfigError(f"data.{name} must be above 0, got {getattr(self, name)}")
