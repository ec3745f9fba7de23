"""A pack that was killed goes on where it stopped, and ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from avatar.data.pack import pack, samples
from avatar.data.pack.output import Output
from avatar.errors import ConfigError

COMMAND = "import sys; from avatar.data.pack import pack; pack(sys.argv[1], out=sys.argv[2], max_shard_mb=1, jobs=2)"
NUM = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory, media):
    """train.jsonl: 60 clips of 0.2 MB each, each with two questions and a broken one; one clip in ten is broken."""
    folder = tmp_path_factory.mktemp("resume")
    rows = []
    for i in range(NUM):
        raw = (media / f"clips/{'abc'[i % 3]}.mp4").read_bytes()
        pad = (200_000).to_bytes(4, "big") + b"free" + i.to_bytes(4, "big") * 49_998
        (folder / f"{i}.mp4").write_bytes(b"text" if i % 10 == 7 else raw + pad)
        asked = {"question": "how many?", "problem_type": "number", "media": [{"video": f"{i}.mp4"}]}
        rows += [{**asked, "key": f"c{i}/q{j}", "answer": str(j)} for j in range(2)]
        rows.append({**asked, "key": f"bad{i}", "answer": "?"})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def whole(data):
    """The files of an uninterrupted pack of it."""
    assert pack(str(data / "train.jsonl"), out=str(data / "whole"), max_shard_mb=1, jobs=1) == 0
    return tree(data / "whole")


@pytest.fixture(scope="module")
def killed(data):
    """What a pack of it left behind that was killed after two shards."""
    process = start(data / "train.jsonl", data / "killed")
    wait_for_shards(process, data / "killed.partial", 2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    process.communicate()
    assert not (data / "killed").exists()  # it appears when it is whole
    return data / "killed.partial"


@pytest.fixture
def source(data, tmp_path):
    """The source, in a folder of its own."""
    (tmp_path / "data").mkdir()
    for path in data.iterdir():
        if path.suffix in (".mp4", ".jsonl"):
            os.link(path, tmp_path / "data" / path.name)
    return tmp_path / "data/train.jsonl"


@pytest.fixture
def out(killed, tmp_path):
    """Where a pack is to go on that was killed."""
    shutil.copytree(killed, tmp_path / "out.partial")
    return tmp_path / "out"


def start(source, out):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMAND, str(source), str(out)]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shards_in(partial):
    journal = partial / "journal.jsonl"
    return len(journal.read_bytes().splitlines()) - 1 if journal.exists() else 0


def wait_for_shards(process, partial: Path, num: int) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and shards_in(partial) < num:
        time.sleep(0.002)


@pytest.mark.slow
def test_a_pack_killed_again_and_again_is_that_of_an_uninterrupted_run(whole, source, out):
    assert len([name for name in whole if name.endswith(".tar")]) > 10
    seen = [shards_in(out.with_name("out.partial"))]
    while len(seen) < 4:
        process = start(source, out)
        wait_for_shards(process, out.with_name("out.partial"), seen[-1] + 2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen.append(shards_in(out.with_name("out.partial")))
    assert 2 <= seen[0] < seen[1] < seen[2] < seen[3]  # what was done stayed
    assert pack(str(source), out=str(out), max_shard_mb=1, jobs=2) == 0
    assert tree(out) == whole


def test_a_pack_that_was_killed_ends_as_an_uninterrupted_one(whole, source, out):
    first = (out.with_name("out.partial") / "00000.tar").stat().st_mtime_ns
    assert pack(str(source), out=str(out), max_shard_mb=1, jobs=2) == 0
    assert tree(out) == whole
    assert (out / "00000.tar").stat().st_mtime_ns == first  # it was not written again
    assert not out.with_name("out.partial").exists()
    reasons = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert len(reasons) == NUM + 2 * (NUM // 10)  # a bad record each, and both questions about each broken clip


def test_it_goes_on_behind_its_last_whole_shard_whatever_else_was_left(whole, source, out):
    partial = out.with_name("out.partial")
    done = shards_in(partial)
    with (partial / "journal.jsonl").open("ab") as journal, (partial / "unshown.jsonl").open("ab") as unshown:
        journal.write(b'{"shard": {"na')  # a line that was cut off
        unshown.write(b'{"key": "of a group behind the shard"}\n' * 10_000)
    (partial / f"{done:05d}.tar").write_bytes(b"half a shard")
    (partial / "carried").mkdir(exist_ok=True)
    assert pack(str(source), out=str(out), max_shard_mb=1, jobs=1) == 0
    assert tree(out) == whole


def test_another_source_or_other_options_are_not_mixed_in(source, out, tmp_path):
    with pytest.raises(ConfigError, match=r"interrupted, and it is not the same \(options differs\)"):
        pack(str(source), out=str(out), max_shard_mb=2, jobs=1)
    text = source.read_text()
    source.unlink()  # it is a link to that of the other tests
    source.write_text(text.replace("how many", "how much"))
    with pytest.raises(ConfigError, match=r"\(fingerprint differs\).*--overwrite true"):
        pack(str(source), out=str(out), max_shard_mb=1, jobs=1)
    assert pack(str(source), out=str(out), max_shard_mb=1, jobs=1, overwrite=True) == 0
    assert pack(str(source), out=str(tmp_path / "whole"), max_shard_mb=1, jobs=1) == 0
    assert tree(out) == tree(tmp_path / "whole")


def test_a_shard_that_was_changed_since_is_noticed(source, out):
    with (out.with_name("out.partial") / "00000.tar").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ConfigError, match=r"00000\.tar is not as it was written"):
        pack(str(source), out=str(out), max_shard_mb=1, jobs=1)


def test_two_at_a_time_do_not_write_the_same_folder(source, out):
    identity = json.loads((out.with_name("out.partial") / "journal.jsonl").read_bytes().splitlines()[0])["pack"]
    with closing(Output(out, identity, 1, overwrite=False)):
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match="being written by another process"):
                pack(str(source), out=str(out), max_shard_mb=1, jobs=1, overwrite=overwrite)
    assert pack(str(source), out=str(out), max_shard_mb=1, jobs=1) == 0


def test_a_pack_of_a_table_with_clips_in_it_goes_on_too(folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    clips = [
        (folder / f"clips/{c}.mp4").read_bytes() + (300_000).to_bytes(4, "big") + b"free" + bytes(299_992)
        for c in "abc"
    ]
    rows = [{"bytes": clips[i % 3] + (8 + i).to_bytes(4, "big") + b"free" + bytes(i), "path": None} for i in range(12)]
    columns = {"question": ["q"] * 12, "answer": [str(i) for i in range(12)], "video": rows}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "all.parquet")
    run = {"max_shard_mb": 1, "jobs": 1}
    assert pack(str(tmp_path / "all.parquet"), out=str(tmp_path / "whole"), **run) == 0
    real, calls = samples.Samples.collect, []

    def stop_after_eight(self, pending):
        calls.append(pending)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(self, pending)

    monkeypatch.setattr(samples.Samples, "collect", stop_after_eight)
    with pytest.raises(KeyboardInterrupt):
        pack(str(tmp_path / "all.parquet"), out=str(tmp_path / "out"), **run)
    assert len(list((tmp_path / "out.partial").glob("*.index.json"))) == 2  # three clips of 0.3 MB a shard
    monkeypatch.setattr(samples.Samples, "collect", real)
    assert pack(str(tmp_path / "all.parquet"), out=str(tmp_path / "out"), **run) == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
