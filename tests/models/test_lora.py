import json

import pytest
import torch
from tests_plain import plain_logprobs

from avatar.errors import ConfigError
from avatar.models import LoRA, load_adapter
from avatar.models.base import fingerprint
from avatar.types import Sampling

CACHE_MB = 64
TOWERS = r".*(visual|audio_tower)\..*\.(q_proj|proj|fc1|down_proj|mlp\.0)"


@pytest.fixture
def load(micro):
    def loaded(lora=None, dtype="float32", seed=0):
        torch.manual_seed(seed)
        adapter = load_adapter(str(micro / "model"), dtype, "sdpa", CACHE_MB)
        adapter.freeze_towers()
        if lora:
            adapter.add_lora(lora)
        return adapter

    return loaded


def added(adapter):
    return {name: p for name, p in adapter.named_parameters() if "lora_" in name}


def move(adapter, scale=0.05, seed=1):
    """Training, as far as these tests are concerned: B is no longer 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in added(adapter).values():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def scored(adapter, prompts, completions):
    ids = torch.nn.utils.rnn.pad_sequence([c.ids for c in completions], batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(c.ids) for c in completions])[:, None]
    group = torch.arange(len(prompts)).repeat_interleave(len(completions) // len(prompts))
    return adapter.logprobs(adapter.encode(prompts), ids, mask, group)


@pytest.fixture
def completions(adapter, prompts):
    groups = adapter.generate(adapter.encode(prompts[:3]), 2, Sampling(1.0, 10), torch.Generator().manual_seed(0))
    return [c for g in groups for c in g]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("targets", [LoRA().targets, "all-linear", ["q_proj", "fc1"]])
def test_at_the_start_a_model_with_lora_equals_the_one_without_to_the_bit(load, prompts, completions, dtype, targets):
    plain, adapter = load(dtype=dtype), load(LoRA(targets=targets), dtype)
    plain.freeze_towers(adapter.towers_frozen)  # towers that learn see all clips at once: other last bits
    assert torch.equal(scored(adapter, prompts[:3], completions), scored(plain, prompts[:3], completions))


@pytest.mark.parametrize("targets", [LoRA().targets, "all-linear", TOWERS])
def test_switched_off_lora_leaves_the_model_as_it_was_to_the_bit(load, prompts, completions, targets):
    plain, adapter = load(), load(LoRA(targets=targets))
    plain.freeze_towers(adapter.towers_frozen)
    before = scored(plain, prompts[:3], completions)
    move(adapter)
    with adapter.without_lora():
        assert torch.equal(scored(adapter, prompts[:3], completions), before)
    assert (scored(adapter, prompts[:3], completions) - before).abs().max() > 0.01


def test_flags_and_lora_come_back_after_a_switch_inside_a_switch_and_after_an_error(load, prompts, completions):
    adapter = load(LoRA())
    move(adapter)
    frozen = next(iter(added(adapter).values())).requires_grad_(False)
    on = scored(adapter, prompts[:3], completions)
    with adapter.without_lora():
        with pytest.raises(ZeroDivisionError), adapter.without_lora():
            _ = 1 / 0
        assert not torch.equal(scored(adapter, prompts[:3], completions), on)  # still off
    assert torch.equal(scored(adapter, prompts[:3], completions), on)
    assert not frozen.requires_grad
    assert sum(not p.requires_grad for p in added(adapter).values()) == 1


def test_a_switch_between_forward_and_backward_loses_no_gradient(load, prompts, completions):
    def gradients(switch):
        adapter = load(LoRA(targets="all-linear"))
        move(adapter)
        loss = scored(adapter, prompts[:3], completions).sum()
        if switch:
            with torch.no_grad(), adapter.without_lora():
                scored(adapter, prompts[:3], completions)
        loss.backward()
        return {name: p.grad for name, p in added(adapter).items()}

    plain, switched = gradients(False), gradients(True)
    assert all(torch.equal(switched[name], plain[name]) for name in plain)


def test_the_fingerprints_are_those_of_the_weights_without_lora(load):
    plain, adapter = load(), load(LoRA(targets="all-linear"))
    move(adapter)
    assert adapter.fingerprint() == plain.fingerprint()
    assert adapter.tower_fingerprint() == plain.tower_fingerprint()
    with torch.no_grad():
        adapter.model.model.language_model.layers[0].mlp.up_proj.base_layer.weight[0, 0] += 1e-3
    assert adapter.fingerprint() != plain.fingerprint()


@pytest.mark.parametrize("targets", [LoRA().targets, TOWERS])
def test_with_lora_counted_in_a_fingerprint_tells_models_apart_by_what_lora_learnt(load, targets):
    plain, adapter, same = load(), load(LoRA(targets=targets)), load(LoRA(targets=targets))
    at_start = fingerprint([adapter], lora=True)
    assert at_start == fingerprint([same], lora=True)
    assert at_start != fingerprint([plain], lora=True)
    move(adapter)
    learnt = fingerprint([adapter], lora=True)
    assert learnt != at_start
    assert fingerprint([adapter]) == fingerprint([plain]) == fingerprint([plain], lora=True)
    move(same, seed=2)
    assert fingerprint([same], lora=True) not in (at_start, learnt)
    with torch.no_grad():  # the weights below count too
        next(p for name, p in adapter.named_parameters() if "lora_" not in name).flatten()[0] += 1
    assert fingerprint([adapter], lora=True) != learnt


@pytest.mark.parametrize("targets", [LoRA().targets, TOWERS, "all-linear"])
def test_the_gradient_of_lora_equals_that_of_plain_forwards_over_completions(load, prompts, completions, targets):
    adapter = load(LoRA(r=4, targets=targets))
    move(adapter)
    scored(adapter, prompts[:3], completions).sum().backward()
    joint = {name: p.grad for name, p in adapter.named_parameters() if p.grad is not None}
    assert set(joint) == set(added(adapter)), "LoRA has a gradient and nothing else has"
    adapter.zero_grad()
    for row, completion in enumerate(completions):
        plain_logprobs(adapter, prompts[row // 2], completion.ids).sum().backward()
    whole = torch.cat([p.grad.flatten() for p in added(adapter).values()]).norm()
    for name, parameter in added(adapter).items():
        scale = whole if "tower" in name or "visual" in name else parameter.grad.norm()
        error = (joint[name] - parameter.grad).norm() / scale
        assert error < 1e-5, f"{name}: {error:.1e}"


def test_the_default_targets_are_the_seven_linear_layers_of_each_text_layer(load):
    names = {name.split(".lora_")[0] for name in added(load(LoRA()))}
    assert len(names) == 2 * 7  # 2 layers of q, k, v, o and gate, up, down
    assert all("language_model.layers" in name for name in names)


def test_all_linear_reaches_towers_and_projections_but_not_the_head(load):
    adapter = load(LoRA(targets="all-linear"))
    names = {name.split(".lora_")[0].removeprefix("model.model.") for name in added(adapter)}
    assert {"visual.merger.mlp.0", "visual.blocks.0.attn.proj", "audio_tower.proj", "audio_tower.layers.0.fc1"} <= names
    linear = [n for n, m in load().model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    assert names == {name.removeprefix("model.") for name in linear}


def test_with_lora_in_the_towers_no_clip_is_kept_switched_off_or_not(load, prompts):
    adapter = load(LoRA(targets=TOWERS))
    assert not adapter.towers_frozen
    assert adapter.encode(prompts[:1])[0].features["video"].requires_grad
    with adapter.without_lora():
        adapter.encode(prompts[:1])
    adapter.requires_grad_(False)
    adapter.encode(prompts[:1])
    assert len(adapter.clips.cache) == 0
    assert load(LoRA()).towers_frozen


def test_the_towers_cannot_be_taught_where_lora_is_not(load):
    load(LoRA(targets=TOWERS)).freeze_towers(False)
    with pytest.raises(ConfigError, match=r"policy.lora.targets names no layer of theirs"):
        load(LoRA()).freeze_towers(False)


def test_freezing_the_towers_leaves_their_lora_to_learn(load):
    adapter = load(LoRA(targets=TOWERS))
    adapter.freeze_towers()
    assert all(p.requires_grad for p in added(adapter).values())
    assert {name for name, p in adapter.named_parameters() if p.requires_grad} == set(added(adapter))


def test_lora_is_float32_beside_bfloat16_and_the_models_dtype_stays(load):
    adapter = load(LoRA(targets="all-linear"), "bfloat16")
    assert {p.dtype for p in added(adapter).values()} == {torch.float32}
    assert adapter.model.dtype == torch.bfloat16


def test_the_start_follows_from_the_seed_and_leaves_the_global_stream_alone(load):
    def first(seed):
        adapter = load(seed=seed)
        before = torch.get_rng_state()
        adapter.add_lora(LoRA())
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.initial_seed() == seed
        return torch.cat([p.detach().flatten() for p in added(adapter).values()])

    def later():
        adapter = load()
        torch.rand(5)  # how far the stream has got plays no part
        adapter.add_lora(LoRA())
        return torch.cat([p.detach().flatten() for p in added(adapter).values()])

    assert torch.equal(first(0), first(0))
    assert torch.equal(first(0), later())
    assert not torch.equal(first(0), first(1))


@pytest.mark.parametrize("targets", [LoRA().targets, "all-linear", [*"qkv", "embed_tokens", "lm_head"]])
def test_what_is_saved_is_merged_and_plain_and_the_live_model_stays(load, prompts, completions, tmp_path, targets):
    adapter = load(LoRA(targets=targets))
    move(adapter)
    live, weights = scored(adapter, prompts[:3], completions), {k: v.clone() for k, v in adapter.state_dict().items()}
    adapter.save_pretrained(tmp_path)
    assert all(torch.equal(v, weights[k]) for k, v in adapter.state_dict().items())
    assert torch.equal(scored(adapter, prompts[:3], completions), live)
    again = load_adapter(str(tmp_path), "float32", "sdpa", CACHE_MB)
    assert set(again.state_dict()) == set(load().state_dict())
    torch.testing.assert_close(scored(again, prompts[:3], completions), live, atol=1e-5, rtol=0)
    plain = (tmp_path / "config.json").read_text()
    load().save_pretrained(tmp_path / "plain")
    assert json.loads(plain) == json.loads((tmp_path / "plain" / "config.json").read_text())
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in (tmp_path / "plain").iterdir()} | {"plain"}


def test_a_merged_weight_is_the_closed_form_rounded_once(load, tmp_path):
    adapter = load(LoRA(r=4, alpha=12), "bfloat16")
    move(adapter)
    adapter.save_pretrained(tmp_path)
    layer = adapter.model.model.language_model.layers[1].self_attn.q_proj
    a, b = layer.lora_A.default.weight, layer.lora_B.default.weight
    wanted = (layer.base_layer.weight.float() + 12 / 4 * (b @ a)).bfloat16()  # W + alpha / r B A
    again = load_adapter(str(tmp_path), "bfloat16", "sdpa", CACHE_MB)
    assert torch.equal(again.model.model.language_model.layers[1].self_attn.q_proj.weight, wanted)


@pytest.mark.parametrize("targets", [["no_such"], r".*no_such", "q_proj"])
def test_targets_that_match_nothing_are_told_with_names_that_exist(load, targets):
    with pytest.raises(ConfigError, match=r"policy.lora.targets cannot be .*not found.*example, model\.audio_tower"):
        load(LoRA(targets=targets))


def test_a_target_that_cannot_be_adapted_is_told(load):
    with pytest.raises(ConfigError, match=r"policy.lora.targets cannot be .*not supported"):
        load(LoRA(targets=["self_attn"]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"r": 0}, "policy.lora.r must be at least 1, got 0"),
        ({"alpha": 0}, "policy.lora.alpha must be above 0, got 0"),
        ({"targets": []}, "policy.lora.targets is empty"),
        ({"targets": "("}, r"policy.lora.targets is no regular expression: '\('"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_is_loaded(wrong, message):
    with pytest.raises(ConfigError, match=message):
        LoRA(**wrong)
