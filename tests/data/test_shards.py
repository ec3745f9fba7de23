import io
import os
import pickle
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from avatar.data.dataset import Failure, PromptDataset, PromptStyle
from avatar.data.index import ShardIndex
from avatar.data.shards import find_shards, stream_samples, write_shards
from avatar.errors import DataError


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def members_of(shard):
    """[(TarInfo, bytes)]"""
    with tarfile.open(shard) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]


def offset_of(shard, name):
    with tarfile.open(shard) as tar:
        return tar.getmember(name).offset


def test_equal_samples_give_equal_bytes(tmp_path, samples):
    for name in ("a", "b"):
        write_shards(tmp_path / name, iter(samples), clips_per_shard=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_no_clock_and_no_user_gets_into_a_shard(shards):
    members = [member for path in find_shards(shards) for member, _ in members_of(path)]
    assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o444)}


def test_what_was_written_is_read_back_in_order(shards, samples):
    assert list(stream_samples(shards)) == samples


def test_shards_hold_the_given_number_of_clips_and_the_last_the_rest(shards):
    # 5 clips, 2 a shard: 2, 2, 1
    assert [path.name for path in find_shards(shards)] == ["00000.tar", "00001.tar", "00002.tar"]
    assert [sum(m.name.endswith(".mp4") for m, _ in members_of(p)) for p in find_shards(shards)] == [2, 2, 1]


def test_a_clip_is_stored_once_however_many_questions_it_has(shards, samples):
    stored = [payload for p in find_shards(shards) for m, payload in members_of(p) if m.name.endswith(".mp4")]
    assert stored == [mp4 for _, mp4, _ in samples]


def test_a_dozen_questions_about_one_clip_keep_their_order(tmp_path, record):
    records = [replace(record, question=f"question {i} ?") for i in range(12)]
    write_shards(tmp_path / "d", [("clip", b"mp4", records)])
    [(_, _, streamed)] = stream_samples(tmp_path / "d")
    assert [r.question for r in streamed] == [r.question for r in records]


@pytest.mark.parametrize("keys", [("clip.1", "clip.2"), ("v1.0/clip",)])
def test_a_key_with_a_dot_in_it_comes_back_or_is_refused(tmp_path, record, keys):
    written = [(key, key.encode(), [record]) for key in keys]
    try:
        write_shards(tmp_path / "d", written)
    except (DataError, ValueError):
        return
    assert list(stream_samples(tmp_path / "d")) == written


@pytest.mark.parametrize("key", ["clip 1", "folder/clip", "Überraschung", "__clip__", "CLIP", "k" * 120])
def test_other_odd_keys_come_back(tmp_path, record, key):
    write_shards(tmp_path / "d", [(key, b"mp4", [record])])
    assert list(stream_samples(tmp_path / "d")) == [(key, b"mp4", [record])]


def test_a_writer_that_dies_leaves_no_folder_and_the_next_one_succeeds(tmp_path, samples):
    def dying():
        yield from samples[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "d", dying(), clips_per_shard=2)
    assert not (tmp_path / "d").exists()
    write_shards(tmp_path / "d", samples, clips_per_shard=2)
    assert list(stream_samples(tmp_path / "d")) == samples
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_writer_that_dies_leaves_the_older_data_alone(tmp_path, samples):
    def dying():
        yield samples[0]
        raise OSError("disk full")

    write_shards(tmp_path / "d", samples)
    with pytest.raises(OSError, match="disk full"):
        write_shards(tmp_path / "d", dying())
    assert list(stream_samples(tmp_path / "d")) == samples


def test_writing_again_leaves_no_shard_of_the_older_data(tmp_path, samples):
    write_shards(tmp_path / "d", samples, clips_per_shard=1)
    write_shards(tmp_path / "d", samples[:2], clips_per_shard=1)
    assert list(stream_samples(tmp_path / "d")) == samples[:2]


def test_a_missing_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such shard folder.*avatar data synth --out"):
        find_shards(tmp_path / "nowhere")


def test_a_folder_without_shards_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no shard")
    with pytest.raises(DataError, match=r"no shard \(\*\.tar\)"):
        find_shards(tmp_path)


@pytest.mark.parametrize("reader", [ShardIndex, lambda folder: list(stream_samples(folder))])
@pytest.mark.parametrize("payload", [b"this is a text file\n" * 100, b"", b"short", b"\x1f\x8b\x08 no gzip either"])
def test_a_file_called_tar_that_is_none_is_named(tmp_path, reader, payload):
    (tmp_path / "00000.tar").write_bytes(payload)
    with pytest.raises(DataError, match=r"00000\.tar: .+"):
        reader(tmp_path)


