import pytest
import torch

from avatar.models import LoRA
from avatar.modules.policy import Policy
from avatar.modules.reference import Reference
from avatar.types import Sampling

TOWERS = r".*(visual|audio_tower)\..*\.(q_proj|proj|fc1)"


@pytest.fixture
def pair(micro):
    """A policy that has learnt, and its reference."""

    def made(reference=None, **kwargs):
        torch.manual_seed(0)
        policy = Policy(str(micro / "model"), dtype="float32", **kwargs)
        reference = reference or Reference()
        reference.follow(policy)
        policy.configure_model()
        reference.configure_model()
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        return policy, reference

    return made


def inputs(policy, prompts, prefixes):
    groups = policy.adapter.generate(prefixes, 2, Sampling(1.0, 8), torch.Generator().manual_seed(0))
    ids = torch.nn.utils.rnn.pad_sequence([c.ids for g in groups for c in g], batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(c.ids) for g in groups for c in g])[:, None]
    return ids, mask, torch.arange(len(prompts)).repeat_interleave(2), 1.0


def base_logprobs(adapter, prompts, scored):
    with torch.no_grad():
        return adapter.logprobs(adapter.encode(prompts), *scored)


@pytest.mark.parametrize("targets", [LoRA().targets, TOWERS, "all-linear"])
def test_beside_lora_the_reference_is_the_base_whatever_the_policy_has_learnt(pair, prompts, adapter, targets):
    policy, reference = pair(lora=LoRA(targets=targets))
    prefixes = policy.encode(prompts[:3])
    scored = inputs(policy, prompts[:3], prefixes)
    ours = reference(reference.prefixes(prompts[:3], policy, prefixes), *scored)
    wanted = base_logprobs(adapter, prompts[:3], scored)
    if targets == LoRA().targets:
        assert torch.equal(ours, wanted)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
    assert not ours.requires_grad
    assert (policy(prefixes, *scored) - wanted).abs().max() > 1e-3
    assert reference.fingerprint == adapter.fingerprint() == policy.base_fingerprint


def test_beside_lora_nothing_is_loaded_and_nothing_registered_twice(pair):
    policy, reference = pair(lora=LoRA())
    assert not hasattr(reference, "adapter")
    assert not list(reference.parameters())
    assert not reference.state_dict()
    assert reference.path == policy.path


def test_encoded_prompts_are_taken_over_unless_lora_is_in_the_towers(pair, prompts):
    policy, reference = pair(lora=LoRA())
    encoded = policy.encode(prompts[:2])
    assert reference.prefixes(prompts[:2], policy, encoded) is encoded
    policy, reference = pair(lora=LoRA(targets=TOWERS))
    encoded = policy.encode(prompts[:2])
    own = reference.prefixes(prompts[:2], policy, encoded)
    assert not own[0].features["video"].requires_grad
    assert not torch.equal(own[0].features["video"], encoded[0].features["video"])
    assert encoded[0].features["video"].requires_grad


def test_a_path_or_a_dtype_of_its_own_is_loaded_beside_lora_too(pair, micro, prompts, adapter, tmp_path):
    with torch.no_grad():
        adapter.model.lm_head.weight += 0.1
    adapter.save_pretrained(tmp_path)
    policy, reference = pair(Reference(str(tmp_path)), lora=LoRA())
    assert reference.fingerprint == adapter.fingerprint() != policy.base_fingerprint
    prefixes = policy.encode(prompts[:2])
    assert reference.prefixes(prompts[:2], policy, prefixes) is prefixes  # the towers are the same
    scored = inputs(policy, prompts[:2], prefixes)
    assert torch.equal(reference(prefixes, *scored), base_logprobs(adapter, prompts[:2], scored))
    _, reference = pair(Reference(dtype="bfloat16"), lora=LoRA())
    assert reference.adapter.model.dtype == torch.bfloat16


def test_without_lora_the_reference_is_a_model_of_its_own(pair, prompts, adapter):
    policy, reference = pair()
    assert reference.adapter is not policy.adapter
    assert not any(p.requires_grad for p in reference.parameters())
    prefixes = policy.encode(prompts[:2])
    assert reference.prefixes(prompts[:2], policy, prefixes) is prefixes
    scored = inputs(policy, prompts[:2], prefixes)
    assert torch.equal(reference(prefixes, *scored), base_logprobs(adapter, prompts[:2], scored))
