import os
import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

import avatar
from avatar.data.index import ShardIndex, write_shard_index
from avatar.data.shards import write_shards
from avatar.data.sources import find_shards
from avatar.errors import DataError


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def members_of(shard):
    """[(TarInfo, bytes)]"""
    with tarfile.open(shard) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]


def test_equal_samples_give_equal_bytes(tmp_path, samples):
    for name in ("a", "b"):
        write_shards(tmp_path / name, iter(samples), clips_per_shard=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_no_clock_and_no_user_gets_into_a_shard(shards):
    members = [member for path in find_shards(shards) for member, _ in members_of(path)]
    assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o444)}


def test_what_was_written_is_read_back_in_order(shards, samples, streamed):
    assert streamed(shards) == samples


def test_each_shard_has_its_index_beside_it(shards):
    assert list(contents(shards)) == [f"0000{i}.{kind}" for i in range(3) for kind in ("index.json", "tar")]
    for shard in find_shards(shards):
        before = Path(shard).with_suffix(".index.json").read_bytes()
        assert write_shard_index(Path(shard)).read_bytes() == before


def test_shards_hold_the_given_number_of_clips_and_the_last_the_rest(shards):
    # 5 clips, 2 a shard: 2, 2, 1
    assert [Path(path).name for path in find_shards(shards)] == ["00000.tar", "00001.tar", "00002.tar"]
    assert [sum(m.name.endswith(".mp4") for m, _ in members_of(p)) for p in find_shards(shards)] == [2, 2, 1]


def test_a_clip_is_stored_once_however_many_questions_it_has(shards, samples):
    stored = [payload for p in find_shards(shards) for m, payload in members_of(p) if m.name.endswith(".mp4")]
    assert stored == [mp4 for _, mp4, _ in samples]


def test_a_dozen_questions_about_one_clip_keep_their_order(tmp_path, record, streamed):
    records = [replace(record, question=f"question {i} ?") for i in range(12)]
    write_shards(tmp_path / "d", [("clip", b"mp4", records)])
    [(_, _, read)] = streamed(tmp_path / "d")
    assert [r.question for r in read] == [r.question for r in records]


@pytest.mark.parametrize("keys", [("clip.1", "clip.2"), ("v1.0/clip",)])
def test_a_key_with_a_dot_in_it_comes_back_or_is_refused(tmp_path, record, streamed, keys):
    written = [(key, key.encode(), [record]) for key in keys]
    try:
        write_shards(tmp_path / "d", written)
    except (DataError, ValueError):
        return
    assert streamed(tmp_path / "d") == written


@pytest.mark.parametrize("key", ["clip 1", "folder/clip", "Überraschung", "__clip__", "CLIP", "k" * 120])
def test_other_odd_keys_come_back(tmp_path, record, streamed, key):
    write_shards(tmp_path / "d", [(key, b"mp4", [record])])
    assert streamed(tmp_path / "d") == [(key, b"mp4", [record])]


def test_a_writer_that_dies_leaves_no_folder_and_the_next_one_succeeds(tmp_path, samples, streamed):
    def dying():
        yield from samples[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "d", dying(), clips_per_shard=2)
    assert not (tmp_path / "d").exists()
    write_shards(tmp_path / "d", samples, clips_per_shard=2)
    assert streamed(tmp_path / "d") == samples
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_writer_that_dies_leaves_the_older_data_alone(tmp_path, samples, streamed):
    def dying():
        yield samples[0]
        raise OSError("disk full")

    write_shards(tmp_path / "d", samples)
    with pytest.raises(OSError, match="disk full"):
        write_shards(tmp_path / "d", dying())
    assert streamed(tmp_path / "d") == samples


def test_writing_again_leaves_no_shard_of_the_older_data(tmp_path, samples, streamed):
    write_shards(tmp_path / "d", samples, clips_per_shard=1)
    write_shards(tmp_path / "d", samples[:2], clips_per_shard=1)
    assert streamed(tmp_path / "d") == samples[:2]


@pytest.mark.parametrize("key", ["../clip", "/clip", "a/../b", "C:/clip", "a\\b", "a\nb"])
def test_a_key_that_could_not_be_read_back_is_refused_and_leaves_no_folder(tmp_path, record, key):
    with pytest.raises(DataError, match=r"member .* (leads out|control characters)"):
        write_shards(tmp_path / "d", [(key, b"mp4", [record])])
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("payload", [b"this is a text file\n" * 100, b"", b"short", b"\x1f\x8b\x08 no gzip either"])
def test_a_file_called_tar_that_is_none_is_named(tmp_path, payload):
    (tmp_path / "00000.tar").write_bytes(payload)
    for read in (ShardIndex, lambda folder: write_shard_index(folder / "00000.tar")):
        with pytest.raises(DataError, match=r"00000\.tar: .+") as caught:
            read(tmp_path)
        assert caught.value.cause == "broken shard"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "named pipe"])
@pytest.mark.timeout(20)
def test_a_folder_or_a_named_pipe_called_tar_is_named(tmp_path, make):
    make(tmp_path / "00000.tar")
    with pytest.raises(DataError, match=r"00000\.tar: a folder or a device"):
        ShardIndex(tmp_path)


def test_importing_the_shards_switches_webdataset_to_its_secure_mode():
    script = "import os, avatar.data.shards, webdataset.utils as u; print(os.environ['WDS_SECURE'], u.enforce_security)"
    clean = {name: value for name, value in os.environ.items() if name != "WDS_SECURE"}
    shown = subprocess.run([sys.executable, "-c", script], env=clean, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["1", "True"]


def test_wherever_webdataset_is_imported_it_is_made_secure_before():
    rooms = [path for path in Path(avatar.__file__).parent.rglob("*.py") if "webdataset" in path.read_text()]
    importing = {}
    for path in rooms:
        lines = path.read_text().splitlines()
        found = [i for i, line in enumerate(lines) if re.match(r"\s*(import|from) webdataset", line)]
        secure = [i for i, line in enumerate(lines) if line.startswith('os.environ.setdefault("WDS_SECURE", "1")')]
        importing |= {path.name: bool(secure) and secure[0] < found[0]} if found else {}
    assert importing["shards.py"]
    assert all(importing.values()), importing
