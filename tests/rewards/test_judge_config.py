"""The judge as written in YAML: the example of its page, and what is misspelt."""

import re
from pathlib import Path

import pytest
import yaml

from avatar.cli import main
from avatar.commands.train import AvatarCLI

PAGE = Path(__file__).parents[2] / "docs" / "judge.md"
CLIENT = {"endpoint": "http://127.0.0.1:9/v1", "model": "judge", "attempts": 1}


@pytest.fixture
def config(micro, tmp_path, monkeypatch):
    """Writes a config with these rewards, or with a judge of these arguments."""
    monkeypatch.chdir(tmp_path)

    def write(rewards=None, **judge):
        policy = {"class_path": "Policy", "init_args": {"path": str(micro / "model"), "dtype": "float32"}}
        model = {"policy": policy, "rewards": rewards or [{"class_path": "Judge", "init_args": judge}]}
        whole = {
            "trainer": {"accelerator": "cpu", "max_steps": 1, "limit_val_batches": 0, "default_root_dir": "run"},
            "model": {"class_path": "RLModule", "init_args": model},
            "data": {
                "class_path": "ShardData",
                "init_args": {"train": str(micro / "train"), "val": str(micro / "dev")},
            },
        }
        Path("config.yaml").write_text(yaml.safe_dump(whole))
        return ["fit", "--config", "config.yaml"]

    return write


def test_the_example_of_the_page_makes_a_judge_and_names_every_argument(config, monkeypatch):
    monkeypatch.setattr(AvatarCLI, "_run_subcommand", lambda self, subcommand: None)
    rewards = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])["rewards"]
    _, judge = AvatarCLI(config(rewards)).model.rewards
    given = rewards[1]["init_args"]
    for name, value in given["client"].items():
        assert getattr(judge.client, name) == value
    for name in given.keys() - {"client"}:
        assert getattr(judge, name) == given[name]


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({}, "--model.rewards.client is missing"),
        ({"client": {"endpoint": "http://127.0.0.1:9"}}, "--model.rewards.client.model is missing"),
        ({"client": "http://127.0.0.1:9"}, "--model.rewards.client is a section, got 'http://127.0.0.1:9': give"),
        ({"client": {**CLIENT, "endpont": "x"}}, "unknown argument 'endpont'. Did you mean 'endpoint'?"),
        ({"client": {**CLIENT, "timeout": "x"}}, "--model.rewards.client.timeout: expected float, got 'x'"),
        ({"client": CLIENT, "num_frame": 3}, "unknown argument 'num_frame'. Did you mean 'num_frames'?"),
        ({"client": CLIENT, "on_failure": "ignore"}, "expected 'skip' or 'zero' or 'stop', got 'ignore'"),
        ({"client": CLIENT}, "prompt 'train-000000/q0' has sound and no audio_caption"),
        ({"client": CLIENT, "need_caption": False}, "no server answers at http://127.0.0.1:9/v1"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_before_anything_is_loaded(config, capsys, judge, message):
    assert main(config(**judge)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
