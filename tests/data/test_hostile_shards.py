"""Shards that want to run something, write somewhere or take all memory: each is refused by name, nothing happens."""

import importlib
import io
import json
import pickle
import subprocess
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from avatar.data import members
from avatar.data.index import ShardIndex, write_shard_index
from avatar.data.prepare import Task, prepare
from avatar.data.prompts import PromptStyle
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium
from avatar.data.shards import write_shards
from avatar.data.sources import find_shards
from avatar.errors import DataError

pytestmark = pytest.mark.timeout(60)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    """What must not be there in the end; the fixture sees to it that nothing else is either."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists()


@pytest.fixture
def bomb(marker):
    return pickle.dumps(Bomb(marker))


def below(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(read, folder, tmp_path, match, cause="not allowed"):
    """``read(folder)`` says ``match`` and changes nothing on the disk."""
    before = below(tmp_path)
    with pytest.raises(DataError, match=match) as caught:
        read(folder)
    assert caught.value.cause == cause
    assert below(tmp_path) == before
    return str(caught.value)


def with_sidecar(folder, names):
    """A sidecar that tells of ``names``, as whoever wrote the tar may have written it too."""
    shard = folder / "00000.tar"
    rows = [[name, 512, 2] for name in names]
    (folder / "00000.index.json").write_text(json.dumps({"version": 1, "size": shard.stat().st_size, "members": rows}))


def special(folder, name, kind, target=""):
    """A good record, and a member that is no plain file."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for name_, kind_, payload in (("good.json", tarfile.REGTYPE, b"{}"), (name, kind, b"")):
            info = tarfile.TarInfo(name_)
            info.type, info.size, info.linkname = kind_, len(payload), target if kind_ == kind else ""
            tar.addfile(info, io.BytesIO(payload))
    return folder


# Controls: the weapons of these tests are loaded


def test_the_bomb_is_live(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "live")))  # noqa: S301
    assert (tmp_path / "live").exists()


def test_the_command_behind_pipe_is_live(tmp_path, monkeypatch):
    gopen = importlib.import_module("webdataset.gopen")  # the package shows its function of that name instead
    monkeypatch.setattr("webdataset.utils.enforce_security", False)
    with gopen.gopen_pipe(f"pipe:touch {tmp_path}/live", "rb") as stream:
        stream.read()
    assert (tmp_path / "live").exists()


def test_the_symbolic_link_is_live(tmp_path):
    folder = special(tmp_path / "made", "link.mp4", tarfile.SYMTYPE, "/etc/hostname")
    subprocess.run(["tar", "xf", folder / "00000.tar", "-C", tmp_path], check=True)
    assert (tmp_path / "link.mp4").is_symlink()


# Members that can hold code


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"good.{extension}"
            for extension in ("pyd", "pyc", "pth", "pt", "pkl", "pickle", "npy", "npz", "cbor", "msg", "tb")
        ),
        "good.PYD",
        "good.mp4.pickle",
        "folder/deep/good.pth",
        "bomb.q0.json.pkl",
    ],
)
@pytest.mark.parametrize("sidecar", [False, True])
def test_members_that_can_hold_code_are_refused(make_tar, tmp_path, bomb, record, name, sidecar):
    folder = make_tar([("good.json", record.to_json()), (name, bomb)])
    if sidecar:
        with_sidecar(folder, ["good.json", name])
    extension = name.rsplit(".", 1)[-1].lower()
    match = rf"00000\.tar: member '{name}' has the extension '{extension}', which can hold code.*write the shard again"
    refused(ShardIndex, folder, tmp_path, f"(?i){match}")


@pytest.mark.parametrize(
    "name", ["good.metajson", "good.", "good.mp4~", "good.html", "good.tar", "good.zip", "good.m3u8"]
)
def test_members_of_no_known_kind_are_refused(make_tar, tmp_path, bomb, record, name):
    folder = make_tar([("good.json", record.to_json()), (name, bomb)])
    message = refused(ShardIndex, folder, tmp_path, rf"00000\.tar: member '{name}' has the extension")
    assert "allowed: 3gp, aac, avi" in message


