"""What lies in a shard: names that may be there, tar headers, and the sidecar that saves reading those."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

from avatar.data.sources import open_seekable, read_if_there, size_of
from avatar.errors import DataError

Member = tuple[str, str, int, int]  # sample, extensions, offset of its bytes in the tar, how many they are

VIDEO = ("mp4", "m4v", "mov", "mkv", "webm", "avi", "flv", "ts", "mpg", "mpeg", "wmv", "3gp", "ogv", "gif")
IMAGE = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff")
AUDIO = ("wav", "flac", "mp3", "m4a", "aac", "ogg", "opus")
EXTENSIONS = frozenset(("json", "txt", *VIDEO, *IMAGE, *AUDIO))  # the last extension of a member's name is one of these
CAN_HOLD_CODE = frozenset(
    (
        *("pyd", "pyc", "pyo", "py", "so", "dll", "exe", "sh"),
        *("pth", "pt", "pkl", "pickle", "dill", "joblib", "bin", "ckpt"),
        *("npy", "npz", "cbor", "msg", "msgpack", "tb", "mp", "ten"),
    )
)
MAX_MEMBERS = 10_000_000
MAX_RECORD = 16 * 2**20  # bytes
MAX_NAME = 1024  # characters
MAX_SIDECAR = 2**27  # bytes
_MAX_HEADER = 2**20  # bytes; a long name or a pax header is read at once
_OUTSIDE = re.compile(r"^/|^[A-Za-z]:|\\|(?:^|/)\.\.(?:/|$)")
_CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"  # some turn text round
_REFUSED = re.compile(f"{_OUTSIDE.pattern}|{_CONTROL}")
_LINKS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}


def split_name(name: str, shard: str) -> tuple[str, str] | None:
    """(sample, extensions in lower case) of a member, as webdataset splits it: at the first dot of the file's name.

    None is passed over: a hidden file, one without an extension, and what a Mac adds.

    Raises:
        DataError: The name leads out of the folder, cannot be shown, or has an extension that is not allowed.
    """
    if len(name) > MAX_NAME or _REFUSED.search(name):
        raise _refused(shard, name[:MAX_NAME], _name_fault(name))
    folder, slash, file = name.rpartition("/")
    base, _, extensions = file.partition(".")
    if not base or file == base or name.startswith("__MACOSX/"):
        return None
    extensions = extensions.lower()
    last = extensions.rpartition(".")[2]
    if last not in EXTENSIONS:
        why = "can hold code" if last in CAN_HOLD_CODE else "is none of those of records and media"
        raise _refused(
            shard, name, f"has the extension {last!r}, which {why}; allowed: {', '.join(sorted(EXTENSIONS))}"
        )
    return folder + slash + base, extensions


def _name_fault(name: str) -> str:
    if len(name) > MAX_NAME:
        return f"has a name of {len(name):,} characters, more than {MAX_NAME:,}"
    if _OUTSIDE.search(name):
        return "has a name that leads out of its folder; use plain relative names"
    return "has control characters in its name, or bytes that are no UTF-8"


def is_record(extensions: str) -> bool:
    """Whether a member of these extensions holds a question."""
    return extensions == "json" or extensions.endswith(".json")


def _refused(shard: str, name: str, reason: str) -> DataError:
    return DataError(f"{shard}: member {name!r} {reason}. Write the shard again without it", "not allowed")


def unreadable(shard: str, error: object) -> DataError:
    """The error for a shard that is no whole tar."""
    reason = error.args[0] if isinstance(error, ValueError) and error.args else error
    return DataError(
        f"{shard}: the shard cannot be read ({reason}). It must be a plain, whole tar: write or copy it again",
        "broken shard",
    )


def list_members(shard: str) -> list[Member]:
    """The members of a shard that are not passed over: from its sidecar if there is one, else from its headers.

    Raises:
        DataError: See :func:`scan_tar`; or the sidecar is broken or of another tar.
    """
    found = read_sidecar(shard)
    return scan_tar(shard) if found is None else found


def scan_tar(shard: str) -> list[Member]:
    """The same from the tar's headers alone: one seek a member.

    A tar that was cut between two members, or whose next header is garbled, looks to :mod:`tarfile` as if it ended
    there; only the blocks of zeros that end every tar tell it from a whole one.

    Raises:
        DataError: The shard is missing, cut short, garbled, compressed, no tar, or holds a member that is not allowed.
    """
    size = size_of(shard)
    try:
        with open_seekable(shard) as file, tarfile.open(fileobj=cast(BinaryIO, _Headers(file)), mode="r:") as tar:
            members = list(_checked(shard, size, _plain_files(shard, tar)))
            file.seek(tar.offset)
            end = file.read(tarfile.RECORDSIZE + tarfile.BLOCKSIZE)  # a record is the most that tars are padded
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
        raise unreadable(shard, error) from None
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        raise unreadable(shard, "it is cut short or garbled: no end marker after its last member")
    return members


class _Headers:
    """A file as :mod:`tarfile` may read it: a hostile header claims to be gigabytes long, or fewer than no bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _plain_files(shard: str, tar: tarfile.TarFile) -> Iterator[tuple[str, int, int]]:
    reached = -1
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # a kilobyte each
        if member.size < 0 or member.offset <= reached:
            raise tarfile.ReadError("a header that leads back")
        reached = member.offset
        if member.isdir():
            continue
        if not member.isfile() or member.issparse():
            kind = _LINKS.get(member.type, "no plain file")
            raise _refused(shard, member.name, f"is {kind}; a shard holds plain files alone")
        yield member.name, member.offset_data, member.size


