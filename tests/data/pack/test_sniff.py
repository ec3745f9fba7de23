"""A file's extension in a shard says what it is, whatever it was called."""

import shutil
import subprocess

import pytest

from avatar.data.members import EXTENSIONS as ALLOWED
from avatar.data.pack.shapes import EXTENSIONS
from avatar.data.pack.sniff import HEAD, extension_of
from avatar.errors import DataError

SOURCES = {"video": "testsrc=size=64x48:rate=8:duration=1", "audio": "sine=frequency=440:duration=1"}
EXTRA = {
    "mpg": ["-r", "25"],
    "mpeg": ["-r", "25"],
    "flv": ["-c:v", "flv"],
    "3gp": ["-c:v", "mpeg4"],
    "opus": ["-c:a", "libopus", "-ar", "48000"],
}
MADE = [extension for known in EXTENSIONS.values() for extension in known]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")
@pytest.mark.parametrize("extension", MADE)
def test_what_ffmpeg_writes_is_known_by_its_content(tmp_path, extension):
    kind = next(kind for kind, known in EXTENSIONS.items() if extension in known)
    one = ["-frames:v", "1", "-update", "1"] if kind == "image" and extension != "gif" else []
    source = SOURCES["audio" if kind == "audio" else "video"]
    path = tmp_path / f"made.{extension}"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, *one, *EXTRA.get(extension, []), str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip(f"this ffmpeg cannot write {extension}")
    head = path.read_bytes()[:HEAD]
    assert extension_of(head, f"x.{extension.upper()}") == extension  # among those that fit, the name's own
    found = extension_of(head, "x.txt")  # the name does not say
    assert extension_of(head, f"x.{found}") == found
    assert extension_of(head, "x.png" if extension != "png" else "x.mp4") == found  # the name lies


def test_every_extension_that_is_given_may_be_in_a_shard():
    assert set(MADE) <= ALLOWED


def test_where_the_content_does_not_say_the_name_does():
    assert extension_of(b"no such thing", "a/b.MP4") == "mp4"
    assert extension_of(b"", "b.wav") == "wav"


@pytest.mark.parametrize("name", ["x", "x.pkl", "x.pth", "x.mp4.pyd", "mp4", "x.txt", "x.json"])
def test_what_neither_says_may_not_be_in_a_shard(name):
    with pytest.raises(DataError, match="no video, image or audio file by its content") as caught:
        extension_of(b"\x80\x04\x95pickled", name)
    assert caught.value.cause == "not allowed"


def test_an_avif_picture_is_no_mp4():
    with pytest.raises(DataError, match="Convert it"):
        extension_of(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "x.avif")
