import pytest
import torch
from jsonargparse import ArgumentParser

from avatar.errors import CheckpointError, ConfigError
from avatar.models import LoRA, pack_skeleton
from avatar.modules.policy import Policy

TOWERS = r".*(visual|audio_tower)\..*\.(q_proj|proj|fc1)"


@pytest.fixture
def policy(micro):
    def built(**kwargs):
        torch.manual_seed(0)
        made = Policy(str(micro / "model"), dtype="float32", **kwargs)
        made.configure_model()
        return made

    return built


def test_only_lora_learns_and_only_lora_is_saved(policy):
    made = policy(lora=LoRA())
    learning = {name for name, p in made.named_parameters() if p.requires_grad}
    assert learning == {name for name in made.state_dict() if ".lora_" in name}
    assert {name for name in made.state_dict() if made.is_saved(name)} == learning
    share = sum(p.numel() for p in made.parameters() if p.requires_grad) / sum(p.numel() for p in made.parameters())
    assert share < 0.1


def test_whatever_else_is_made_to_learn_is_saved_too(policy):
    made = policy(lora=LoRA())
    made.adapter.model.lm_head.requires_grad_(True)
    assert made.is_saved("adapter.model.lm_head.weight")


def test_without_lora_everything_is_saved(policy):
    made = policy()
    assert all(made.is_saved(name) for name in made.state_dict())
    assert made.base_fingerprint is None


def test_the_base_is_known_by_the_fingerprint_of_what_was_loaded(policy):
    assert policy(lora=LoRA(targets="all-linear")).base_fingerprint == policy().adapter.fingerprint()


def test_what_is_saved_and_the_base_rebuild_the_policy(policy):
    made = policy(lora=LoRA(targets="all-linear"))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    stored = {name: weight for name, weight in made.state_dict().items() if made.is_saved(name)}
    torch.manual_seed(1)
    again = policy(lora=LoRA(targets="all-linear"))
    again.load_state_dict(stored, strict=False)
    assert all(torch.equal(weight, made.state_dict()[name]) for name, weight in again.state_dict().items())


def test_towers_learn_through_lora_where_the_targets_reach_them(policy):
    for freeze_towers in (True, False):
        assert not policy(lora=LoRA(targets=TOWERS), freeze_towers=freeze_towers).adapter.towers_frozen
    assert policy(lora=LoRA()).adapter.towers_frozen


def test_towers_that_shall_learn_but_have_no_lora_are_an_error(policy):
    with pytest.raises(ConfigError, match=r"towers cannot learn.*policy.lora.targets"):
        policy(lora=LoRA(), freeze_towers=False)


def test_lora_goes_into_a_model_from_a_skeleton_too(policy):
    made = policy(lora=LoRA())
    again = Policy("nowhere", dtype="float32", lora=LoRA())
    again.skeleton = pack_skeleton(made.adapter)
    again.configure_model()
    assert set(again.state_dict()) == set(made.state_dict())


def test_without_a_skeleton_the_base_must_lie_at_its_path():
    with pytest.raises(CheckpointError, match="no model at 'nowhere'"):
        Policy("nowhere", lora=LoRA()).configure_model()


def test_lora_is_set_from_a_configuration_and_from_the_command_line():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Policy, "policy")
    parsed = parser.instantiate(parser.parse_object({"policy": {"lora": {"r": 4, "targets": ["q_proj"]}}}))
    assert parsed.policy.lora == LoRA(4, 32, ["q_proj"])
    parsed = parser.instantiate(parser.parse_args(["--policy.lora.r=16", "--policy.lora.targets=all-linear"]))
    assert parsed.policy.lora == LoRA(16, 32, "all-linear")
    assert parser.instantiate(parser.parse_args([])).policy.lora is None
