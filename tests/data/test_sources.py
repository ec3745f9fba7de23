import multiprocessing
import os
import pickle
import sys
import time
from operator import methodcaller

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from avatar.data import remote
from avatar.data.index import ShardIndex
from avatar.data.sources import (
    GAP,
    Span,
    check_location,
    find_shards,
    is_remote,
    open_seekable,
    read_all,
    read_if_there,
    size_of,
)
from avatar.errors import DataError

WHOLE = bytes(range(256)) * 4096  # 1 MiB, no two neighbours alike


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "00000.tar").write_bytes(WHOLE)
    return tmp_path


@pytest.fixture
def memory():
    """An object store in memory, empty before and after."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 0.6)


# Where one may read from

PLAIN = [
    "data/micro",
    "/data/micro",
    "./a:b",
    "C:/data",
    "data with spaces",
    " data",
    "file:///data",
    "FILE:///data",
    "http://host/data",
    "https://user@host:8080/data",
    "HTTPS://host/data",
    "http://[::1]:8000/data",
    "s3://bucket/data",
    "gs://b/d",
    "gcs://b/d",
    "az://b/d",
    "abfs://b@account.dfs.core.windows.net/d",
    "hf://datasets/org/name/d",
    "memory://d",
]


@pytest.mark.parametrize("location", PLAIN)
def test_paths_and_urls_of_known_protocols_are_taken(location):
    check_location(location)
    assert is_remote(location) is (location.split(":")[0].lower() not in ("file", "c") and "://" in location)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("pipe:touch marker", "would run a command"),
        (" pipe:touch marker", "would run a command"),
        ("PiPe:touch marker", "would run a command"),
        ("\u00a0\u3000pipe:touch marker", "would run a command"),
        ("\tpipe:touch marker", "would run a command"),
        ("file://pipe:touch marker", "would run a command"),
        ("http://host/{pipe:touch marker,a}.tar", "would run a command"),
        ("simplecache::http://host/a", "chains protocols"),
        ("filecache::s3://b/a.tar", "chains protocols"),
        ("zip://a.pkl::http://host/b", "chains protocols"),
        ("exec:ls", "begins with none of"),
        ("ssh://host/a", "begins with none of"),
        ("sftp://host/a", "begins with none of"),
        ("local://a", "begins with none of"),
        ("reference://a", "begins with none of"),
        ("dir://a", "begins with none of"),
        ("github://org:repo@main/a", "begins with none of"),
        ("ftp://host/a", "begins with none of"),
        ("data:text/plain,hello", "begins with none of"),
        ("http:host/a", "begins with none of"),
        (" http://host/a", "begins with none of"),
        ("s3:bucket/a", "begins with none of"),
        ("a\nb", "control characters"),
        ("a\0b", "control characters"),
        ("", "empty"),
        ("   ", "empty"),
    ],
)
def test_what_could_run_or_lead_elsewhere_is_refused_and_says_why(location, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read in (check_location, find_shards, ShardIndex):
        with pytest.raises(DataError, match=reason) as caught:
            read(location)
        assert caught.value.cause == "not allowed"
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_a_protocol_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(DataError, match=r"gs://bucket/a\.tar: gs:// needs the package gcsfs: pip install gcsfs"):
        Span("gs://bucket/a.tar", 0, 10).read()


# Shards of a location


def test_a_local_folder_gives_its_shards_in_order(tmp_path):
    for name in ("b.tar", "a.tar", "c.tar.gz", "notes.txt", "a.index.json"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.tar").touch()
    found = [str(tmp_path / name) for name in ("a.tar", "b.tar")]
    assert find_shards(tmp_path) == find_shards(str(tmp_path)) == find_shards(f"file://{tmp_path}") == found


def test_a_missing_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such shard folder.*avatar data synth --out"):
        find_shards(tmp_path / "nowhere")


def test_a_folder_without_shards_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no shard")
    with pytest.raises(DataError, match=r"no shard \(\*\.tar\)"):
        find_shards(tmp_path)


def test_a_shard_by_its_own_name_is_itself(folder):
    assert find_shards(folder / "00000.tar") == [str(folder / "00000.tar")]
    assert find_shards("https://host/a.tar") == ["https://host/a.tar"]  # nothing is asked of the host yet


def test_braces_are_spelled_out():
    assert find_shards("/data/train-{008..010}.tar") == [f"/data/train-{i}.tar" for i in ("008", "009", "010")]
    assert find_shards("s3://b/{x,y}-{0..1}.tar") == [f"s3://b/{n}-{i}.tar" for n in "xy" for i in (0, 1)]


def test_braces_may_name_folders_too(tmp_path):
    for name in ("music", "speech"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.tar").touch()
    assert find_shards(f"{tmp_path}/{{speech,music}}") == [f"{tmp_path}/{name}/0.tar" for name in ("speech", "music")]


def test_a_folder_with_braces_in_its_name_is_read_as_it_is(tmp_path):
    (tmp_path / "{a,b}").mkdir()
    (tmp_path / "{a,b}" / "0.tar").touch()
    assert find_shards(tmp_path / "{a,b}") == [str(tmp_path / "{a,b}" / "0.tar")]


@pytest.mark.parametrize("location", ["/data/{0..3.tar", "/data/0..3}.tar", "/data/{x}.tar", "/data/{}.tar"])
def test_braces_that_spell_out_nothing_say_how_they_are_written(location):
    with pytest.raises(DataError, match=r"train-\{000\.\.099\}\.tar|no such"):
        ShardIndex(location)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "location", ["/d/{0..99999999999}.tar", "/d/{0..9999}{0..9999}.tar", "/d/{5..-99999999999}.tar"]
)
def test_more_shards_than_anyone_has_are_refused_before_they_are_spelled_out(location):
    with pytest.raises(DataError, match="spells out") as caught:
        find_shards(location)
    assert caught.value.cause == "too large"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_remote_folder_gives_what_its_manifest_lists(memory, slash):
    memory.pipe("/d/manifest.json", b'{"shards": [{"name": "b.tar", "bytes": 1}, {"name": "sub/a.tar"}], "counts": {}}')
    assert find_shards(f"memory://d{slash}") == ["memory://d/b.tar", "memory://d/sub/a.tar"]


def test_a_remote_folder_without_a_manifest_says_what_to_do(memory, serve, tmp_path):
    for url in ("memory://d", serve(tmp_path).url):
        with pytest.raises(DataError, match=r"manifest\.json: there is none.*avatar data pack.*\{000\.\.099\}"):
            find_shards(url)


@pytest.mark.parametrize(
    "raw",
    [b"", b"no json", b"[]", b"{}", b'{"shards": 3}', b'{"shards": ["a.tar"]}', b'{"shards": [{}]}', b"[" * 100_000],
)
def test_a_manifest_of_another_form_says_what_it_must_hold(memory, raw):
    memory.pipe("/d/manifest.json", raw)
    with pytest.raises(DataError, match=r'manifest\.json: must hold \{"shards"'):
        find_shards("memory://d")


def test_a_manifest_that_lists_nothing_is_named(memory):
    memory.pipe("/d/manifest.json", b'{"shards": []}')
    with pytest.raises(DataError, match=r"manifest\.json: no shard"):
        find_shards("memory://d")


def test_a_manifest_larger_than_any_is_not_read(memory, serve, tmp_path, monkeypatch):
    monkeypatch.setattr("avatar.data.sources.MAX_MANIFEST", 100)
    memory.pipe("/d/manifest.json", b" " * 101)
    (tmp_path / "manifest.json").write_bytes(b" " * 20_000_000)
    server = serve(tmp_path)
    for url in ("memory://d", server.url):
        with pytest.raises(DataError, match=r"manifest\.json: larger than") as caught:
            find_shards(url)
        assert caught.value.cause == "too large"
    assert sum(server.sent) < 15_000_000  # it hung up; what sockets hold had been sent


# Bytes of a local file


def test_a_span_gives_its_bytes(folder):
    span = Span(str(folder / "00000.tar"), 300, 4)
    assert span.read() == WHOLE[300:304] == bytes([44, 45, 46, 47])
    assert Span(f"file://{span.shard}", 300, 4).read() == span.read()
    assert Span(span.shard, 300, 0).read() == b""


def test_a_span_whose_shard_shrank_or_went_away_says_so(folder):
    path = folder / "00000.tar"
    path.write_bytes(bytes(100))
    assert Span(str(path), 90, 10).read() == bytes(10)
    for change, reason in ((lambda: None, "truncated at byte 100"), (path.unlink, "No such file")):
        change()
        with pytest.raises(DataError, match=rf"00000\.tar: {reason}") as caught:
            Span(str(path), 90, 11).read()
        assert caught.value.cause == "broken shard"


@pytest.mark.parametrize("name", ["pipe:touch marker", "http:x", "a::b"])
def test_a_span_of_an_odd_local_name_is_a_file_or_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        Span(name, 0, 1).read()
    assert list(tmp_path.iterdir()) == []


# Bytes over the network


def test_a_remote_span_is_one_request_for_just_its_bytes(folder, serve):
    server = serve(folder)
    assert Span(f"{server.url}/00000.tar", 1000, 3000).read() == WHOLE[1000:4000]
    assert server.requests == [("/00000.tar", "bytes=1000-3999")]
    assert server.sent == [3000]


def test_a_name_with_a_space_in_it_is_found(folder, serve):
    (folder / "00000.tar").rename(folder / "my shard é.tar")
    assert Span(f"{serve(folder).url}/my shard é.tar", 5, 2).read() == b"\5\6"


@pytest.mark.parametrize("end", [1, 2000])
def test_a_remote_shard_that_ends_too_soon_is_named(folder, serve, end):
    (folder / "00000.tar").write_bytes(WHOLE[:end])
    url = f"{serve(folder).url}/00000.tar"
    with pytest.raises(DataError, match=rf"{url}: truncated at byte {max(end, 1000)}") as caught:
        Span(url, 1000, 3000).read()
    assert caught.value.cause == "broken shard"


@pytest.mark.parametrize("offset", [0, 1000])
def test_a_server_that_ignores_ranges_is_told_of_before_the_shard_is_fetched(tmp_path, serve, offset):
    os.truncate(os.open(tmp_path / "00000.tar", os.O_CREAT | os.O_WRONLY), 100_000_000)
    server = serve(tmp_path, ranges=False)  # Python's own: python -m http.server
    url = f"{server.url}/00000.tar"
    for read in (Span(url, offset, 10).read, lambda: size_of(url), lambda: ShardIndex(url)):
        with pytest.raises(DataError, match=r"the server at 127\.0\.0\.1 ignores byte ranges.*nginx") as caught:
            read()
        assert caught.value.cause == "broken shard"
    assert sum(server.sent) < 3 * 15_000_000  # what sockets hold


def test_an_answer_of_more_than_was_asked_is_not_taken_for_the_member(folder, serve, memory):
    server = serve(folder)
    server.surplus = 5
    with pytest.raises(DataError, match="ignores byte ranges"):
        Span(f"{server.url}/00000.tar", 1000, 10).read()


def test_a_store_that_gives_whole_files_is_found_out_by_the_length(memory, monkeypatch):
    class Greedy(MemoryFileSystem):
        def cat_file(self, path, start=None, end=None, **kwargs):
            return super().cat_file(path)

    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: Greedy)
    memory.pipe("/d/a.tar", WHOLE)
    with pytest.raises(DataError, match=r"the server at d ignores byte ranges"):
        Span("memory://d/a.tar", 1000, 10).read()


@pytest.mark.parametrize("faults", [[500, 500], [503, "cut"], ["cut", 429]])
def test_a_server_that_fails_twice_and_then_answers_is_waited_for(folder, serve, faults):
    server = serve(folder)
    server.faults = list(faults)
    begun = time.monotonic()
    assert Span(f"{server.url}/00000.tar", 1000, 10).read() == WHOLE[1000:1010]
    assert len(server.requests) == 3
    assert 0.7 < time.monotonic() - begun < 5  # 0.25 + 0.5 s between them


def test_a_server_that_goes_on_failing_is_named_when_patience_ends(folder, serve, impatient):
    server = serve(folder)
    server.faults = [500] * 1000
    begun = time.monotonic()
    with pytest.raises(DataError, match=rf"{server.url}/00000\.tar: cannot be read \(500.*tried for 0\.6 s") as caught:
        Span(f"{server.url}/00000.tar", 0, 10).read()
    assert caught.value.cause == "broken shard"
    assert time.monotonic() - begun < 2
    assert len(server.requests) == 2  # at 0 and 0.25 s; another 0.5 s would be too long


def test_patience_is_ten_seconds_at_most():
    # waits of 0.25, 0.5, 1, 2 and 4 s: the next one, 8 s, would end after 10
    assert remote.PATIENCE == 10
    assert sum((0.25, 0.5, 1, 2, 4)) < remote.PATIENCE < sum((0.25, 0.5, 1, 2, 4, 8))


def test_a_host_that_does_not_answer_is_named(folder, serve, impatient):
    server = serve(folder)
    url = f"{server.url}/00000.tar"
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=rf"{url}: cannot be read .*check address and network"):
        Span(url, 0, 10).read()


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "No such file"), (410, "No such file"), (403, "not allowed"), (401, "not allowed")]
)
def test_what_will_not_get_better_is_not_asked_for_again(folder, serve, status, reason):
    server = serve(folder)
    server.faults = [status] * 10
    with pytest.raises(DataError, match=rf"00000\.tar: {reason}"):
        Span(f"{server.url}/00000.tar", 0, 10).read()
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_small_file_that_is_missing_or_hidden_is_none(folder, serve, memory, status):
    server = serve(folder)
    server.faults = [status]
    assert read_if_there(f"{server.url}/a.index.json", 100) is None
    assert read_if_there("memory://d/a.index.json", 100) is None
    assert read_if_there(str(folder / "a.index.json"), 100) is None


def test_a_small_file_of_any_kind_is_read_whole_up_to_its_limit(folder, serve, memory):
    memory.pipe("/d/00000.tar", WHOLE)
    for location in (f"{serve(folder).url}/00000.tar", "memory://d/00000.tar", str(folder / "00000.tar")):
        assert read_if_there(location, len(WHOLE)) == WHOLE
        with pytest.raises(DataError, match="larger than"):
            read_if_there(location, len(WHOLE) - 1)
        assert size_of(location) == len(WHOLE)


def test_an_empty_file_has_no_bytes_wherever_it_lies(tmp_path, serve, memory):
    (tmp_path / "a.tar").touch()
    memory.pipe("/d/a.tar", b"")
    for location in (str(tmp_path / "a.tar"), f"{serve(tmp_path).url}/a.tar", "memory://d/a.tar"):
        assert size_of(location) == 0


def test_a_file_is_read_in_any_order_and_a_remote_one_by_blocks(folder, serve, memory):
    memory.pipe("/d/00000.tar", WHOLE)
    server = serve(folder)
    for location in (str(folder / "00000.tar"), "memory://d/00000.tar", f"{server.url}/00000.tar"):
        with open_seekable(location) as file:
            assert file.read(10) == WHOLE[:10]
            assert file.seek(500_000) == file.tell() == 500_000
            assert file.read(300) == WHOLE[500_000:500_300]
            file.seek(-7, os.SEEK_END)
            assert file.read(100) == WHOLE[-7:]
            file.seek(20)
            assert file.read(200_000) == WHOLE[20:200_020]
            asked = len(server.requests)
            for beyond in (0, 1000):  # an object store would call such a range an error
                file.seek(len(WHOLE) + beyond)
                assert file.read(10) == b""
            assert len(server.requests) == asked
    assert sum(server.sent) < 200_000 + 5 * 65_536


# Many spans at once


def test_neighbours_in_a_remote_shard_come_by_one_request(folder, serve):
    server = serve(folder)
    url = f"{server.url}/00000.tar"
    spans = [Span(url, 9000, 50), Span(url, 1000, 10), Span(url, 1010 + 512, 3000), Span(url, 1000, 10)]
    assert read_all(spans) == [WHOLE[s.offset : s.offset + s.size] for s in spans]
    assert server.requests == [("/00000.tar", "bytes=1000-9049")]


def test_what_lies_far_apart_or_in_another_shard_is_asked_for_by_itself(folder, serve):
    (folder / "00001.tar").write_bytes(WHOLE[::-1])
    server = serve(folder)
    one, other = (f"{server.url}/0000{i}.tar" for i in (0, 1))
    far = 1010 + GAP + 1
    spans = [Span(one, far, 10), Span(other, 1020, 10), Span(one, 1000, 10)]
    assert read_all(spans) == [WHOLE[far : far + 10], WHOLE[::-1][1020:1030], WHOLE[1000:1010]]
    assert len(server.requests) == 3
    assert read_all([Span(one, far - 1, 10), Span(one, 1000, 10)]) == [WHOLE[far - 1 : far + 9], WHOLE[1000:1010]]
    assert len(server.requests) == 4


def test_spans_that_overlap_or_hold_each_other_come_whole(folder, serve):
    server = serve(folder)
    url = f"{server.url}/00000.tar"
    spans = [Span(url, 100, 100_000), Span(url, 200, 10), Span(url, 100_000, 500), Span(url, 300, 0)]
    assert read_all(spans) == [WHOLE[s.offset : s.offset + s.size] for s in spans]
    assert server.requests == [("/00000.tar", "bytes=100-100499")]


def test_local_spans_are_read_one_by_one_with_nothing_between_them(folder, monkeypatch):
    spans = [Span(str(folder / "00000.tar"), offset, 10) for offset in (5000, 0, 20)]
    read = []
    monkeypatch.setattr(Span, "_read_local", lambda s, plain=Span._read_local: read.append(s.size) or plain(s))
    assert read_all(spans) == [WHOLE[s.offset : s.offset + 10] for s in spans]
    assert read == [10, 10, 10]
    assert read_all([]) == []


def test_one_of_many_that_is_cut_short_is_named(folder, serve):
    url = f"{serve(folder).url}/00000.tar"
    with pytest.raises(DataError, match=rf"00000\.tar: truncated at byte {len(WHOLE)}"):
        read_all([Span(url, len(WHOLE) - 100, 50), Span(url, len(WHOLE) - 10, 50)])


# Other processes


@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_span_is_read_in_another_process_also_after_it_was_read_here(folder, serve, method):
    spans = [Span(f"{serve(folder).url}/00000.tar", 1000, 10), Span(str(folder / "00000.tar"), 1000, 10)]
    assert [pickle.loads(pickle.dumps(span)) for span in spans] == spans  # noqa: S301
    assert {span.read() for span in spans} == {WHOLE[1000:1010]}  # the network's thread runs in this process now
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(methodcaller("read"), spans * 4, chunksize=1) == [WHOLE[1000:1010]] * 8


def test_an_object_store_is_indexed_and_read_like_a_folder(shards, memory):
    local = ShardIndex(shards)
    for path in sorted(shards.iterdir()):
        memory.pipe(f"/bucket/train/{path.name}", path.read_bytes())
    memory.pipe("/bucket/train/manifest.json", b'{"shards": [{"name": "00000.tar"}, {"name": "00002.tar"}]}')
    for location in ("memory://bucket/train", "memory://bucket/train/0000{0,2}.tar"):
        index = ShardIndex(location)
        assert index.shard_sizes == [10, 5]  # 2 clips of 5 questions, and the last one
        entry, theirs = index.by_key("train-000004/q3"), local.by_key("train-000004/q3")
        spans = [entry.record, *entry.members.values()]
        assert read_all(spans) == [span.read() for span in (theirs.record, *theirs.members.values())]
    for path in shards.glob("*.index.json"):
        memory.rm(f"/bucket/train/{path.name}")
    assert list(ShardIndex("memory://bucket/train")) == list(index)
