"""Which container a file is, by its first bytes; a name is only asked where these do not say."""

from __future__ import annotations

from avatar.data.pack.shapes import EXTENSIONS
from avatar.errors import DataError

HEAD = 512  # bytes that are looked at
_MP4 = ("mp4", "m4v", "mov", "m4a", "3gp")
_OGG = ("ogg", "ogv", "opus")
_BRANDS = {b"qt  ": "mov", b"M4A ": "m4a", b"M4V ": "m4v", b"3gp4": "3gp", b"3gp5": "3gp"}
_STARTS: tuple[tuple[bytes, tuple[str, ...]], ...] = (
    (b"\x1aE\xdf\xa3", ("mkv", "webm")),
    (b"FLV", ("flv",)),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ("wmv",)),
    (b"OggS", _OGG),
    (b"fLaC", ("flac",)),
    (b"ID3", ("mp3",)),
    (b"GIF8", ("gif",)),
    (b"\xff\xd8\xff", ("jpg", "jpeg")),
    (b"\x89PNG", ("png",)),
    (b"II*\0", ("tif", "tiff")),
    (b"MM\0*", ("tif", "tiff")),
    (b"\0\0\1\xba", ("mpg", "mpeg")),
    (b"\0\0\1\xb3", ("mpg", "mpeg")),
)
_RIFF = {b"AVI ": "avi", b"WAVE": "wav", b"WEBP": "webp"}
KNOWN = tuple(extension for extensions in EXTENSIONS.values() for extension in extensions)


def extension_of(head: bytes, name: str) -> str:
    """The extension that a file gets in a shard: what its first bytes say it is, else what its name says.

    Args:
        head: Its first ``HEAD`` bytes, or all where it is shorter.
        name: What it is called.

    Raises:
        DataError: Neither is one of the containers that may be in a shard.
    """
    given = name.rpartition(".")[2].lower() if "." in name else ""
    found = _sniff(head)
    if found:
        return given if given in found else found[0]
    if given in KNOWN:
        return given
    raise DataError(
        f"{name!r} is no video, image or audio file by its content, and its name does not say so either; known: "
        f"{', '.join(KNOWN)}. Convert it to one of these",
        "not allowed",
    )


def _sniff(head: bytes) -> tuple[str, ...]:
    """All extensions that such a file may have, the likeliest first; none where it is not known."""
    if head[4:8] == b"ftyp":
        brand = _BRANDS.get(head[8:12], "mp4")
        return (brand, *_MP4) if head[8:12] not in (b"avif", b"heic", b"mif1") else ()
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return ("mov", *_MP4)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] in _RIFF:
        return (_RIFF[head[8:12]],)
    if head[:1] == b"G" and head[188:189] == b"G":
        return ("ts",)
    for start, extensions in _STARTS:
        if head.startswith(start):
            return _by_codec(head, extensions)
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # after JPEG, which begins like it
        return ("aac",) if head[1] & 0xF6 == 0xF0 else ("mp3",)
    return ("bmp",) if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" else ()


def _by_codec(head: bytes, extensions: tuple[str, ...]) -> tuple[str, ...]:
    if extensions[0] == "mkv" and b"webm" in head[:64]:
        return ("webm", "mkv")
    if extensions == _OGG and b"OpusHead" in head:
        return ("opus", "ogg")
    if extensions == _OGG and b"theora" in head:
        return ("ogv", "ogg")
    return extensions
