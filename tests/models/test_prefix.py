"""Prompts and completions in one row: who sees whom, and what the text model makes of it.

S tokens of the row, H heads, K key-value heads, D head size.
"""

import copy
import json
import warnings

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import Qwen2_5OmniThinkerForConditionalGeneration
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniTextConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel

from avatar.models import load_adapter
from avatar.models.decoding import DecodePlan
from avatar.models.plain import PlainText, text_pass
from avatar.models.prefix import (
    SHARED_PREFIX,
    PackedPlan,
    PrefillPlan,
    _SplitAttention,
    put_together,
    share_prefixes,
    why_not_shared,
)
from avatar.models.text import Embedded, SharedDecoder, SharedText

CPU, SCALE, HEAD = torch.device("cpu"), 0.3, 8
CACHE_MB = 64

# Prompts, and the completions that follow each. The second prompt of the first has none.
CASES = {
    "ragged": ([5, 3, 40], [[2, 4, 1], [], [35, 3]]),
    "one prompt": ([4], [[1, 1, 6]]),
    "nothing written": ([4, 2], [[], []]),
    "completions of no token": ([3, 6], [[0, 2, 0], [0]]),
    "all of one length": ([4, 4], [[3, 3], [3, 3]]),
}


@pytest.fixture(autouse=True)
def ampere(monkeypatch):
    """The devices of the fake tensors have no driver to ask how new they are."""
    monkeypatch.setattr("avatar.models.spans._is_ampere", lambda device: True)


def seen_by(prompts, completions):
    """[S, S] bool: a prompt sees itself, a completion its prompt and itself, both up to the token that asks."""
    own = [n for lengths in completions for n in lengths]
    prompt = list(range(len(prompts)))
    owner = [*prompt, *(b for b, lengths in enumerate(completions) for _ in lengths)]
    lengths = torch.tensor([*prompts, *own])
    sequence = torch.arange(len(lengths)).repeat_interleave(lengths)
    prompt_of = torch.tensor(owner).repeat_interleave(lengths)
    place = torch.arange(len(sequence))
    earlier = place <= place[:, None]
    same = sequence == sequence[:, None]
    of_my_prompt = (sequence < len(prompts)) & (prompt_of == prompt_of[:, None])
    return earlier & (same | of_my_prompt)


