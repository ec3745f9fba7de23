"""A sweep in real processes that are killed or stopped, started again by the same command, ends as if nothing had."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from tests_sweep import RUN_FILES, cell, command_line, environment, make_world, stamps, timeless

from avatar.commands.folders import locked

NAMES = ("GRPO-0", "GRPO-1", "TAS-0", "TAS-1")
ARGS = (
    "--config=base.yaml", "--axis=model.advantage=GRPO,TAS", "--axis=seed_everything=0,1", "--completions=96",
    "--validate_every=24", "--jobs=2",
)  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def world(micro, tmp_path_factory):
    """With a finished sweep in ``runs/whole``."""
    folder = make_world(tmp_path_factory.mktemp("kills"), micro)
    assert finish(folder, "runs/whole")[0] == 0
    return folder


def start(world, out, *more):
    return subprocess.Popen(
        command_line(*ARGS, f"--out={out}", *more), cwd=world, env=environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(world, out, *more):
    """(status, what it said, what it complained of)."""
    process = start(world, out, *more)
    said, complained = process.communicate(timeout=900)
    assert "Traceback" not in complained
    return process.returncode, said, complained


def wait_until(condition, process):
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def statuses(folder):
    return {path.parent.name: json.loads(path.read_text())["status"] for path in folder.glob("cells/*/cell.json")}


def steps(folder, name):
    path = folder / "cells" / name / "metrics.csv"
    return len(path.read_text().splitlines()) if path.exists() else 0


def half_way(folder):
    """One cell is finished, and another has made some steps."""
    now = statuses(folder)
    under_way = [name for name, status in now.items() if status == "running" and steps(folder, name) > 8]
    return "finished" in now.values() and under_way


def workers_of(process):
    """Process ids of its children that run cells."""
    children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "sweep.worker"], capture_output=True, text=True)
    return [int(line) for line in children.stdout.split()]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def assert_same(folder, whole):
    for name in NAMES:
        assert timeless(cell(folder, name)["result"]) == timeless(cell(whole, name)["result"])
        for file in RUN_FILES:
            ours, theirs = (f / "cells" / name / file for f in (folder, whole))
            assert ours.read_bytes() == theirs.read_bytes(), f"{name}/{file}"


def test_a_killed_sweep_takes_its_workers_along_and_the_same_command_does_the_rest(world):
    folder = world / "runs/killed"
    process = start(world, "runs/killed")
    wait_until(lambda: half_way(folder), process)
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(map(is_alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with locked(folder, "a test"):
        pass
    done = [name for name, status in statuses(folder).items() if status == "finished"]
    before = stamps(folder, *done)
    status, said, _ = finish(world, "runs/killed")
    assert status == 0
    assert f"{len(done)} of 4 cells are finished already" in said
    assert stamps(folder, *done) == before
    assert [cell(folder, name)["attempts"] for name in done] == [1] * len(done)
    assert any(cell(folder, name)["attempts"] == 2 for name in NAMES)
    assert_same(folder, world / "runs/whole")


def test_a_killed_worker_fails_its_cell_alone_and_the_next_command_resumes_it(world):
    folder = world / "runs/worker"
    process = start(world, "runs/worker", "--jobs=1")
    wait_until(lambda: steps(folder, "GRPO-1") > 8, process)
    (worker,) = workers_of(process)
    os.kill(worker, signal.SIGKILL)
    _, complained = process.communicate(timeout=600)
    assert process.returncode == 1
    assert re.search(r"failed: GRPO-1: its process ended with signal 9 \(out of memory\?\)", complained)
    assert statuses(folder) == dict.fromkeys(NAMES, "finished") | {"GRPO-1": "failed"}
    assert finish(world, "runs/worker", "--jobs=1")[0] == 0
    assert {name: cell(folder, name)["attempts"] for name in NAMES} == dict.fromkeys(NAMES, 1) | {"GRPO-1": 2}
    assert_same(folder, world / "runs/whole")


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(world):
    folder = world / "runs/stopped"
    process = start(world, "runs/stopped")
    wait_until(lambda: half_way(folder), process)
    process.send_signal(signal.SIGINT)
    _, complained = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in complained
    assert "Go on with: avatar sweep --config=base.yaml" in complained
    now = statuses(folder)
    assert "stopped" in now.values()
    assert set(now.values()) <= {"stopped", "finished"}
    for name, status in now.items():
        if status == "stopped" and steps(folder, name):
            assert (folder / "cells" / name / "checkpoints" / "last.ckpt").exists()
    assert finish(world, "runs/stopped")[0] == 0
    assert_same(folder, world / "runs/whole")


def test_a_second_sweep_in_one_folder_is_refused_while_the_first_is_at_work(world):
    folder = world / "runs/two"
    process = start(world, "runs/two")
    wait_until(lambda: statuses(folder), process)
    status, _, complained = finish(world, "runs/two")
    assert status == 2
    assert "is at work in runs/two" in complained
    process.kill()
    process.communicate()


def test_the_log_of_a_cell_tells_what_went_wrong(world):
    """Where the reward's server is not there."""
    status, _, complained = finish(
        world, "runs/down", "--axis=model.advantage=GRPO", "--axis=seed_everything=0",
        "--set=model.rewards=[{class_path: tests_curriculum.Down}]",
    )  # fmt: skip
    assert status == 1
    assert "failed: GRPO-0: there is nobody at http://127.0.0.1:1; see runs/down/cells/GRPO-0/log.txt" in complained
    assert "there is nobody at" in (world / "runs/down/cells/GRPO-0/log.txt").read_text()
