"""A run that is killed again and again, with no chance to clean up, ends as if nothing had happened."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).parent.parent
NUM_KILLS, STEPS = 20, 240
FIT = (
    "fit --config configs/micro/avatar.yaml --config often.yaml --data.train data/micro/pool --model.max_new_tokens 12 "
    f"--trainer.max_steps {STEPS} --trainer.val_check_interval 10 --model.policy.path data/micro/model "
    "--model.optimizer.lr 1e-3 --model.replay.minimum 4 --model.hints.visits 1 --trainer.enable_progress_bar false"
)
OFTEN = """
trainer:
  callbacks:
    - class_path: avatar.modules.saving.RunCheckpoint
      init_args:
        every_n_steps: 3
"""


def start(folder: Path, run: str, resume: bool) -> subprocess.Popen:
    command = [sys.executable, "-m", "avatar.cli", *shlex.split(FIT), f"--trainer.default_root_dir={run}"]
    return subprocess.Popen(
        command + (["--ckpt_path=last"] if resume else []),
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows_written(metrics: Path) -> int:
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def kill_later(process: subprocess.Popen, metrics: Path, rng: Random) -> bool:
    """Kill -9 at a random moment, while it starts or up to eight rows on; False if it was over before."""
    rows, before = rng.choice([0, 1, 2, 3, 5, 8]), rows_written(metrics)
    deadline = time.monotonic() + (rng.uniform(0, 10) if rows == 0 else 120)
    while process.poll() is None and time.monotonic() < deadline:
        if rows and abs(rows_written(metrics) - before) >= rows:  # it goes back first, to the checkpoint
            break
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.15))
    over = process.poll() is not None
    process.kill()
    _, err = process.communicate()
    assert not over or process.returncode == 0, err
    return not over


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_kills_leave_the_metrics_of_an_uninterrupted_run(micro, tmp_path):
    shutil.copytree(micro, tmp_path / "data" / "micro")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "often.yaml").write_text(OFTEN)
    whole, killed, rng = start(tmp_path, "whole", False), tmp_path / "killed", Random(0)
    assert whole.wait() == 0, whole.stderr.read()
    kills, launches = 0, 0
    while kills < NUM_KILLS:
        process = start(tmp_path, "killed", resume=(killed / "checkpoints" / "last.ckpt").exists())
        kills += kill_later(process, killed / "metrics.csv", rng)
        launches += 1
        assert launches < 2 * NUM_KILLS, "the run was over before it had been killed often enough"
    last = start(tmp_path, "killed", resume=(killed / "checkpoints" / "last.ckpt").exists())
    assert last.wait() == 0, last.stderr.read()
    assert rows_written(killed / "metrics.csv") == STEPS + 2  # a header, and step 0
    for name in ("metrics.csv", "completions.jsonl", "health.jsonl"):
        whole_file = tmp_path / "whole" / name
        assert whole_file.exists() == (killed / name).exists()
        if whole_file.exists():
            assert (killed / name).read_bytes() == whole_file.read_bytes(), name
