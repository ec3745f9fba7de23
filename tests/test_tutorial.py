"""Every command of docs/tutorial.md runs as it stands, on small real files and the tiny model in the 7B's place."""

import json
import re
import shlex
import shutil
import wave
from pathlib import Path

import pytest
import torch
from PIL import Image

from avatar import cli
from avatar.data.encode import encode_mp4

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
TINY = (
    " --trainer.accelerator cpu --trainer.val_check_interval 2 --model.max_new_tokens 4 --model.num_generations 2"
    " --model.policy.dtype float32 --data.min_pixels 784 --data.max_pixels 3136 --data.max_frames 4"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL, re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith("avatar ")]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with the questions of the tutorial, the files that they name, and the configs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    clips = tmp_path / "clips"
    clips.mkdir()
    t = torch.arange(4 * 16_000) / 16_000
    frames = torch.arange(32)[:, None, None, None].mul(6).expand(32, 3, 56, 84).to(torch.uint8).contiguous()
    (clips / "yard.mp4").write_bytes(encode_mp4(frames, 8, 0.5 * torch.sin(2 * torch.pi * 440 * t)))
    Image.new("RGB", (60, 60), (200, 30, 30)).save(clips / "sign.png")
    with wave.open(str(clips / "call.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((8000 * torch.sin(2 * torch.pi * 700 * t[:16_000])).short().numpy().tobytes())
    (tmp_path / "questions.jsonl").write_text(blocks("json")[0])
    held_out = [json.loads(line) for line in blocks("json")[0].splitlines()]
    (tmp_path / "held_out.jsonl").write_text(
        "".join(json.dumps(record | {"key": f"held-{record['key']}"}) + "\n" for record in held_out)
    )
    return tmp_path


def test_every_command_of_the_tutorial_runs(home, micro, capsys):
    steps = iter((2, 4))
    assert len(commands()) >= 7
    for command in commands():
        short = ""
        if " fit " in command:
            short = f"{TINY} --trainer.max_steps {next(steps)} --model.policy.path {micro / 'model'}"
        assert cli.main(shlex.split(command.removeprefix("avatar ") + short)) == 0, command
    capsys.readouterr()
    assert (home / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    rows = [json.loads(line) for line in (home / "runs/omni7b/grpo/predict.predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    metrics = (home / "runs/omni7b/grpo/metrics.csv").read_text().splitlines()
    assert len(metrics) == 1 + 4  # the header and four steps
