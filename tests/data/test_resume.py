"""Training that is killed in the middle of an epoch and goes on sees every sample exactly once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from random import Random

import psutil
import pytest
from tests_resume import newest

from avatar.data.micro import draw_split, render_mp4
from avatar.data.shards import write_shards

TESTS = Path(__file__).parent.parent
NUM_CLIPS = 24  # 120 records: 40 batches of 3


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "shards"
    write_shards(
        folder, ((key, render_mp4(scene), records) for key, scene, records in draw_split("train", NUM_CLIPS, 1)), 5
    )
    return folder


@pytest.fixture(scope="module")
def keys(shards):
    return sorted(f"train-{clip:06d}/q{i}" for clip in range(NUM_CLIPS) for i in range(5))


@pytest.fixture
def start(tmp_path):
    """Start a stand-in as the head of a process group; what is left of it is killed when the test is over."""
    started = []

    def make(*arguments):
        paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        with (tmp_path / f"stderr-{len(started)}").open("w") as told:
            process = subprocess.Popen(
                [sys.executable, str(TESTS / "tests_resume.py"), *map(str, arguments)], start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}, stdout=told, stderr=told,
            )  # fmt: skip
        process.told = Path(told.name)
        started.append(process)
        return process

    yield make
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition, processes, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        for process in processes:
            assert process.poll() in (None, 0), process.told.read_text()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def finish(*processes):
    for process in processes:
        assert process.wait(240) == 0, process.told.read_text()


def group_of(process):
    """All processes of its session that are alive."""
    alive = []
    for other in psutil.process_iter():
        try:
            if os.getsid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                alive.append(other.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return alive


def batches_in(diary):
    return json.loads(diary.read_text())["batches"] if diary.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_with_two_decoders_each_killed_in_mid_epoch_see_every_sample_exactly_once(
    shards, keys, start, tmp_path
):
    rng, diaries = Random(4), [tmp_path / f"rank{rank}.json" for rank in range(2)]
    for kill in range(2):
        ranks = [start("plain", shards, diary, rank, 2) for rank, diary in enumerate(diaries)]
        alive = {
            rank: (diary, len(batches_in(diary)) + rng.randint(2, 6))
            for rank, diary in zip(ranks, diaries, strict=True)
        }
        while alive:
            for rank, (diary, num) in list(alive.items()):
                if len(batches_in(diary)) >= num:
                    time.sleep(rng.uniform(0, 0.05))
                    rank.kill()  # its decoders are left to find out for themselves
                    rank.wait()
                    del alive[rank]
            wait_for(lambda: True, alive)
            time.sleep(0.005)
        assert all(0 < len(batches_in(diary)) < 20 for diary in diaries), f"kill {kill} came too late"
        for rank in ranks:
            wait_for(lambda rank=rank: not group_of(rank), [])
    finish(*(start("plain", shards, diary, rank, 2) for rank, diary in enumerate(diaries)))
    seen = [batches_in(diary) for diary in diaries]
    assert [len(batches) for batches in seen] == [20, 20]
    assert sorted(chain(*chain(*seen))) == keys


def steps_of(folder):
    """[(step, keys)] that the ranks have noted, in the order of each."""
    rows = []
    for path in sorted(folder.glob("steps-*.jsonl")):
        rows += [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], row["keys"]) for row in rows]


def kill_in_mid_epoch(process, folder, rng, until):
    """SIGKILL to all processes once so many steps are saved; the step that the newest checkpoint holds."""
    wait_for(lambda: (folder / f"step={until}.ckpt").exists(), [process])
    time.sleep(rng.uniform(0, 0.1))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not group_of(process), [])
    return int(Path(newest(folder)).stem.removeprefix("step="))


def run_with_kills(start, shards, folder, stages, max_epochs):
    """(keys of all saved steps, the last of these before a kill) of stages of (devices, step to be killed at)."""
    rng, kept, killed_at = Random(6), [], 0
    for devices, until in stages:
        process, saved = start("lightning", shards, folder, devices, max_epochs), 10**9
        if until is None:
            finish(process)
        else:
            saved = killed_at = kill_in_mid_epoch(process, folder, rng, until)
        kept += [keys for step, keys in steps_of(folder) if step <= saved]
        for path in folder.glob("steps-*.jsonl"):
            path.unlink()
    return list(chain(*kept)), killed_at


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_under_the_real_trainer_killed_in_mid_epoch_see_every_sample_exactly_once(
    shards, keys, start, tmp_path
):
    # 20 steps an epoch: killed at 5 or just after, at 12 or just after, and in the second epoch, at 26.
    seen, _ = run_with_kills(start, shards, tmp_path, [(2, 5), (2, 12), (2, 26), (2, None)], max_epochs=2)
    assert sorted(seen) == sorted(2 * keys)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("devices", "max_epochs"), [((1, 2), 2), ((2, 1), 1)])
def test_another_number_of_ranks_goes_on_exactly_there(shards, keys, start, tmp_path, devices, max_epochs):
    # 40 steps of one or 20 of two. After 10 of one 30 batches are left for two: the Trainer ends its epoch at 20 steps,
    # as it had begun one of 20, and the last 5 steps come in its next. After 10 of two 20 are left for one.
    before, after = devices
    seen, killed_at = run_with_kills(start, shards, tmp_path, [(before, 10), (after, None)], max_epochs)
    left_out = (40 - killed_at * before) % after  # after 11 of one there are 29 for two: the last batch waits
    assert max(Counter(seen).values()) == 1
    assert set(seen) <= set(keys)
    assert len(seen) == len(keys) - 3 * left_out
