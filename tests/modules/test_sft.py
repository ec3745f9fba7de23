from dataclasses import replace
from types import SimpleNamespace

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


def step(module, batch):
    """Gradients of one step, without the optimizer's."""
    module._trainer = SimpleNamespace(world_size=1, strategy=None)
    module.manual_backward = lambda loss: loss.backward()
    return module._imitate(batch)


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same(one, other):
    assert one.keys() == other.keys()
    scale = max(g.abs().max() for g in other.values())
    assert scale > 0
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5 * float(scale))


def test_the_loss_is_the_mean_over_the_tokens_of_the_completions_alone(module, chains, adapter):
    metrics = step(module, chains)
    ids = [adapter.tokenize_completion(p.chain) for p in chains]
    plain = torch.cat([plain_logprobs(adapter, p, i) for p, i in zip(chains, ids, strict=True)])
    assert len({len(i) for i in ids}) > 1  # ragged
    torch.testing.assert_close(metrics["loss"], -plain.mean(), atol=1e-5, rtol=0)
    taken = gradients(module)
    module.zero_grad()
    plain = torch.cat([plain_logprobs(adapter, p, i) for p, i in zip(chains, ids, strict=True)])
    (-plain.mean()).backward()
    assert_same(taken, gradients(module))


@pytest.mark.parametrize("size", [1, 2, 3, 99])
def test_passes_of_any_size_give_the_gradient_of_the_whole_batch(module, chains, size):
    """Lengths differ, so the mean of the passes' means would be another number than the mean over all tokens."""
    whole = step(module, chains)
    expected = gradients(module)
    module.zero_grad()
    module.micro_batch_size = size
    torch.testing.assert_close(step(module, chains)["loss"], whole["loss"])
    assert_same(gradients(module), expected)


def test_nothing_is_padded_on_the_way_through_the_text_model(module, chains, adapter):
    """It reads each token of prompts and completions once, but for the last of a completion: nothing follows it."""
    seen = []
    layer = next(m for m in adapter.model.modules() if type(m).__name__.endswith("DecoderLayer"))
    handle = layer.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[:-1].numel()))
    step(module, chains)
    handle.remove()
    prompts = [len(prefix.ids) for prefix in adapter.encode(chains)]
    gold = [len(adapter.tokenize_completion(p.chain)) for p in chains]
    assert len({*prompts}) > 1
    assert len({*gold}) > 1
    assert sum(seen) == sum(prompts) + sum(gold) - len(chains)


def test_a_completion_to_learn_ends_with_the_stop_token(adapter):
    assert adapter.tokenize_completion("<think>x</think><answer>1</answer>")[-1] == adapter.eos_id


def test_a_record_without_a_chain_is_named(module, chains):
    with pytest.raises(DataError, match=rf"{chains[1].key}.*no 'chain'"):
        step(module, [chains[0], replace(chains[1], chain=None)])


@pytest.mark.parametrize(("name", "value"), [("micro_batch_size", 0), ("max_grad_norm", 0.0), ("max_grad_norm", -1.0)])
def test_settings_that_make_no_sense_are_refused_by_name(micro, name, value):
    with pytest.raises(ConfigError, match=f"model.{name}.*{value}"):
        SFTModule(Policy(str(micro / "model")), **{name: value})


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
