from dataclasses import replace

import pytest
import torch
from tests_plain import plain_logprobs

from avatar.data.dataset import PromptDataset
from avatar.data.micro import RULE
from avatar.data.prompts import PromptStyle
from avatar.errors import ConfigError, DataError
from avatar.modules import Policy, SFTModule
from avatar.modules.perception import Perception


@pytest.fixture
def chains(micro):
    dataset = PromptDataset([micro / "chains"], PromptStyle(letter_options=False), RULE)
    return [dataset[i] for i in (0, 4, 7)]


@pytest.fixture
def module(micro, adapter):
    loaded = SFTModule(Policy(str(micro / "model")))
    loaded.policy.adapter = adapter
    return loaded


def test_the_loss_is_the_mean_over_the_tokens_of_the_completions_alone(module, chains, adapter):
    loss, _ = module.completion_loss(chains)
    ids = [adapter.tokenize_completion(p.chain) for p in chains]
    plain = torch.cat([plain_logprobs(adapter, p, i) for p, i in zip(chains, ids, strict=True)])
    assert len({len(i) for i in ids}) > 1  # ragged
    torch.testing.assert_close(loss, -plain.mean(), atol=1e-5, rtol=0)


def test_a_completion_to_learn_ends_with_the_stop_token(adapter):
    assert adapter.tokenize_completion("<think>x</think><answer>1</answer>")[-1] == adapter.eos_id


def test_a_record_without_a_chain_is_named(module, chains):
    with pytest.raises(DataError, match=rf"{chains[1].key}.*no 'chain'"):
        module.completion_loss([chains[0], replace(chains[1], chain=None)])


def test_perception_trains_the_towers_and_leaves_the_language_model_alone(adapter, chains):
    adapter.freeze_towers(False)
    loss, metrics = Perception(2, 64, 9, 2)(adapter, chains)
    loss.backward()
    moved = {name for name, p in adapter.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("visual" in n for n in moved)
    assert any("audio_tower" in n for n in moved)
    assert not any("language_model" in n or "lm_head" in n for n in moved)
    assert 0 <= metrics["perception/video"] <= 1


def test_perception_without_labels_says_which_record(adapter, prompts):
    with pytest.raises(DataError, match=rf"{prompts[0].key}.*video_labels"):
        Perception(2, 64, 9, 2)(adapter, prompts[:1])


def test_perception_needs_a_step():
    with pytest.raises(ConfigError, match="steps"):
        Perception(0, 64, 9, 2)