@pytest.mark.parametrize("extension", sorted(members.EXTENSIONS))
def test_members_of_each_known_kind_are_taken(make_tar, record, extension):
    folder = make_tar([("a.q0.json", record.to_json()), (f"a.{extension.upper()}", b"1")])
    assert ShardIndex(folder)[-1].members[extension].read() == b"1"


def test_one_hostile_shard_among_good_ones_is_named(make_tar, tmp_path, bomb, record):
    for i in range(3):
        folder = make_tar(
            [(f"{i}.json", record.to_json()), *([("1.pth", bomb)] if i == 1 else [])], name=f"0000{i}.tar"
        )
    refused(ShardIndex, folder, tmp_path, r"00001\.tar: member '1\.pth'")


@pytest.mark.parametrize("payload", ["bomb", "pipe"])
def test_a_bomb_called_record_or_clip_is_read_as_what_it_is_called(make_tar, tmp_path, bomb, marker, samples, payload):
    payload = bomb if payload == "bomb" else f"pipe:touch {marker}".encode()
    _, mp4, [record, *_] = samples[0]
    folder = make_tar(
        [("a.json", payload), ("a.mp4", mp4), ("b.json", record.to_json()), ("b.mp4", payload), ("c.txt", payload)]
    )
    index, before = ShardIndex(folder), below(tmp_path)
    assert [entry.key for entry in index] == ["a", "b"]
    for entry, match in zip(index, (r"00000\.tar: a: the record is not JSON", r"00000\.tar: b\.mp4"), strict=True):
        with pytest.raises(DataError, match=match):
            prepare(Task(entry, PromptStyle(), ClipRule()))
    assert below(tmp_path) == before


# Names that lead elsewhere

HOSTILE_NAMES = [
    "../x.json",
    "a/../../x.json",
    "..",
    "a/..",
    "../.hidden",
    "/etc/x.json",
    "//x.json",
    "C:/x.json",
    "c:x.json",
    "a\\b.json",
    "..\\x.json",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("sidecar", [False, True])
def test_names_that_lead_out_of_their_folder_are_refused(make_tar, tmp_path, record, name, sidecar):
    folder = make_tar([("good.json", record.to_json()), (name, b"{}")])
    if sidecar:
        with_sidecar(folder, ["good.json", name])
    message = refused(ShardIndex, folder, tmp_path, r"00000\.tar: member .* leads out of its folder")
    assert repr(name) in message


def test_a_name_below_the_root_is_refused_also_where_the_root_is_ours(make_tar, tmp_path, record):
    folder = make_tar([("good.json", record.to_json()), (f"{tmp_path}/absolute.json", b"{}")])
    refused(ShardIndex, folder, tmp_path, "leads out of its folder")


@pytest.mark.parametrize("name", ["a\nb.json", "a\x1b[31mb.json", "a\x7f.json", "a\u202egnp.json", "a\u2028b.json"])
@pytest.mark.parametrize("sidecar", [False, True])
def test_names_that_would_play_tricks_on_a_terminal_are_refused(make_tar, tmp_path, record, name, sidecar):
    folder = make_tar([("good.json", record.to_json()), (name, b"{}")])
    if sidecar:
        with_sidecar(folder, ["good.json", name])
    message = refused(ShardIndex, folder, tmp_path, r"00000\.tar: member .* has control characters")
    assert message.isprintable()


@pytest.mark.parametrize("sidecar", [False, True])
def test_names_that_are_no_text_are_refused(make_tar, tmp_path, record, sidecar):
    name = "caf\udce9.json"  # latin-1
    folder = make_tar([("good.json", record.to_json())])
    if sidecar:
        with_sidecar(folder, [name])
    else:
        with tarfile.open(folder / "00000.tar", "w", format=tarfile.GNU_FORMAT) as tar:
            tar.addfile(tarfile.TarInfo(name))
    refused(ShardIndex, folder, tmp_path, "bytes that are no UTF-8")


@pytest.mark.parametrize("sidecar", [False, True])
def test_names_longer_than_any_are_refused_in_no_time(make_tar, tmp_path, record, sidecar):
    names = ["good.json", "a/" * 20_000 + "b"]
    folder = make_tar([(name, record.to_json()) for name in names])
    if sidecar:
        with_sidecar(folder, names)
    refused(ShardIndex, folder, tmp_path, r"has a name of 40,001 characters, more than 1,024")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "no plain file"),
        (b"Z", "no plain file"),
    ],
)
@pytest.mark.parametrize("name", ["good.mp4", "README", ".hidden", "../x"])
def test_members_that_are_no_plain_files_are_refused(tmp_path, name, kind, what):
    folder = special(tmp_path / "made", name, kind, "/etc/hostname")
    refused(ShardIndex, folder, tmp_path, rf"00000\.tar: member '{name}' is {what}; a shard holds plain files alone")