@pytest.mark.parametrize("reader", [ShardIndex, lambda folder: list(stream_samples(folder))])
def test_a_folder_called_tar_is_named(tmp_path, reader):
    (tmp_path / "00000.tar").mkdir()
    with pytest.raises(DataError, match=r"00000\.tar: .+"):
        reader(tmp_path)


def test_a_wrong_record_is_named_by_shard_and_clip(make_tar, record):
    folder = make_tar([("good.json", record.to_json()), ("bad.json", b'{"question": "q"}')])
    with pytest.raises(DataError, match=r"00000\.tar: bad: field 'answer' is missing"):
        list(stream_samples(folder))


def test_a_shard_cut_inside_a_clip_stops_the_stream_by_name(tmp_path, samples):
    [shard] = write_shards(tmp_path / "d", samples)
    os.truncate(shard, offset_of(shard, "train-000003.mp4") + 512 + len(samples[3][1]) // 2)
    with pytest.raises(DataError, match=r"00000\.tar: the shard cannot be read \(unexpected end of data"):
        list(stream_samples(tmp_path / "d"))


def test_wherever_a_shard_is_cut_the_stream_fails_or_gives_all(tmp_path, record):
    written = [(f"c{i}", bytes(700), [record, record]) for i in range(3)]
    [shard] = write_shards(tmp_path / "d", written)
    whole, silently_shorter = shard.read_bytes(), []
    for end in range(0, len(whole), 256):  # each block of 512 bytes: at its start and in its middle
        shard.write_bytes(whole[:end])
        try:
            read = list(stream_samples(tmp_path / "d"))
        except DataError:
            continue
        if read != written:
            silently_shorter.append(end)
    assert silently_shorter == []


def test_a_garbled_header_in_the_middle_stops_the_stream(tmp_path, samples):
    [shard] = write_shards(tmp_path / "d", samples)
    garbled, at = bytearray(shard.read_bytes()), offset_of(shard, "train-000002.mp4")
    garbled[at + 148 : at + 156] = b"99999999"  # its checksum
    shard.write_bytes(garbled)
    with pytest.raises(DataError, match=r"00000\.tar"):
        list(stream_samples(tmp_path / "d"))


def test_importing_the_shards_switches_webdataset_to_its_secure_mode():
    script = "import os, avatar.data.shards, webdataset.utils as u; print(os.environ['WDS_SECURE'], u.enforce_security)"
    clean = {name: value for name, value in os.environ.items() if name != "WDS_SECURE"}
    shown = subprocess.run([sys.executable, "-c", script], env=clean, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["1", "True"]


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def hostile(tmp_path, samples, record):
    """(shard folder, what lay below ``tmp_path`` before anyone read it, the marker of the bombs)."""
    folder, marker = tmp_path / "outer" / "shards", tmp_path / "marker"
    folder.mkdir(parents=True)
    (tmp_path / "outer" / "x.json").write_bytes(record.to_json())
    bomb, (_, mp4, records) = pickle.dumps(Bomb(marker)), samples[0]
    shown_bomb = replace(record, media={"video": "pickle"})
    files = {
        "good.mp4": mp4,
        "good.json": records[0].to_json(),
        **{f"good.{extension}": bomb for extension in ("pyd", "pkl", "pickle", "pth", "npy", "cbor", "tb")},
        "bomb.pickle": bomb,
        "bomb.json": shown_bomb.to_json(),
        "bomb2.mp4": bomb,
        "bomb2.json": records[0].to_json(),
        "linked.json": records[0].to_json(),
        "pathed.json": replace(record, media={"video": "/../../outer/x.json"}).to_json(),
        "../x.json": b"{}",
        f"{tmp_path}/absolute.json": b"{}",
    }
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for name, payload in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
        for name, kind, target in (
            ("linked.mp4", tarfile.SYMTYPE, str(tmp_path / "outer" / "x.json")),
            ("hard.json", tarfile.LNKTYPE, "/etc/hostname"),
            ("pipe.json", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return folder, marker


def below(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.timeout(60)
def test_reading_hostile_members_runs_nothing_and_writes_nothing(hostile, tmp_path):
    folder, marker = hostile
    before = below(tmp_path)
    with pytest.raises(DataError):  # the record {} of ../x.json
        list(stream_samples(folder))
    dataset = PromptDataset([folder], PromptStyle())
    outcomes = [dataset[i] for i in range(len(dataset))]
    assert below(tmp_path) == before
    assert not marker.exists()
    failed = {item.key for item in outcomes if isinstance(item, Failure)}
    assert {"bomb", "bomb2", "linked", "pathed"} <= failed
    assert {item.key for item in outcomes} - failed == {"good"}
    assert not {"hard", "pipe"} & {item.key for item in outcomes}


def test_the_bomb_of_these_tests_is_live(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "marker")))  # noqa: S301
    assert (tmp_path / "marker").exists()
