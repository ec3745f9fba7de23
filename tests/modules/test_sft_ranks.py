"""The cold start on several processes is the cold start on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from avatar.data.micro import draw_split, render_mp4
from avatar.data.shards import write_shards

TESTS = Path(__file__).parent.parent


def weights(model, shards, out, *how):
    """What three steps of 4 records come to."""
    out.mkdir()
    command = [sys.executable, str(TESTS / "tests_sft_ranks.py"), str(model), str(shards), str(out), *map(str, how)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    subprocess.run(command, check=True, timeout=200, env=environment, capture_output=True)
    return load_file(out / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_in_passes_of_one_learn_what_one_rank_learns_in_one_pass(micro, tmp_path):
    """Lengths differ, so a mean of the ranks' means would weigh the tokens of a short completion more."""
    samples = [
        (key, render_mp4(scene), [records[i % 5]])
        for i, (key, scene, records) in enumerate(draw_split("chains", 12, 0))
    ]
    write_shards(tmp_path / "shards", samples, 12)
    one, two = (
        weights(micro / "model", tmp_path / "shards", tmp_path / name, *how)
        for name, how in {"one": (1, 4, 4), "two": (2, 2, 1)}.items()
    )
    before = load_file(micro / "model" / "model.safetensors")
    moved = {k for k, w in one.items() for name, b in before.items() if k.endswith(name) and not torch.equal(w, b)}
    assert len(moved) > 10
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5)