def test_a_file_with_holes_is_refused_since_its_bytes_do_not_lie_in_a_row(tmp_path):
    (tmp_path / "made").mkdir()
    with tarfile.open(tmp_path / "made" / "00000.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.mp4")
        info.size, info.pax_headers = 2, {"GNU.sparse.map": "0,2", "GNU.sparse.size": "1000000"}
        tar.addfile(info, io.BytesIO(b"{}"))
    refused(ShardIndex, tmp_path / "made", tmp_path, r"00000\.tar: member 'a\.mp4' is no plain file")


def test_no_sidecar_is_written_of_a_hostile_shard(tmp_path, make_tar, bomb):
    folder = make_tar([("a.pth", bomb)])
    refused(lambda folder: write_shard_index(folder / "00000.tar"), folder, tmp_path, "can hold code")


# pipe: in every place where a name may stand


@pytest.mark.parametrize(
    "location", ["pipe:touch {}", " PIPE:touch {}", "{{pipe:touch {},b}}.tar", "a-{{0..1}}.tar::pipe:touch {}"]
)
def test_pipe_in_a_list_of_shards_runs_nothing(tmp_path, marker, location):
    refused(ShardIndex, location.format(marker), tmp_path, "'pipe:' would run a command")


@pytest.mark.parametrize(
    "name",
    [
        "pipe:touch {}",
        "pipe:touch {};.tar",
        " pipe:touch {};.tar",
        "../x.tar",
        "a/../../x.tar",
        "/etc/x.tar",
        "//host/x.tar",
        "./x.tar",
        "a//x.tar",
        "http://elsewhere/x.tar",
        "file:///x.tar",
        "s3://bucket/x.tar",
        "simplecache::x.tar",
        "a\\..\\x.tar",
        "%2e%2e/x.tar",
        "x.tar?y.tar",
        "x#y.tar",
        "{{a,b}}.tar",
        "a\n.tar",
        "",
        "x.pth",
        "x",
        None,
        3,
        ["a.tar"],
    ],
)
def test_a_manifest_that_lists_what_is_not_in_its_folder_is_refused(tmp_path, marker, serve, name):
    name = name.format(marker) if isinstance(name, str) else name
    manifest = json.dumps({"shards": [{"name": "00000.tar"}, {"name": name}]})
    (tmp_path / "manifest.json").write_text(manifest)
    store = fsspec.filesystem("memory")
    store.pipe("/d/manifest.json", manifest.encode())
    server = serve(tmp_path)
    for folder in (server.url, "memory://d"):
        message = refused(find_shards, folder, tmp_path, r"manifest\.json: lists")
        assert repr(name) in message
    assert [path for path, _ in server.requests] == ["/manifest.json"]  # nothing else was asked for
    store.store.clear()


@pytest.mark.parametrize(
    "name", ["pipe:touch {}", "/../../outer/x.json", "../x", "mp4/../../x", "file:///etc/hostname", "pickle"]
)
@pytest.mark.parametrize("kind", ["video", "image", "audio"])
def test_a_record_reads_nothing_but_the_members_of_its_sample(make_tar, tmp_path, marker, samples, kind, name):
    (tmp_path / "x").write_bytes(samples[0][1])
    hostile = replace(samples[0][2][0], media=[Medium(kind, name.format(marker))])
    folder = make_tar([("a.json", hostile.to_json()), ("a.mp4", samples[0][1])])
    [entry] = ShardIndex(folder)
    refused(
        lambda _: prepare(Task(entry, PromptStyle(), ClipRule())),
        folder,
        tmp_path,
        "names media",
        cause="missing media",
    )


