"""What the first bytes and the boxes of a media file say, read before any library believes them."""

from __future__ import annotations

from collections.abc import Iterator

_BOXES = (
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"free", b"skip", b"wide", b"uuid", b"sidx", b"udta", b"meta",
    b"emsg", b"pdin", b"prft",
)  # fmt: skip
_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
_COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # where in the box its number of samples lies
_STILLS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_PLAYLISTS = (b"#EXTM3U", b"ffconcat")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ENDLESS = 0x7FFF_F000  # sizes from here on stand in what was written to a pipe, whose end was not known


def still_format(payload: bytes) -> str | None:
    """Which format of still pictures the file begins like; None if none. A GIF may move."""
    if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in _STILLS.items() if payload.startswith(magic)), None)


def film_format(payload: bytes) -> str | None:
    """Which container of films the file begins like; None if none that is well known."""
    if payload[4:8] == b"ftyp" and payload[8:12] not in _STILL_BRANDS:
        return "MP4"
    if payload[:4] == _EBML:
        return "Matroska or WebM"
    return "AVI" if payload[:4] == b"RIFF" and payload[8:12] == b"AVI " else None


def is_playlist(payload: bytes) -> bool:
    """Whether the file names other files to open in its place."""
    return payload.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLISTS)


def is_cut_short(payload: bytes) -> bool:
    """Whether an MP4, MOV, WAV, AVI, MKV or WebM is shorter than it says; of other containers nothing is known.

    A file whose index comes first decodes when it is cut, to fewer frames. Counting them does not tell: a clip trimmed
    by an edit list has fewer than its index as well.
    """
    if payload[:4] == b"RIFF" and payload[8:12] in (b"WAVE", b"AVI "):
        size = int.from_bytes(payload[4:8], "little")
        return size < _ENDLESS and 8 + size > len(payload) + 1  # an odd size may lack its last, empty byte
    if payload[:4] == _EBML:
        return _is_cut_matroska(payload)
    at = 0
    for kind, _, end in _boxes(payload, 0, len(payload)):
        if kind not in _BOXES:
            return False
        at = end
    return at > len(payload)


def _is_cut_matroska(payload: bytes) -> bool:
    size, at = _vint(payload, 4)
    at += size or 0
    if payload[at : at + 4] != _SEGMENT:
        return at >= len(payload)
    size, at = _vint(payload, at + 4)
    return size is not None and at + size > len(payload)


def _vint(payload: bytes, at: int) -> tuple[int | None, int]:
    """An EBML number and where it ends; None is one that means "not known", as in a live recording."""
    first = payload[at] if at < len(payload) else 0
    length = 9 - first.bit_length()  # leading zeros say how many bytes follow
    value = int.from_bytes(payload[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), at + length


def most_samples(payload: bytes) -> int:
    """The largest number of frames or samples that a track of an MP4 claims; 0 for any other file.

    A decoder makes room for as many as are claimed. Each takes at least a byte of the file, so a claim of more than
    there are bytes is a lie.
    """
    most, parents = 0, [(0, len(payload))]
    while parents:
        for kind, at, end in _boxes(payload, *parents.pop()):
            if kind in _PARENTS:
                parents.append((at, min(end, len(payload))))
            elif kind in _COUNTS:
                number = at + _COUNTS[kind]
                most = max(most, int.from_bytes(payload[number : number + 4], "big"))
    return most


def _boxes(payload: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin of content, end) of each box; an end may lie beyond the file. Ends at what is no box."""
    at = start
    while at + 8 <= stop:
        size, kind, head = int.from_bytes(payload[at : at + 4], "big"), payload[at + 4 : at + 8], 8
        if size == 1:  # the size is a long one, after the kind
            size, head = int.from_bytes(payload[at + 8 : at + 16], "big"), 16
        if size < head:  # 0 reaches to the end of the file
            return
        yield kind, at + head, at + size
        at += size
