"""What `load_policy` makes of checkpoints, folders and names that lead nowhere."""

import json
import shutil

import pytest
import torch

from avatar.errors import CheckpointError, ConfigError
from avatar.models import LoRA, pack_skeleton
from avatar.modules.loading import find_model, load_policy, pick_device, read_checkpoint
from avatar.modules.policy import Policy


def write_checkpoint(path, policy, **changes):
    """In the layout of a training run's, with weights that differ from those that the policy was loaded with."""
    torch.manual_seed(1)
    for weight in policy.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn_like(weight)
    lora = policy.lora and {"r": policy.lora.r, "alpha": policy.lora.alpha, "targets": policy.lora.targets}
    arguments = {"path": policy.path, "dtype": "float32", "gradient_checkpointing": True, "lora": lora}
    model = {"init_args": {"policy": {"class_path": "avatar.modules.Policy", "init_args": arguments}}}
    contents = {
        "state_dict": {f"policy.{name}": w for name, w in policy.state_dict().items() if policy.is_saved(name)},
        "avatar_model": json.dumps(model),
        "rl": {"base": policy.base_fingerprint},
    }
    if not policy.lora:
        contents["avatar_skeleton"] = pack_skeleton(policy.adapter)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents | changes, path)
    return path


@pytest.fixture
def base(micro, tmp_path):
    """A model folder of one's own, to move or to spoil."""
    return shutil.copytree(micro / "model", tmp_path / "base")


@pytest.fixture
def made(base):
    def load(**kwargs):
        policy = Policy(str(base), dtype="float32", **kwargs)
        policy.configure_model()
        return policy

    return load


def same(one, other):
    return all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


def test_a_checkpoint_gives_its_own_weights_without_the_folder_it_came_from(made, base, tmp_path):
    trained = made()
    path = write_checkpoint(tmp_path / "a.ckpt", trained)
    start = load_policy(base)
    shutil.rmtree(base)
    loaded = load_policy(path)
    assert same(trained, loaded)
    assert not same(start, loaded)
    assert not any(module.training for module in loaded.modules())  # though its training kept few activations


def test_lora_is_put_beside_the_model_it_was_trained_from_and_no_other(made, base, micro, tmp_path):
    torch.manual_seed(0)
    trained = made(lora=LoRA())
    path = write_checkpoint(tmp_path / "a.ckpt", trained)
    assert len(torch.load(path)["state_dict"]) < len(trained.state_dict()) / 2
    assert same(trained, load_policy(path))
    other = made()
    other.adapter.model.lm_head.weight.data += 1
    other.adapter.save_pretrained(base)
    with pytest.raises(CheckpointError, match=r"a\.ckpt holds LoRA weights over the base .* is another model"):
        load_policy(path)


def test_a_run_folder_means_its_best_then_its_last_then_its_exported_model(base, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(base, run / "model")
    for name in ("last.ckpt", "best.ckpt"):
        found = find_model(run)
        (run / "checkpoints").mkdir(exist_ok=True)
        (run / "checkpoints" / name).write_bytes(b"")
        assert find_model(run) == run / "checkpoints" / name != found
    assert found == run / "checkpoints" / "last.ckpt"
    assert find_model(run / "checkpoints") == run / "checkpoints" / "best.ckpt"
    assert find_model(base) == base
    assert find_model("Qwen/Qwen2.5-Omni-7B") == "Qwen/Qwen2.5-Omni-7B"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("runs/grpp/last.ckpt", r"no such checkpoint, folder or hub id: runs/grpp.*no 'grpp'\. Did you mean 'grpo'\?"),
        ("runs/grpp", r"no such checkpoint.*Did you mean 'grpo'"),  # written like a hub id, but runs/ is here
        ("runs/grpo/checkpoints/lst.ckpt", r"Did you mean 'last\.ckpt'"),
        ("runs", r"neither a model .* nor a run .* below it there is runs/grpo/checkpoints/last\.ckpt"),
        ("base/config.json", r"a file of a model folder: give the folder, base"),
        ("runs/grpo", r"last\.ckpt: not a readable checkpoint"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(given, message, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/grpo/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/grpo/checkpoints/last.ckpt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=message):
        load_policy(given)


def test_a_checkpoint_must_hold_all_of_the_policy_and_nothing_else_of_it(made, tmp_path):
    weights = torch.load(write_checkpoint(tmp_path / "a.ckpt", made()))["state_dict"]
    first, *rest = sorted(weights)
    spoiled = {
        f"lacks 1 weights of the policy, the first is '{first.removeprefix('policy.')}'": {n: weights[n] for n in rest},
        "1 weights that its policy has not, as 'more'": weights | {"policy.more": torch.zeros(1)},
        "its weights do not fit: size mismatch": weights | {first: torch.zeros(1)},
    }
    for message, state in spoiled.items():
        path = write_checkpoint(tmp_path / "b.ckpt", made(), state_dict=state)
        with pytest.raises(CheckpointError, match=message):
            load_policy(path)


def test_a_checkpoint_that_does_not_say_how_its_model_is_built_is_refused(made, tmp_path):
    path = write_checkpoint(tmp_path / "a.ckpt", made(), avatar_model=None)
    assert read_checkpoint(path).model is None
    with pytest.raises(CheckpointError, match="of another program"):
        load_policy(path)
    path = write_checkpoint(tmp_path / "b.ckpt", made(), avatar_model='{"init_args": {"policy": {"class_path": "os"}}}')
    with pytest.raises(CheckpointError, match=r"b\.ckpt: its policy cannot be rebuilt"):
        load_policy(path)


def test_the_dtype_that_is_asked_for_goes_before_the_checkpoints(made, tmp_path):
    path = write_checkpoint(tmp_path / "a.ckpt", made())
    assert load_policy(path).adapter.model.dtype == torch.float32
    assert load_policy(path, "bfloat16").adapter.model.dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="dtype must be one of auto, float32"):
        load_policy(path, "int8")


def test_a_device_that_is_not_here_is_refused():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError, match=rf"device '{name}' cannot be used here .* try auto"):
            pick_device(name)
