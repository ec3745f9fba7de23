import io
import json
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from webdataset.tariterators import base_plus_ext

from avatar.data import columns as columns_module
from avatar.data import index as index_module
from avatar.data.index import ShardIndex, write_shard_index
from avatar.data.members import split_name
from avatar.data.schema import parse_record
from avatar.data.shards import write_shards
from avatar.data.sources import find_shards
from avatar.errors import DataError


def indexed(folder):
    """[(sample, mp4, record)] by the index."""
    return [
        (e.sample, e.members["mp4"].read() if "mp4" in e.members else b"", parse_record(e.record.read(), e.key))
        for e in ShardIndex(folder)
    ]


def flat(samples):
    """The same of [(sample, mp4, records)]."""
    return [(sample, mp4, record) for sample, mp4, records in samples for record in records]


def drop_sidecars(folder):
    for sidecar in Path(folder).glob("*.index.json"):
        sidecar.unlink()


def test_the_index_finds_what_webdataset_finds_in_the_same_order(shards, samples, streamed):
    assert indexed(shards) == flat(streamed(shards)) == flat(samples)
    assert len(ShardIndex(shards)) == sum(len(records) for _, _, records in samples) == 25


@pytest.mark.parametrize(
    "prefix",
    ["", "folder/", "./", "v1.0/", "__folder__/"],
    ids=["plain", "folder", "made by tar -C folder .", "folder with a dot", "folder between underscores"],
)
def test_index_and_webdataset_agree_on_names_with_folders(make_tar, record, streamed, prefix):
    members = [(f"{prefix}{n}.{x}", record.to_json() if x != "mp4" else b"1") for n in "ab" for x in ("mp4", "json")]
    folder = make_tar(members)
    assert indexed(folder) == flat(streamed(folder))
    assert len(indexed(folder)) == 2


@given(st.text("ab./_", min_size=1, max_size=8), st.sampled_from(["mp4", "json", "Q1.JSON", "a.b.wav"]))
def test_names_are_split_where_webdataset_splits_them(base, extension):
    name = f"{base}.{extension}"
    if ".." in name.split("/") or name.startswith("/") or name.rsplit("/", 1)[-1].startswith("."):
        return  # not allowed, or hidden: webdataset shows ``folder/.a.mp4`` as the sample ``folder/``
    sample, extensions = base_plus_ext(name)
    assert split_name(name, "shard") == (sample, extensions.lower())


@pytest.mark.parametrize("prefix", ["", "folder/"])
def test_what_a_mac_adds_is_passed_over(make_tar, record, prefix):
    raw = record.to_json()
    ours = [(f"{prefix}a.mp4", b"1"), (f"{prefix}a.json", raw)]
    macs = [
        f"{prefix}._a.mp4",
        f"{prefix}._a.json",
        f"{prefix}.DS_Store",
        "__MACOSX/._a.pyd",
        "__MACOSX/b.json",
        "README",
    ]
    folder = make_tar([ours[0], *((name, b"\0") for name in macs), ours[1]])
    [entry] = ShardIndex(folder)
    assert (entry.key, sorted(entry.members)) == (f"{prefix}a", ["json", "mp4"])


def test_index_and_webdataset_agree_on_what_a_record_is(make_tar, record, streamed):
    raw = record.to_json()
    folder = make_tar([("A.MP4", b"1"), ("A.JSON", raw), ("A.Q2.Json", raw), ("b.mp4", b"2"), ("README", b"")])
    assert [e.key for e in ShardIndex(folder)] == ["A", "A/q2"]
    assert indexed(folder) == flat(streamed(folder))


def test_a_dozen_questions_about_one_clip_keep_their_order(tmp_path, record):
    records = [replace(record, question=f"question {i} ?") for i in range(12)]
    write_shards(tmp_path / "d", [("clip", b"mp4", records)])
    assert [r.question for _, _, r in indexed(tmp_path / "d")] == [r.question for r in records]


