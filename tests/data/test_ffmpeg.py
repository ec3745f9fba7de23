import pytest

from avatar.data import media
from avatar.data.encode import encode_mp4
from avatar.data.media import decode_medium, probe, require_ffmpeg
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.errors import ConfigError


@pytest.fixture
def without_ffmpeg(monkeypatch):
    """As torchcodec fails where it finds no library; a machine without FFmpeg cannot be had inside a test."""

    def missing():
        raise RuntimeError("Could not load libtorchcodec. Likely causes: ...")

    require_ffmpeg.cache_clear()
    monkeypatch.setattr(media, "Encoder", missing)
    yield
    require_ffmpeg.cache_clear()


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_without_ffmpeg_the_first_clip_says_what_to_install(without_ffmpeg, kind):
    for look in (
        lambda: decode_medium(b"anything", Medium(kind, "x"), True, ClipRule(), "a file", "key"),
        lambda: probe(b"anything", kind),
        lambda: encode_mp4(None, 8, None),
    ):
        with pytest.raises(ConfigError, match="apt-get install ffmpeg"):
            look()


def test_images_need_no_ffmpeg(without_ffmpeg):
    from data.media_files import picture

    assert decode_medium(picture(), Medium("image", "x"), True, ClipRule(), "a file", "key").image


def test_with_ffmpeg_nothing_is_said():
    require_ffmpeg()
    assert require_ffmpeg.cache_info().currsize == 1
