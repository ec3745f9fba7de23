"""Processes that train in step, when one of them has nothing to learn from."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avatar.data.micro import draw_split, render_mp4
from avatar.data.shards import write_shards

TESTS = Path(__file__).parent.parent
STEPS = 9  # 18 records, 9 steps of two


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """18 records, every third of which shows a clip that is none: of three steps one or two lack a record."""
    samples = []
    for i, (key, scene, records) in enumerate(draw_split("chains", 18, 0)):
        mp4 = b"no film" * 99 if i % 3 == 0 else render_mp4(scene)
        samples.append((key, mp4, [replace(records[i % 5], key=None)]))
    folder = tmp_path_factory.mktemp("stand-by") / "shards"
    write_shards(folder, samples, 18)
    return folder


def run(what, micro, shards, folder):
    """What the two ranks noted of each step; all that is left is killed if it hangs."""
    command = [sys.executable, str(TESTS / "tests_stand_by.py"), what, str(micro / "model"), str(shards), str(folder)]
    with (folder / "stderr").open("w") as told:
        process = subprocess.Popen(
            [*command, str(STEPS)], stdout=told, stderr=told, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        )  # fmt: skip
        try:
            status = process.wait(120)
        except subprocess.TimeoutExpired:
            status = "it hangs"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert status == 0, (folder / "stderr").read_text()
    return [[json.loads(x) for x in (folder / f"rank{rank}.jsonl").read_text().splitlines()] for rank in range(2)]


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("what", ["rl", "sft"])
def test_ranks_of_which_one_has_nothing_to_learn_from_take_the_same_steps_to_the_same_weights(
    what, micro, shards, tmp_path
):
    rows = list(zip(*run(what, micro, shards, tmp_path), strict=True))
    assert [a["step"] for a, _ in rows] == [b["step"] for _, b in rows] == list(range(1, STEPS + 1))
    alone = [rank for a, b in rows for rank in (0, 1) if [a, b][rank]["keys"] and not [a, b][1 - rank]["keys"]]
    assert set(alone) == {0, 1}, "each rank must have stood by for this test to mean something"
    assert all(a["weights"] == b["weights"] for a, b in rows)
    weights = [a["weights"] for a, _ in rows]
    for (a, b), before, after in zip(rows[1:], weights, weights[1:], strict=False):
        assert a["gradient"] == b["gradient"]
        assert (before == after) is (a["gradient"] == 0)  # who stands by takes the step of who does not
        if not a["keys"] and not b["keys"]:
            assert a["gradient"] == 0
    assert any(a["gradient"] > 0 for a, b in rows if len(a["keys"]) + len(b["keys"]) == 1)
    if what == "rl":
        seen = [len(a["keys"]) + len(b["keys"]) for a, b in rows]
        for i, (a, b) in enumerate(rows):
            assert a["generated"] == b["generated"] == 4 * sum(seen[: i + 1])
            assert (a["stored"], a["visited"]) == (b["stored"], b["visited"])
            assert a["visited"] == sorted({key for pair in rows[: i + 1] for row in pair for key in row["keys"]})
