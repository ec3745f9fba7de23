"""Options on a command line that no parser has read yet."""

import pytest

from avatar.commands.argv import find_option, has_config, set_option, without_option
from avatar.commands.checkpoints import point_at_model
from avatar.errors import CheckpointError


@pytest.mark.parametrize("args", [["test", "--a", "1", "--b"], ["test", "--a=1", "--b"]])
def test_an_option_is_found_set_and_left_out_in_either_way_of_writing(args):
    assert find_option(args, "--a") == "1"
    assert find_option(args, "--ab") is None
    assert without_option(args, "--a") == ["test", "--b"]
    changed = list(args)
    set_option(changed, "--a", "2")
    assert find_option(changed, "--a") == "2"
    assert len(changed) == len(args)


def test_a_value_that_is_called_like_an_option_is_left_out_with_it_and_no_more():
    assert without_option(["--a", "--a", "x"], "--a") == ["x"]


@pytest.mark.parametrize(
    ("args", "there"), [(["--config", "c"], True), (["-c=c"], True), (["--configs"], False), ([], False)]
)
def test_a_config_is_noticed(args, there):
    assert has_config(args) is there


def test_a_checkpoint_may_be_a_run_a_model_or_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/last.ckpt").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").touch()
    assert point_at_model(["test", "--ckpt_path", "run", "--x"]) == [
        "test",
        "--x",
        "--ckpt_path=run/checkpoints/last.ckpt",
    ]
    policy = ["--model.policy=Policy", "--model.policy.path=model"]
    assert point_at_model(["test", "--ckpt_path=model"]) == ["test", *policy]
    assert (
        point_at_model(["test", "--ckpt_path=Qwen/Qwen2.5-Omni-7B"])[-1] == "--model.policy.path=Qwen/Qwen2.5-Omni-7B"
    )
    for named in ("last", "run/checkpoints/last.ckpt", "gone/last.ckpt"):  # looked for later, and told there
        assert point_at_model(["test", "--ckpt_path", named]) == ["test", "--ckpt_path", named]
    with pytest.raises(CheckpointError, match="Did you mean 'model'"):
        point_at_model(["test", "--ckpt_path", "modle"])