def plain(q, k, v, seen):
    """[1, H, S, D], [1, K, S, D], [1, K, S, D] to [1, S, H, D], through one softmax over the whole mask."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = (q @ k.mT * SCALE).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def leaves(size, heads=2, factor=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, heads * factor, size, HEAD), (1, heads, size, HEAD), (1, heads, size, HEAD)]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def size_of(prompts, completions):
    return sum(prompts) + sum(n for lengths in completions for n in lengths)


# -- attention ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("name", CASES)
def test_a_packed_row_equals_one_softmax_over_the_whole_mask_forward_and_backward(name, factor):
    prompts, completions = CASES[name]
    plan, inputs = PackedPlan(prompts, completions, 3, CPU), leaves(size_of(prompts, completions), factor=factor)
    wanted = plain(*inputs, seen_by(prompts, completions))
    for layer in range(3):
        out = plan.attend(layer, *inputs, SCALE)
        read = plan.kept if layer == 2 else torch.arange(out.shape[1])  # the last layer is asked for some rows alone
        torch.testing.assert_close(out[:, read], wanted[:, read], atol=1e-12, rtol=0)
        grad = torch.zeros_like(out)
        grad[:, read] = torch.randn(grad[:, read].shape, dtype=grad.dtype)
        ours = torch.autograd.grad(out, inputs, grad)
        theirs = torch.autograd.grad(wanted, inputs, grad, retain_graph=True)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_the_last_layer_keeps_the_end_of_each_prompt_and_all_that_was_written():
    """Prompts of 5 and 3 end at rows 4 and 7; the completions, of 2, 1 and 4, are rows 8 to 14."""
    plan = PackedPlan([5, 3], [[2, 1], [4]], 2, CPU)
    assert plan.kept.tolist() == [4, 7, *range(8, 15)]
    out = plan.attend(1, *leaves(15), SCALE)
    assert (out[:, [0, 1, 2, 3, 5, 6]] == 0).all()
    assert (out[:, plan.kept] != 0).all()


@pytest.mark.parametrize("layer", [0, 1])
def test_the_gradients_are_those_of_finite_differences(layer):
    prompts, completions = [3, 2], [[2, 0, 1], [3]]
    plan = PackedPlan(prompts, completions, 2, CPU)
    inputs = leaves(size_of(prompts, completions), heads=1)
    assert torch.autograd.gradcheck(lambda q, k, v: plan.attend(layer, q, k, v, SCALE), inputs)


def test_what_one_completion_writes_changes_no_bit_of_another_nor_of_a_prompt():
    prompts, completions = [5, 40], [[3, 2], [4, 35]]
    plan, inputs = PackedPlan(prompts, completions, 2, CPU), leaves(89, dtype=torch.float32)
    with torch.no_grad():
        before = plan.attend(0, *inputs, SCALE)
        for x in inputs:
            x[:, :, 48:50] += 1  # the second completion of the first prompt: after 45 prompt tokens and 3
        after = plan.attend(0, *inputs, SCALE)
    moved = (before != after).flatten(2).any(-1)[0].nonzero()[:, 0]
    assert moved.tolist() == [48, 49]


def test_prompts_alone_give_what_they_give_in_company_and_their_keys_are_kept():
    prompts, inputs = [5, 3, 40], leaves(48)
    plan = PrefillPlan(prompts, 2, CPU)
    outs = [plan.attend(layer, *inputs, SCALE) for layer in range(2)]
    wanted = plain(*inputs, seen_by(prompts, [[], [], []]))
    torch.testing.assert_close(outs[0], wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(outs[1][:, [4, 7, 47]], wanted[:, [4, 7, 47]], atol=1e-12, rtol=0)
    for kept, given_to_it in ((plan.keys, inputs[1]), (plan.values, inputs[2])):
        assert len(kept) == 2
        assert all(torch.equal(x, given_to_it[0].transpose(0, 1)) for x in kept)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1000), st.sampled_from([1.0, 30.0]))
@settings(max_examples=60, deadline=None)
def test_two_parts_of_a_softmax_put_together_are_one_softmax_over_both(first, second, seed, spread):
    """A part without keys has a log-sum-exp of -inf: it adds nothing."""
    assume(first + second)
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(4, first + second, generator=generator, dtype=torch.float64)
    values = torch.randn(first + second, HEAD, generator=generator, dtype=torch.float64)
    parts = []
    for s, v in ((scores[:, :first], values[:first]), (scores[:, first:], values[first:])):
        parts += [s.softmax(-1) @ v, s.logsumexp(-1)]
    out, lse = put_together(*parts)
    torch.testing.assert_close(out, scores.softmax(-1) @ values, atol=1e-12, rtol=0)
    torch.testing.assert_close(lse, scores.logsumexp(-1), atol=1e-12, rtol=1e-12)


def test_a_packed_row_has_its_shape_on_a_gpu_forward_and_backward():
    """Fake tensors go through the signatures of the packed kernels; autograd itself would want a device."""
    with FakeTensorMode():
        for layer in range(2):
            plan = PackedPlan([5, 3], [[2, 1], [4]], 2, torch.device("cuda"))
            parts = plan.last_parts if layer == 1 else plan.parts
            rows = [torch.empty(15, heads, 16, device="cuda", dtype=torch.bfloat16) for heads in (4, 2, 2)]
            ctx = Context()
            out = _SplitAttention.forward(ctx, *rows, parts, SCALE)
            assert (out.shape, out.dtype, out.device.type) == ((15, 4, 16), torch.bfloat16, "cuda")
            assert (ctx.saved_tensors[-1].shape, ctx.saved_tensors[-1].dtype) == ((15, 4), torch.float32)
            grads = _SplitAttention.backward(ctx, torch.empty_like(out))
            assert [(g.shape, g.dtype) for g in grads[:3]] == [(x.shape, torch.bfloat16) for x in rows]


class Context:
    """Keeps what a forward pass leaves for the backward pass."""

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


# -- the text model ----------------------------------------------------------------------------------------------------


def text_model(attention="sdpa", seed=0, **config):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    settings = sizes | {"num_hidden_layers": 3, "vocab_size": 50, "rope_parameters": rope, "initializer_range": 0.2}
    built = Qwen2_5OmniTextConfig(**(settings | config))
    built._attn_implementation = attention
    return Qwen2_5OmniThinkerTextModel(built).eval()


@torch.no_grad()
def test_without_a_plan_a_model_computes_what_it_did_to_the_bit():
    plain_model, shared = text_model(), text_model()
    share_prefixes(shared)
    embeds, mask = torch.randn(2, 9, 32), torch.ones(2, 9, dtype=torch.long)
    for given_mask in (None, mask, mask.index_put((torch.tensor([0, 0]), torch.tensor([0, 1])), torch.tensor(0))):
        wanted = plain_model(inputs_embeds=embeds, attention_mask=given_mask).last_hidden_state
        ours = shared(inputs_embeds=embeds, attention_mask=given_mask).last_hidden_state
        assert torch.equal(ours, wanted)
    cached = [
        m(inputs_embeds=embeds, attention_mask=mask, use_cache=True).past_key_values for m in (plain_model, shared)
    ]
    steps = [
        m(inputs_embeds=embeds[:, :1], attention_mask=torch.ones(2, 10), past_key_values=cache).last_hidden_state
        for m, cache in zip((plain_model, shared), cached, strict=True)
    ]
    assert torch.equal(*steps)


@torch.no_grad()
def test_with_a_plan_the_model_gives_the_kept_rows_of_each_sequence_read_alone():
    prompts, completions = [6, 3], [[2, 4], [1]]
    model = text_model()
    embeds, positions = torch.randn(16, 32), torch.randint(0, 20, (3, 16))
    # Rows of the sequences: prompt 0 is 0-5, prompt 1 is 6-8, and after them come 9-10, 11-14 and 15.
    alone = {
        "first": [*range(6), 9, 10],
        "second": [*range(6), *range(11, 15)],
        "third": [*range(6, 9), 15],
    }
    wanted = torch.empty(16, 32)
    for rows in alone.values():
        hidden = model(inputs_embeds=embeds[None, rows], position_ids=positions[:, None, rows]).last_hidden_state
        wanted[rows] = hidden[0]
    share_prefixes(model)
    plan = PackedPlan(prompts, completions, 3, CPU)
    ours = model(
        inputs_embeds=embeds[None], position_ids=positions[:, None], attention_mask={"full_attention": None},
        use_cache=False, plan=plan,
    ).last_hidden_state  # fmt: skip
    assert ours.shape == (1, len(plan.kept), 32)
    torch.testing.assert_close(ours[0], wanted[plan.kept], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_whole_text_model_has_its_shapes_on_a_gpu(monkeypatch):
    """Scoring, reading prompts and two steps after them, on fake tensors in bfloat16."""
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)  # the fake device has no stream of numbers
    default = torch.get_default_dtype()
    with FakeTensorMode(), torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            shared = SharedText(text_model(hidden_size=64, num_attention_heads=8))
        finally:
            torch.set_default_dtype(default)
        prompts = [
            Embedded(torch.empty(n, 64, dtype=torch.bfloat16), torch.zeros(3, n, dtype=torch.long)) for n in (7, 50)
        ]
        ids = torch.zeros(4, 6, dtype=torch.long)
        hidden = shared.hidden(prompts, ids, [6, 0, 1, 3], [1, 0, 0, 1])
        assert (hidden.shape, hidden.dtype) == ((10, 64), torch.bfloat16)  # 6 + 0 + 1 + 3 tokens
        plan = PrefillPlan([7, 50], 3, prompts[0].embeds.device)
        embeds, positions = torch.cat([p.embeds for p in prompts])[None], torch.zeros(3, 1, 57, dtype=torch.long)
        assert shared.run(embeds, positions, plan).shape == (1, 2, 64)
        decoder = SharedDecoder(shared, DecodePlan(plan, [1, 3]), torch.zeros(4, dtype=torch.long))
        for _ in range(2):
            assert decoder.step(torch.zeros(4, dtype=torch.long)).shape == (4, 64)


# -- which models it fits ----------------------------------------------------------------------------------------------

MISFITS = {
    "'eager'": {"attention": "eager"},
    "a window only": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "dropout of 0.1": {"attention_dropout": 0.1},
}


@pytest.mark.parametrize("reason", MISFITS)
def test_a_model_that_it_does_not_fit_is_told_why_once_and_run_plainly(reason):
    with pytest.warns(UserWarning, match="read once for each completion") as caught:
        run = text_pass(text_model(**MISFITS[reason]))
    assert type(run) is PlainText
    assert len(caught) == 1
    assert reason in str(caught[0].message)
    assert reason in why_not_shared(run.text_model)
    assert run.text_model.config._attn_implementation != SHARED_PREFIX


def test_layers_of_another_class_are_refused_by_name():
    model = text_model()
    model.layers[0] = torch.nn.Linear(2, 2)
    assert why_not_shared(model) == "its layers are Linear"


def test_a_model_that_it_fits_is_told_nothing_and_may_be_shared_twice():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = text_pass(text_model()).text_model
        assert why_not_shared(model) is None
        assert type(text_pass(model)) is SharedText


# -- what is left behind -----------------------------------------------------------------------------------------------


def test_a_saved_config_has_no_trace_of_it_and_plain_transformers_can_load_it(adapter, tmp_path):
    assert adapter.model.model.language_model.config._attn_implementation == SHARED_PREFIX
    adapter.save_pretrained(tmp_path / "whole")
    adapter.save_skeleton(tmp_path / "skeleton")
    for folder in (tmp_path / "whole", tmp_path / "skeleton"):
        assert all(SHARED_PREFIX not in path.read_text() for path in folder.glob("*.json"))
        assert "KeptRows" not in json.dumps(json.loads((folder / "config.json").read_text()))
    again = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(tmp_path / "whole")
    assert again.model.language_model.config._attn_implementation == "sdpa"
    weights = adapter.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())


def test_the_towers_keep_their_own_attention(adapter):
    model = adapter.model.model
    assert {tower.config._attn_implementation for tower in (model.visual, model.audio_tower)} == {"sdpa"}
    assert adapter.model.config._attn_implementation == "sdpa"


@torch.no_grad()
def test_a_deep_copy_is_another_model_that_scores_the_same(adapter, prompts):
    ids, group = torch.tensor([[40, 50, 60], [70, 80, 2], [90, 33, 0]]), torch.tensor([1, 0, 1])
    mask = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0]]).bool()

    def scored(which):
        return which.logprobs(which.encode(prompts[:2]), ids, mask, group)

    before, copied = scored(adapter), copy.deepcopy(adapter)
    assert torch.equal(scored(copied), before)
    assert copied.text.text_model is copied.model.model.language_model
    for parameter in copied.model.parameters():
        parameter.zero_()
    assert torch.equal(scored(adapter), before)
    assert not torch.equal(scored(copied), before)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_eager_attention_is_kept_where_it_was_asked_for(micro, attention):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_adapter(str(micro / "model"), "float32", attention, CACHE_MB)
    assert type(loaded.text) is (SharedText if attention == "sdpa" else PlainText)
    wanted = SHARED_PREFIX if attention == "sdpa" else "eager"
    assert loaded.model.model.language_model.config._attn_implementation == wanted