def test_a_compressed_shard_is_refused_since_nothing_in_it_has_a_place(shards, tmp_path):
    with tarfile.open(find_shards(shards)[0]) as tar, tarfile.open(tmp_path / "00000.tar", "w:gz") as packed:
        for member in tar:
            packed.addfile(member, tar.extractfile(member))
    with pytest.raises(DataError, match=r"00000\.tar: .*must be a plain, whole tar"):
        ShardIndex(tmp_path)


def test_a_question_is_found_by_its_key_and_by_its_position(shards, samples):
    index = ShardIndex(shards)
    keys = [f"{key}/q{i}" for key, _, records in samples for i in range(len(records))]
    assert [index[i].key for i in range(len(index))] == keys
    for position in (24, 0, 13, 7):
        entry = index.by_key(keys[position])
        assert entry == index[position]
        assert parse_record(entry.record.read(), "") == samples[position // 5][2][position % 5]
        assert entry.members["mp4"].read() == samples[position // 5][1]


def test_a_key_that_is_not_there_is_an_error_and_not_in(shards):
    index = ShardIndex(shards)
    assert "train-000000/q0" in index
    assert "train-000000" not in index
    with pytest.raises(DataError, match="no record 'train-000000'"):
        index.by_key("train-000000")


def test_the_next_sample_is_another_clip_and_the_last_is_followed_by_the_first(shards):
    index = ShardIndex(shards)
    following = [index.next_sample(entry).key for entry in index]
    # 5 clips of 5 questions: questions 0-4 are followed by clip 1, ..., 20-24 by clip 0.
    assert following == [f"train-{(i // 5 + 1) % 5:06d}/q0" for i in range(25)]


def test_a_clip_alone_is_followed_by_itself(make_tar, record):
    index = ShardIndex(make_tar([("a.q0.json", record.to_json()), ("a.q1.json", record.to_json())]))
    assert index.next_sample(index[1]).sample == "a"


def test_a_key_that_comes_twice_in_a_folder_is_refused(make_tar, record):
    make_tar([("a.json", record.to_json())], name="00000.tar")
    folder = make_tar([("b.json", record.to_json()), ("a.json", record.to_json())], name="00001.tar")
    with pytest.raises(DataError, match=r"00001\.tar: key 'a' comes twice"):
        ShardIndex(folder)


@pytest.mark.parametrize("between", [[], ["b.json"]])
def test_a_record_that_comes_twice_in_a_shard_is_refused(make_tar, record, between):
    first, second = (replace(record, question=q).to_json() for q in ("first ?", "second ?"))
    folder = make_tar([("a.json", first), *((name, first) for name in between), ("a.json", second)])
    with pytest.raises(DataError, match=r"00000\.tar"):
        ShardIndex(folder)


def test_two_shards_with_clips_of_one_name_never_mix_them_up(make_tar, samples):
    # Two tools numbered their clips from 0 and their questions apart: "0" is another clip in each shard.
    (_, first, [one, *_]), (_, second, [other, *_]) = samples[:2]
    make_tar([("0.mp4", first), ("0.q0.json", one.to_json())], name="00000.tar")
    folder = make_tar([("0.mp4", second), ("0.q1.json", other.to_json())], name="00001.tar")
    with pytest.raises(DataError, match=r"00001\.tar: sample '0' is in .*00000\.tar too; rename"):
        ShardIndex(folder)


@pytest.mark.parametrize("members", [[], [("a.mp4", b"1")], [("notes.txt", b"no record")]])
def test_a_shard_without_a_record_is_refused(make_tar, members):
    with pytest.raises(DataError, match=r"00000\.tar: the shard is empty"):
        ShardIndex(make_tar(members))


def test_one_empty_shard_among_good_ones_is_named(make_tar, record):
    make_tar([("a.json", record.to_json())], name="00000.tar")
    with pytest.raises(DataError, match=r"00001\.tar: the shard is empty"):
        ShardIndex(make_tar([], name="00001.tar"))


def test_a_missing_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such shard folder.*avatar data synth --out"):
        ShardIndex(tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_shard_cut_inside_its_last_clip_is_named(tmp_path, samples, share):
    *_, last = write_shards(tmp_path / "d", samples, clips_per_shard=2)
    drop_sidecars(tmp_path / "d")
    with tarfile.open(last) as tar:
        member = tar.getmember("train-000004.mp4")
    os.truncate(last, member.offset_data + round(member.size * share))
    with pytest.raises(DataError, match=r"00002\.tar: .*(truncated|unexpected end|empty)"):
        ShardIndex(tmp_path / "d")


@pytest.mark.parametrize("left", [0, 1, 511, 512, 513, 1023])
def test_a_shard_cut_in_its_first_kilobyte_is_named(tmp_path, samples, left):
    [shard] = write_shards(tmp_path / "d", samples[:1])
    drop_sidecars(tmp_path / "d")
    os.truncate(shard, left)
    with pytest.raises(DataError, match=r"00000\.tar: .+"):
        ShardIndex(tmp_path / "d")


def test_wherever_a_shard_is_cut_the_index_is_refused_or_whole(tmp_path, record):
    [shard] = write_shards(tmp_path / "d", [(f"c{i}", bytes(700), [record, record]) for i in range(3)])
    drop_sidecars(tmp_path / "d")
    whole, silently_shorter = shard.read_bytes(), []
    for end in range(0, len(whole), 256):  # each block of 512 bytes: at its start and in its middle
        shard.write_bytes(whole[:end])
        try:
            found = len(ShardIndex(tmp_path / "d"))
        except DataError:
            continue
        if found != 6:
            silently_shorter.append((end, found))
    assert silently_shorter == []


def test_a_garbled_header_in_the_middle_of_a_shard_is_refused(tmp_path, samples):
    [shard] = write_shards(tmp_path / "d", samples)
    drop_sidecars(tmp_path / "d")
    with tarfile.open(shard) as tar:
        at = tar.getmember("train-000002.mp4").offset
    garbled = bytearray(shard.read_bytes())
    garbled[at + 148 : at + 156] = b"99999999"  # its checksum
    shard.write_bytes(garbled)
    with pytest.raises(DataError, match=r"00000\.tar"):
        ShardIndex(tmp_path / "d")


def test_records_behind_an_end_marker_are_not_lost_in_silence(tmp_path, samples):
    [shard] = write_shards(tmp_path / "d", samples)
    drop_sidecars(tmp_path / "d")
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        at = tar.getmember("train-000002.mp4").offset
    for damaged in (whole + whole, whole[:at] + bytes(512) + whole[at + 512 :]):  # cat a.tar b.tar; a header zeroed
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=r"00000\.tar: .*no end marker"):
            ShardIndex(tmp_path / "d")


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.XGLTYPE])
def test_folders_and_headers_of_a_tar_are_no_members(tmp_path, record, kind):
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for name, this in (("folder.mp4", kind), ("a.json", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, payload = this, record.to_json() if this == tarfile.REGTYPE else b""
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    [entry] = ShardIndex(tmp_path)
    assert (entry.key, list(entry.members)) == ("a", ["json"])


def test_the_index_is_the_same_with_sidecars_and_without(shards, tmp_path):
    with_sidecars, scanned = ShardIndex(shards), tmp_path / "scanned"
    scanned.mkdir()
    for shard in find_shards(shards):
        (scanned / Path(shard).name).symlink_to(shard)
    assert [replace(e, record=None, members=None) for e in with_sidecars] == [
        replace(e, record=None, members=None) for e in ShardIndex(scanned)
    ]
    for ours, theirs in zip(with_sidecars, ShardIndex(scanned), strict=True):
        assert {n: (s.offset, s.size) for n, s in ours.members.items()} == {
            n: (s.offset, s.size) for n, s in theirs.members.items()
        }


def test_a_sidecar_is_read_in_place_of_the_headers(tmp_path, samples):
    [shard] = write_shards(tmp_path / "d", samples[:2])
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        headers = [member.offset for member in tar]
    for at in headers:
        whole = whole[:at] + bytes(512) + whole[at + 512 :]
    shard.write_bytes(whole)  # no header is left
    assert indexed(tmp_path / "d") == flat(samples[:2])
    drop_sidecars(tmp_path / "d")
    with pytest.raises(DataError, match="00000"):
        ShardIndex(tmp_path / "d")


@pytest.mark.parametrize("change", [-10240, -1, 1, 512])
def test_a_sidecar_of_a_tar_of_another_size_says_to_write_it_anew(tmp_path, samples, change):
    [shard] = write_shards(tmp_path / "d", samples[:1])
    os.truncate(shard, shard.stat().st_size + change)
    with pytest.raises(DataError, match=r"00000\.index\.json: .*write the index anew") as caught:
        ShardIndex(tmp_path / "d")
    assert caught.value.cause == "broken shard"


def test_an_index_is_written_anew_over_one_that_does_not_fit(tmp_path, samples):
    [shard] = write_shards(tmp_path / "d", samples[:1])
    sidecar = shard.with_name("00000.index.json")
    fresh = sidecar.read_bytes()
    sidecar.write_bytes(b"{}")
    assert write_shard_index(shard) == sidecar
    assert sidecar.read_bytes() == fresh
    assert sorted(path.name for path in shard.parent.iterdir()) == ["00000.index.json", "00000.tar"]


def test_an_index_that_cannot_be_written_leaves_the_old_one_and_no_rest(tmp_path, samples, monkeypatch):
    [shard] = write_shards(tmp_path / "d", samples[:1])
    sidecar = shard.with_name("00000.index.json")
    before = sidecar.read_bytes()

    def full(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_shard_index(shard)
    assert sidecar.read_bytes() == before
    assert sorted(path.name for path in shard.parent.iterdir()) == ["00000.index.json", "00000.tar"]


GOOD = ["a.json", 512, 10]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {},
        {"version": 2, "members": [GOOD]},
        {"version": 1, "members": {}},
        {"version": 1, "members": [["a.json", 512]]},
        {"version": 1, "members": [["a.json", 512, 10, 10]]},
        {"version": 1, "members": [["a.json", "512", 10]]},
        {"version": 1, "members": [["a.json", 512.0, 10]]},
        {"version": 1, "members": [["a.json", True, 10]]},
        {"version": 1, "members": [[["a.json"], 512, 10]]},
        {"version": 1, "members": [GOOD, None]},
        {"version": 1, "size": "all", "members": [GOOD]},
    ],
)
def test_a_sidecar_of_another_form_is_named_and_says_what_it_must_hold(make_tar, record, fields):
    folder = make_tar([("a.json", record.to_json())])
    if isinstance(fields, dict) and fields:
        fields = {"size": (folder / "00000.tar").stat().st_size, **fields}
    (folder / "00000.index.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match=r"00000\.index\.json: must hold .*\[name, offset, size\]") as caught:
        ShardIndex(folder)
    assert caught.value.cause == "broken shard"


@pytest.mark.parametrize("raw", [b"", b"no json", b"\xff\xfe", b"[" * 100_000])
def test_a_sidecar_that_is_no_json_is_named(make_tar, record, raw):
    folder = make_tar([("a.json", record.to_json())])
    (folder / "00000.index.json").write_bytes(raw)
    with pytest.raises(DataError, match=r"00000\.index\.json: must hold"):
        ShardIndex(folder)


@pytest.mark.parametrize(("offset", "size"), [(-1, 10), (512, -1), (512, 10**15), (10**30, 1), (10240, 1), (10239, 2)])
def test_a_sidecar_that_points_out_of_its_tar_is_refused(make_tar, record, offset, size):
    folder = make_tar([("a.json", record.to_json())])
    assert (folder / "00000.tar").stat().st_size == 10240
    (folder / "00000.index.json").write_text(
        json.dumps({"version": 1, "size": 10240, "members": [["a.json", offset, size]]})
    )
    with pytest.raises(DataError, match=r"00000\.tar: .*member 'a\.json' claims") as caught:
        ShardIndex(folder)
    assert caught.value.cause == "broken shard"


def test_shard_sizes_count_the_questions_of_each_shard(shards, make_tar, record):
    # 2 clips of 5 questions, 2, and 1
    assert ShardIndex(shards).shard_sizes == [10, 10, 5]
    make_tar([("a.json", record.to_json())], name="0.tar")
    folder = make_tar([(f"b.q{i}.json", record.to_json()) for i in range(3)], name="1.tar")
    assert ShardIndex(folder).shard_sizes == [1, 3]


def test_keys_are_those_of_the_entries_in_order(shards):
    index = ShardIndex(shards)
    assert list(index.keys()) == [entry.key for entry in index]


def test_positions_count_from_the_end_too_and_end(shards):
    index = ShardIndex(shards)
    assert index[-1] == index[24]
    assert index[-25] == index[0]
    for position in (25, -26):
        with pytest.raises(IndexError):
            index[position]


def test_a_record_without_a_clip_in_between_does_not_shift_the_others(make_tar, record):
    raw = record.to_json()
    names = ["a.mp4", "a.json", "only-a-clip.mp4", "b.json", "c.wav", "c.q1.json", "c.q0.json", "c.jpg"]
    index = ShardIndex(make_tar([(name, raw if name.endswith("json") else name.encode()) for name in names]))
    assert list(index.keys()) == ["a", "b", "c/q0", "c/q1"]
    assert index.by_key("a").members["mp4"].read() == b"a.mp4"
    assert {name: span.read() for name, span in index[3].members.items() if name in ("wav", "jpg")} == {
        "wav": b"c.wav",
        "jpg": b"c.jpg",
    }
    assert [index.next_sample(entry).key for entry in index] == ["b", "c/q0", "a", "a"]


@pytest.mark.parametrize("buckets", [1, 3])
def test_keys_that_share_a_hash_are_told_apart(shards, make_tar, record, monkeypatch, buckets):
    monkeypatch.setattr(columns_module, "hash_of", lambda name: sum(name.encode()) % buckets)
    index = ShardIndex(shards)
    assert [index.by_key(key).key for key in index.keys()] == list(index.keys())  # noqa: SIM118
    assert "train-000000" not in index
    make_tar([("x.json", record.to_json()), ("a.json", record.to_json())], name="00000.tar")
    folder = make_tar([("b.json", record.to_json()), ("a.json", record.to_json())], name="00001.tar")
    with pytest.raises(DataError, match=r"00001\.tar: key 'a' comes twice"):
        ShardIndex(folder)


def test_two_samples_that_give_one_key_are_refused(make_tar, record):
    folder = make_tar([("a.q.json", record.to_json()), ("a/q.json", record.to_json())])  # both are called a/q
    with pytest.raises(DataError, match=r"key 'a/q' comes twice") as caught:
        ShardIndex(folder)
    assert caught.value.cause == "duplicate key"


def test_names_in_any_script_come_back(make_tar, record):
    names = ["Überraschung", "日本\u3000語", "क्षि", "👩\u200d🔬", "a b"]
    index = ShardIndex(make_tar([(f"{name}.json", record.to_json()) for name in names]))
    assert [entry.key for entry in index] == list(index.keys()) == names
    assert all(index.by_key(name).sample == name for name in names)


def test_an_index_and_its_entries_can_be_sent_to_another_process(shards):
    index = ShardIndex(shards)
    copy = pickle.loads(pickle.dumps(index))  # noqa: S301
    assert list(copy) == list(index)
    assert copy.by_key("train-000003/q2") == index.by_key("train-000003/q2")
    assert len(pickle.dumps(index[0])) < 1000


def test_an_index_of_a_hundred_thousand_members_takes_sixty_bytes_for_each(tmp_path):
    members = [[f"videos/clip-{i // 2:09d}.{'json' if i % 2 else 'mp4'}", 512 * i, 1] for i in range(100_000)]
    size = 512 * 100_000
    (tmp_path / "0.tar").touch()
    os.truncate(tmp_path / "0.tar", size)
    (tmp_path / "0.index.json").write_text(json.dumps({"version": 1, "size": size, "members": members}))
    index = ShardIndex(tmp_path)
    assert len(index) == 50_000
    assert index.by_key("videos/clip-000031415").record.offset == 512 * 62_831
    assert len(pickle.dumps(index)) < 60 * 100_000  # names of 21 bytes, one for two members, are 10.5 of them


def test_a_progress_bar_is_shown_when_it_takes_a_while_and_only_then(shards, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(Progress, "start", lambda self: started.append(self))
    ShardIndex(shards)
    assert not started
    monkeypatch.setattr(index_module, "_QUIET", -1.0)
    ShardIndex(shards)
    assert len(started) == 1
    monkeypatch.setenv("LOCAL_RANK", "1")
    ShardIndex(shards)
    assert len(started) == 1
    assert capsys.readouterr().out == ""


# Over the network


def test_a_remote_folder_gives_the_same_questions_as_a_local_one(shards, serve):
    names = [Path(shard).name for shard in find_shards(shards)]
    server = serve(shards)
    index = ShardIndex(f"{server.url}/{{{','.join(names)}}}")
    assert list(index.keys()) == list(ShardIndex(shards).keys())
    assert index.shard_sizes == [10, 10, 5]
    for position in (0, 24, 13):
        ours, theirs = index[position], ShardIndex(shards)[position]
        assert ours.record.read() == theirs.record.read()
        assert ours.members["mp4"].read() == theirs.members["mp4"].read()


def test_sidecars_spare_the_headers_of_remote_shards(shards, serve):
    server = serve(shards)
    ShardIndex(f"{server.url}/0000{{0..2}}.tar")
    # for each shard its sidecar, and one byte of the tar, for its size
    assert sorted(server.requests) == sorted(
        request for i in range(3) for request in ((f"/0000{i}.index.json", None), (f"/0000{i}.tar", "bytes=0-0"))
    )


def test_headers_of_a_remote_shard_are_read_without_its_media(make_tar, record, serve):
    size = 3_000_000
    names = [f"c{i}" for i in range(6)]
    folder = make_tar([m for n in names for m in ((f"{n}.mp4", bytes(size)), (f"{n}.json", record.to_json()))])
    server = serve(folder)
    index = ShardIndex(f"{server.url}/00000.tar")
    assert list(index.keys()) == names
    # 12 headers and an end, 64 KB or twice that for each, of 18 MB
    assert sum(server.sent) < 14 * 2 * 65_536
    assert index[5].record.read() == record.to_json()


def test_a_remote_shard_that_is_cut_or_missing_is_named(tmp_path, samples, serve):
    [shard] = write_shards(tmp_path / "d", samples[:2])
    drop_sidecars(tmp_path / "d")
    os.truncate(shard, shard.stat().st_size // 2)
    server = serve(tmp_path / "d")
    with pytest.raises(DataError, match=r"127.*00000\.tar: the shard cannot be read"):
        ShardIndex(f"{server.url}/00000.tar")
    with pytest.raises(DataError, match=r"127.*00001\.tar: No such file"):
        ShardIndex(f"{server.url}/00001.tar")


def test_a_remote_sidecar_that_does_not_fit_is_an_error_too(tmp_path, samples, serve):
    [shard] = write_shards(tmp_path / "d", samples[:1])
    os.truncate(shard, shard.stat().st_size + 512)
    with pytest.raises(DataError, match=r"00000\.index\.json: .*write the index anew"):
        ShardIndex(f"{serve(tmp_path / 'd').url}/00000.tar")
