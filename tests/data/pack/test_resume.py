"""A pack that was killed goes on where it stopped, and ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avatar.data.pack import pack
from avatar.errors import ConfigError

COMMAND = "import sys; from avatar.data.pack import pack; sys.exit(pack(sys.argv[1], out=sys.argv[2], max_shard_mb=1, jobs=2))"
NUM = 60


@pytest.fixture
def source(write, folder):
    """60 clips of 0.2 MB each with two questions, one of three clips broken in its own way."""
    rows = []
    for i in range(NUM):
        raw = (folder / f"clips/{'abc'[i % 3]}.mp4").read_bytes()
        pad = (200_000).to_bytes(4, "big") + b"free" + i.to_bytes(4, "big") * 49_998
        (folder / f"clips/{i}.mp4").write_bytes(b"text" if i % 10 == 7 else raw + pad)
        media = [{"video": f"clips/{i}.mp4"}]
        for j in range(2):
            rows.append({"key": f"c{i}/q{j}", "question": "how many?", "answer": str(j), "problem_type": "number", "media": media})
        rows.append({"key": f"bad{i}", "question": "how many?", "answer": "?", "problem_type": "number", "media": media})
    return write(rows)


def start(source, out):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMAND, str(source), str(out)]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wait_for_shards(process, partial: Path, num: int) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        journal = partial / "journal.jsonl"
        if journal.exists() and len(journal.read_bytes().splitlines()) > num:
            return
        time.sleep(0.002)


def test_a_pack_killed_again_and_again_is_that_of_an_uninterrupted_run(source, tmp_path):
    assert pack(str(source), out=str(tmp_path / "whole"), max_shard_mb=1, jobs=1) == 0
    whole = tree(tmp_path / "whole")
    assert len([name for name in whole if name.endswith(".tar")]) > 8
    kills, seen = 0, []
    for num in (1, 3, 6, 100):
        process = start(source, tmp_path / "killed")
        wait_for_shards(process, tmp_path / "killed.partial", num)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        if (tmp_path / "killed.partial/journal.jsonl").exists():
            seen.append(len((tmp_path / "killed.partial/journal.jsonl").read_bytes().splitlines()) - 1)
            assert not (tmp_path / "killed").exists()  # it appears when it is whole
    assert kills >= 2
    assert seen == sorted(seen)
    assert seen[0] >= 1  # shards that were done stay
    assert tree(tmp_path / "killed") == whole
    assert not (tmp_path / "killed.partial").exists()


@pytest.fixture
def halfway(source, tmp_path):
    """A pack of it that was killed after two shards."""
    process = start(source, tmp_path / "out")
    wait_for_shards(process, tmp_path / "out.partial", 2)
    process.kill()
    process.communicate()
    assert (tmp_path / "out.partial").exists()
    return tmp_path / "out"


def test_it_goes_on_behind_its_last_whole_shard_whatever_else_was_left(halfway, source, tmp_path, capsys):
    partial = tmp_path / "out.partial"
    journal = (partial / "journal.jsonl").read_bytes()
    done = len(journal.splitlines()) - 1
    (partial / "journal.jsonl").write_bytes(journal + b'{"shard": {"na')  # a line that was cut off
    (partial / f"{done:05d}.tar").write_bytes(b"half a shard")
    (partial / "unshown.jsonl").open("ab").write(b'{"key": "of a group behind the shard"}\n')
    first = (partial / "00000.tar").stat().st_mtime_ns
    assert pack(str(source), out=str(halfway), max_shard_mb=1, jobs=1) == 0
    assert (halfway / "00000.tar").stat().st_mtime_ns == first  # not written again
    assert pack(str(source), out=str(tmp_path / "whole"), max_shard_mb=1, jobs=1) == 0
    assert tree(halfway) == tree(tmp_path / "whole")
    reasons = [json.loads(line) for line in (halfway / "quarantine.jsonl").read_text().splitlines()]
    assert len(reasons) == NUM + 2 * (NUM // 10)  # a bad record each, and both questions about each broken clip


def test_another_source_or_other_options_are_not_mixed_in(halfway, source, tmp_path):
    with pytest.raises(ConfigError, match=r"interrupted, and it is not the same \(options differs\)"):
        pack(str(source), out=str(halfway), max_shard_mb=2, jobs=1)
    source.write_text(source.read_text().replace("how many", "how much"))
    with pytest.raises(ConfigError, match=r"\(fingerprint differs\).*--overwrite true"):
        pack(str(source), out=str(halfway), max_shard_mb=1, jobs=1)
    assert pack(str(source), out=str(halfway), max_shard_mb=1, jobs=1, overwrite=True) == 0
    assert pack(str(source), out=str(tmp_path / "whole"), max_shard_mb=1, jobs=1) == 0
    assert tree(halfway) == tree(tmp_path / "whole")


def test_a_shard_that_was_changed_since_is_noticed(halfway, source):
    with (halfway.with_name("out.partial") / "00000.tar").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ConfigError, match="00000.tar is not as it was written"):
        pack(str(source), out=str(halfway), max_shard_mb=1, jobs=1)


def test_two_at_a_time_do_not_write_the_same_folder(source, tmp_path):
    process = start(source, tmp_path / "out")
    wait_for_shards(process, tmp_path / "out.partial", 1)
    try:
        with pytest.raises(ConfigError, match="being written by another process"):
            pack(str(source), out=str(tmp_path / "out"), max_shard_mb=1, jobs=1)
    finally:
        process.kill()
        process.communicate()


def test_a_pack_of_a_table_with_clips_in_it_goes_on_too(folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    clips = [(folder / f"clips/{c}.mp4").read_bytes() + (300_000).to_bytes(4, "big") + b"free" + bytes(299_992) for c in "abc"]
    rows = [{"bytes": clips[i % 3] + (8 + i).to_bytes(4, "big") + b"free" + bytes(i), "path": None} for i in range(12)]
    columns = {"question": ["q"] * 12, "answer": [str(i) for i in range(12)], "video": rows}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "all.parquet")
    run = {"max_shard_mb": 1, "jobs": 1}
    assert pack(str(tmp_path / "all.parquet"), out=str(tmp_path / "whole"), **run) == 0
    from avatar.data.pack import samples

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
    shutil.rmtree(tmp_path / "out")
