import pytest

from avatar.data import media
from avatar.errors import ConfigError


def test_without_ffmpeg_the_first_clip_says_what_to_install(monkeypatch):
    """As torchcodec fails where it finds no library; a machine without FFmpeg cannot be had inside a test."""

    def missing():
        raise RuntimeError("Could not load libtorchcodec. Likely causes: ...")

    media.require_ffmpeg.cache_clear()
    monkeypatch.setattr(media, "Encoder", missing)
    with pytest.raises(ConfigError, match="apt-get install ffmpeg"):
        media.decode_clip(b"anything", "clip")
    media.require_ffmpeg.cache_clear()


def test_with_ffmpeg_nothing_is_said():
    media.require_ffmpeg()
    assert media.require_ffmpeg.cache_info().currsize == 1