# Headers that lie


def header(name, size, kind=tarfile.REGTYPE):
    """512 bytes with any size in them, and a checksum that fits."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = size if isinstance(size, bytes) else tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def shard_of(tmp_path, payload, size=None):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "00000.tar").write_bytes(payload)
    if size is not None:
        with (folder / "00000.tar").open("r+b") as file:
            file.truncate(size)
    return folder


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [-512, -1024, -1, b"-0000001000\0"], ids=["-512", "-1024", "-1", "octal"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_size_below_nothing_does_not_lead_round_in_circles(tmp_path, size, kind):
    blocks = header("good.json", 2) + b"{}".ljust(512, b"\0") + header("a.json", size, kind) + bytes(10240)
    refused(ShardIndex, shard_of(tmp_path, blocks), tmp_path, r"00000\.tar", "broken shard")


@pytest.mark.parametrize("claim", [2**62, 10**9, 11_000])
def test_a_member_that_claims_more_than_there_is_is_broken(tmp_path, claim):
    blocks = header("a.json", 2) + b"{}".ljust(512, b"\0") + header("a.mp4", claim) + bytes(10240)
    message = refused(ShardIndex, shard_of(tmp_path, blocks), tmp_path, r"00000\.tar", "broken shard")
    assert "member 'a.mp4' claims more" in message


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_of_half_a_gigabyte_is_refused_before_memory_is_taken(tmp_path, kind):
    folder = shard_of(tmp_path, header("x", 2**29, kind), size=2**29 + 20_480)  # a hole on the disk
    tracemalloc.start()
    with pytest.raises(DataError, match=r"00000\.tar: .*a header of 536870912 bytes"):
        ShardIndex(folder)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_thousands_of_headers_about_one_another_are_refused(tmp_path):
    blocks = (header("x", 11, tarfile.XHDTYPE) + b"11 a=bcdef\n".ljust(512, b"\0")) * 5000
    refused(ShardIndex, shard_of(tmp_path, blocks + bytes(10240)), tmp_path, r"00000\.tar", "broken shard")


@pytest.mark.parametrize("sidecar", [False, True])
def test_a_record_larger_than_any_is_refused_before_memory_is_taken(tmp_path, sidecar):
    size = members.MAX_RECORD + 1
    end = 512 * 2 + size + 10_240
    folder = shard_of(tmp_path, header("a.json", size), size=end - end % 512)
    if sidecar:
        fields = {"version": 1, "size": end - end % 512, "members": [["a.json", 512, size]]}
        (folder / "00000.index.json").write_text(json.dumps(fields))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"00000\.tar: record 'a\.json' claims 16 MB") as caught:
        ShardIndex(folder)
    assert caught.value.cause == "too large"
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("sidecar", [False, True])
def test_more_members_than_anyone_has_are_refused(make_tar, tmp_path, record, monkeypatch, sidecar):
    folder = make_tar([(f"{i}.json", record.to_json()) for i in range(4)])
    if sidecar:
        with_sidecar(folder, [f"{i}.json" for i in range(4)])
    assert len(ShardIndex(folder)) == 4
    monkeypatch.setattr(members, "MAX_MEMBERS", 3)
    refused(ShardIndex, folder, tmp_path, r"00000\.tar: more than 3 members", "too large")


def test_a_sidecar_larger_than_any_is_not_read(tmp_path, record, monkeypatch):
    write_shards(tmp_path / "d", [("a", b"mp4", [record])])
    with (tmp_path / "d" / "00000.index.json").open("r+b") as file:
        file.truncate(members.MAX_SIDECAR + 1)
    with pytest.raises(DataError, match=r"00000\.index\.json: larger than 128 MB") as caught:
        ShardIndex(tmp_path / "d")
    assert caught.value.cause == "too large"
