"""A curriculum that is killed or stopped, and started again by the same command, ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
import yaml

from avatar.commands import folders
from avatar.errors import ConfigError

ROOT = Path(__file__).parent.parent
STEPS = 24
RL = {
    "trainer": {"max_steps": STEPS, "val_check_interval": 6, "enable_progress_bar": False},
    "trainer.callbacks": [{"class_path": "avatar.modules.saving.RunCheckpoint", "init_args": {"every_n_steps": 3}}],
    "model": {"max_new_tokens": 8, "optimizer.lr": 1e-3, "rewards": [{"class_path": "tests_curriculum.Odd"}]},
    "data.train": "data/world/pool",
    "data.val": "data/world/dev",
}
SFT = {
    "trainer": {"max_steps": 12, "val_check_interval": 6, "enable_progress_bar": False},
    "trainer.callbacks": RL["trainer.callbacks"],
    "model": {"policy.path": "data/world/model", "perception.steps": 4},
    "data": {"batch_size": 8, "train": "data/world/chains", "val": "data/world/dev"},
}
RECIPE = {
    "out": "runs/c",
    "data": {"synth": {"out": "data/world", "scale": 0.03}},
    "stages": [
        {"name": "s0", "config": "configs/micro/sft.yaml", "overrides": SFT},
        {"name": "s1", "config": "configs/micro/grpo4.yaml", "overrides": RL},
        {
            "name": "s2",
            "config": "configs/micro/avatar.yaml",
            "overrides": {**RL, "model.replay.minimum": 4, "model.hints.visits": 1},
        },
    ],
    "tests": [
        {"benchmark": "micro", "root": "data/world/test", "overrides": {"trainer.enable_progress_bar": False}},
        {"benchmark": "micro", "root": "data/world/test", "swap": "audio"},
    ],
}
KEPT = ("metrics.csv", "completions.jsonl", "model/model.safetensors")


def start(folder: Path, *more: str) -> subprocess.Popen:
    """The command, in a process of its own, as a user would call it."""
    (folder / "c.yaml").write_text(yaml.safe_dump(RECIPE))
    if not (folder / "configs").exists():
        (folder / "configs").symlink_to(ROOT / "configs")
    return subprocess.Popen(
        [sys.executable, "-m", "avatar.cli", "curriculum", "--config=c.yaml", *more],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, *more: str) -> str:
    """Run it to its end; what it said."""
    process = start(folder, *more)
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return err


def wait_for(path: Path, lines: int, process: subprocess.Popen) -> None:
    """Until ``path`` has so many lines."""
    deadline = time.monotonic() + 300
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def numbers(folder: Path) -> list:
    """The table, but for its seconds."""
    summary = json.loads((folder / "runs" / "c" / "curriculum.json").read_text())
    assert summary["finished"]
    return [
        (row["steps"], row["completions"], {k: {**test, "seconds": 0} for k, test in row["tests"].items()})
        for row in summary["stages"]
    ]


def assert_same(folder: Path, whole: Path) -> None:
    """Byte by byte, and number by number."""
    assert numbers(folder) == numbers(whole)
    for stage in ("s0", "s1", "s2"):
        for name in KEPT:
            if (whole / "runs/c" / stage / name).exists():
                ours, theirs = ((f / "runs/c" / stage / name).read_bytes() for f in (folder, whole))
                assert ours == theirs, f"{stage}/{name}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    assert len({folders.fingerprint(folder / "runs/c" / f"s{i}" / "model") for i in range(3)}) == 3
    return folder


@pytest.mark.slow
def test_a_kill_in_the_second_stage_of_rl_is_made_good_by_the_same_command(whole, tmp_path):
    process = start(tmp_path)
    wait_for(tmp_path / "runs/c/s2/metrics.csv", 12, process)
    process.kill()
    process.communicate()
    before = {
        path: path.stat().st_mtime_ns
        for stage in ("s0", "s1")
        for path in (tmp_path / "runs/c" / stage).rglob("*")
        if path.is_file()
    }
    assert not (tmp_path / "runs/c/s2/model").exists()
    finish(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # finished stages were not run again
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_ctrl_c_saves_says_how_to_go_on_and_the_rest_follows(whole, tmp_path):
    process = start(tmp_path, "--restart=s0")
    wait_for(tmp_path / "runs/c/s1/metrics.csv", 8, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Go on with: avatar curriculum --config=c.yaml\n" in err
    assert "Traceback" not in err
    finish(tmp_path)
    assert_same(tmp_path, whole)


MOMENTS = (
    "data/world/guesses.partial", "data/world/model", "runs/c/s0/stage.json", "runs/c/s0/checkpoints/last.ckpt",
    "runs/c/s0/model.partial", "runs/c/s0/model", "runs/c/s0/test", "runs/c/s1/checkpoints/best.ckpt",
    "runs/c/s1/model.partial/model.safetensors", "runs/c/s2/test/micro.results.json", "runs/c/curriculum.png",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_kills_at_any_moment_leave_what_one_go_leaves(whole, tmp_path):
    """From the making of the data to the last picture: as soon as each of these is there, or a little later."""
    rng, kills = Random(0), 0
    for moment in MOMENTS:
        process = start(tmp_path)
        while process.poll() is None and not (tmp_path / moment).exists():
            time.sleep(0.002)
        time.sleep(rng.choice([0, 0, 0.05]))
        kills += process.poll() is None
        process.kill()
        _, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), err
    assert kills >= 8
    finish(tmp_path)
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_stage_on_two_devices_runs_in_processes_of_its_own_and_is_killed_and_gone_on_with(tmp_path, whole):
    """Ctrl-C reaches all of them; while one of them lives, no second curriculum may start in the folder."""
    shutil.copytree(whole / "data", tmp_path / "data")
    two = ["--until=s1", "--out=runs/two"]
    stages = [dict(RECIPE["stages"][0]), dict(RECIPE["stages"][1])]
    stages[1]["overrides"] = {**RL, "trainer.devices": 2, "trainer.strategy": "ddp", "data.eval_batch_size": 4}
    two.append(f"--stages={json.dumps(stages)}")
    process = start(tmp_path, *two)
    wait_for(tmp_path / "runs/two/s1/metrics.csv", 6, process)
    with pytest.raises(ConfigError, match="is at work in"), folders.locked(tmp_path / "runs/two", "somebody"):
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    finish(tmp_path, *two)
    record = json.loads((tmp_path / "runs/two/s1/stage.json").read_text())
    assert (record["steps"], record["completions"]) == (STEPS, 2 * 4 * STEPS)
    assert set(record["tests"]) == {"micro", "micro-swap_audio"}