def _checked(shard: str, size: int, members: Iterable[Any]) -> Iterator[Member]:
    """Those that are not passed over; whatever tells of them, it comes from outside."""
    for number, (name, offset, length) in enumerate(members):
        if number >= MAX_MEMBERS:
            raise DataError(f"{shard}: more than {MAX_MEMBERS:,} members; write smaller shards", "too large")
        if type(name) is not str or type(offset) is not int or type(length) is not int:
            raise TypeError
        split = split_name(name, shard)
        if split is None:
            continue
        if offset < 0 or length < 0 or offset + length > size:
            raise unreadable(shard, f"unexpected end of data: member {name!r} claims more than the {size} bytes of it")
        if length > MAX_RECORD and is_record(split[1]):
            claim = f"claims {length / 2**20:.0f} MB, more than {MAX_RECORD / 2**20:.0f}"
            raise DataError(f"{shard}: record {name!r} {claim}; keep media out of it", "too large")
        yield *split, offset, length


def sidecar_of(shard: str) -> str:
    """``NAME.index.json`` beside ``NAME.tar``."""
    return f"{shard.removesuffix('.tar')}.index.json"


def to_sidecar(size: int, members: list[Member]) -> bytes:
    """What stands in it, for a tar of ``size`` bytes."""
    rows = [[f"{sample}.{extensions}", *span] for sample, extensions, *span in members]
    fields = {"version": 1, "size": size, "members": rows}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def read_sidecar(shard: str) -> list[Member] | None:
    """The members as the sidecar tells, None if there is none.

    Raises:
        DataError: It is broken, of another tar, or tells of what is not in the tar or not allowed there.
    """
    where = sidecar_of(shard)
    raw = read_if_there(where, MAX_SIDECAR)
    if raw is None:
        return None
    try:
        fields = json.loads(raw)
        version, size, members = fields["version"], fields["size"], fields["members"]
        if version != 1 or type(size) is not int or type(members) is not list:
            raise TypeError
        if size == (actual := size_of(shard)):
            return list(_checked(shard, size, members))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DataError(
            f'{where}: must hold {{"version": 1, "size": bytes, "members": [[name, offset, size], ...]}}; delete it, '
            "or write it anew with: avatar data index FOLDER",
            "broken shard",
        ) from None
    raise DataError(
        f"{where}: tells of a tar of {size} bytes, but {shard} has {actual}: cut short, or written since. Copy the "
        "shard again, or write the index anew with: avatar data index FOLDER",
        "broken shard",
    )
