import pytest

from avatar.data.modalities import limit_media
from avatar.data.schema import Medium, Record

FILM, SOUND, PICTURE = Medium("video", "v.mp4", 1.0, 2.0), Medium("audio", "s.mp3"), Medium("image", "p.png")
HEARD = Medium("audio", "v.mp4", 1.0, 2.0)


@pytest.mark.parametrize(
    ("modalities", "with_sound", "without"),
    [
        ("both", [PICTURE, FILM, SOUND], [PICTURE, FILM, SOUND]),
        ("video", [PICTURE, FILM], [PICTURE, FILM]),
        ("audio", [HEARD, SOUND], [SOUND]),  # a film that is not heard gives no sound
        ("none", [], []),
    ],
)
def test_what_is_left_of_the_media(modalities, with_sound, without):
    for use_audio, expected in ((True, with_sound), (False, without)):
        record = Record("?", media=[PICTURE, FILM, SOUND], use_audio_in_video=use_audio)
        left = limit_media(record, modalities)
        assert left.media == expected
        assert left.use_audio_in_video is (use_audio and modalities == "both")


@pytest.mark.parametrize(
    ("modalities", "shown"),
    [
        ("both", "image video audio"),
        ("video", "image video"),
        ("audio", "audio audio"),
        ("none", ""),
    ],
)
def test_the_chat_stands_for_what_is_left_in_the_same_places(modalities, shown):
    text = {"type": "text", "text": "and"}
    content = [text, {"type": "image"}, text, {"type": "video"}, {"type": "audio"}, text]
    messages = [{"role": "system", "content": "Look."}, {"role": "user", "content": content}]
    record = Record(messages=messages, media=[PICTURE, FILM, SOUND], use_audio_in_video=True)
    left = limit_media(record, modalities)
    parts = left.messages[1]["content"]
    assert [part["type"] for part in parts if part["type"] != "text"] == shown.split()
    assert [part for part in parts if part["type"] == "text"] == [text] * 3
    assert left.messages[0] == messages[0]
    assert [medium.kind for medium in left.media] == shown.split()
