"""Scoring with prompts read once, against the unmodified forward of transformers, one completion at a time.

Log-probs and the gradient of every parameter; N completions of up to T tokens.
"""

import copy
import json
import shutil
import warnings
from collections import Counter
from dataclasses import replace

import pytest
import tests_plain
import torch
from tests_plain import plain_logprobs

from avatar.models import LoRA, load_adapter
from avatar.models.plain import PlainText
from avatar.types import Clip, Prompt, Sampling

CACHE_MB = 64
T = 12  # the length limit

# Of each batch: the prompts, and for each completion its prompt and its length. Rows are not sorted by prompt.
BATCHES = {
    "sounding video": (["sounding", "sounding 2"], [(1, 4), (0, 7), (0, 1), (1, T), (0, 0)]),
    "no media": (["words", "more words"], [(0, 3), (1, 5), (0, T), (1, 1)]),
    "sound alone": (["sound", "sound 2"], [(1, 1), (0, 6), (1, 0), (1, 8)]),
    "two videos": (["two videos", "two silent videos"], [(0, 5), (1, 2), (0, 9)]),
    "silent video": (["silent", "silent 2"], [(1, 6), (0, 2), (0, T), (1, 3)]),
    "sound and silent video": (["mixed", "sounding"], [(0, 4), (1, 1), (0, 7)]),
    "images": (["image", "two images", "image, sounding", "image, sound"], [(3, 4), (0, 7), (2, 1), (1, T), (2, 5)]),
    "a prompt for each completion": (["words", "sounding", "sound"], [(2, 3), (0, 9), (1, 1)]),
    "one token each": (["sounding", "words"], [(1, 1), (0, 1), (0, 1)]),
    # The third prompt is followed by none, the fifth by an empty one; the seventh has three that are all the same.
    "all kinds": (
        ["sounding", "words", "more words", "two videos", "silent", "mixed", "sound", "image, sounding"],
        [(6, 5), (0, 7), (3, 2), (0, 0), (1, T), (4, 0), (5, 1), (6, 5), (0, T), (3, 9), (6, 5), (0, 1), (7, 8)],
    ),
}
EQUAL = {("all kinds", row): 0 for row in (0, 7, 10)}  # rows whose tokens are those of row 0


def noise(key, seconds, seed=0):
    samples = torch.rand(round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))
    return Clip(key, audio=2 * samples - 1)


def ask(key, clips, question="how many beeps ?"):
    """Text before, between and after the clips."""
    parts = [{"type": "text", "text": "listen ."}]
    for clip in clips:
        parts += [{"type": clip.kind}, {"type": "text", "text": "and ?"}]
    return Prompt(key, [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}], tuple(clips), "1")


@pytest.fixture(scope="session")
def posed(prompts):
    """Prompts by name; those of one clip share its key."""
    first, second = {p.clips[0].key: p.clips[0] for p in prompts}.values()
    other = Clip("other", second.frames[:6], second.fps, second.audio[:9000])
    silent, short = Clip("silent", first.frames, first.fps), Clip("short", second.frames[:4, :, :28], second.fps)
    still = Clip("image", first.frames[3:4], image=True)
    clips = {
        "sounding": [first],
        "sounding 2": [other],
        "words": [],
        "sound": [noise("sound", 0.73)],
        "sound 2": [noise("sound 2", 1.3, seed=1)],
        "two videos": [first, other],
        "two silent videos": [silent, short],
        "silent": [silent],
        "silent 2": [short],
        "mixed": [noise("sound", 0.73), silent],
        "image": [still],
        "two images": [still, Clip("image 2", second.frames[5:6, :, :28], image=True)],
        "image, sounding": [still, first],
        "image, sound": [still, noise("sound", 0.73)],
    }
    built = {name: ask(name, of_prompt) for name, of_prompt in clips.items()}
    built["more words"] = ask("more words", [], "which is more ? " * 12)
    return built


@pytest.fixture(autouse=True)
def processed_once(monkeypatch):
    """The processor of transformers fills every sound up to 300 s: that is most of the time of the plain way."""

    def looked_up(adapter, prompt):
        if prompt.key not in PROCESSED:
            PROCESSED[prompt.key] = process(adapter, prompt)
        inputs, sounding = PROCESSED[prompt.key]
        return copy.copy(inputs), sounding

    process = tests_plain.plain_inputs
    monkeypatch.setattr(tests_plain, "plain_inputs", looked_up)


PROCESSED = {}  # by key of the prompt


class Batch:
    """Prompts, completions of random tokens, and random slopes of a loss, which is linear in the log-probs."""

    def __init__(self, name, posed):
        names, rows = BATCHES[name]
        generator = torch.Generator().manual_seed(len(rows))
        self.prompts = [posed[n] for n in names]
        self.group, self.lengths = (torch.tensor(column) for column in zip(*rows, strict=True))
        self.ids = torch.randint(10, 379, (len(rows), T), generator=generator)
        self.slopes = torch.randn(len(rows), T, generator=generator)
        for (batch, row), other in EQUAL.items():
            if batch == name:
                self.ids[row] = self.ids[other]
        self.mask = torch.arange(T) < self.lengths[:, None]

    def scored(self, adapter, temperature=1.0):
        return adapter.logprobs(adapter.encode(self.prompts), self.ids, self.mask, self.group, temperature)

    def scored_plainly(self, adapter, row, temperature=1.0):
        ids = self.ids[row, : self.lengths[row]]
        return plain_logprobs(adapter, self.prompts[self.group[row]], ids, temperature)

    def assert_plain(self, adapter, scored, temperature=1.0):
        for row, length in enumerate(self.lengths.tolist()):
            if length:
                plain = self.scored_plainly(adapter, row, temperature)
                torch.testing.assert_close(scored[row, :length], plain, atol=1e-5, rtol=0)

    def gradients(self, adapter):
        adapter.zero_grad()
        (self.scored(adapter) * self.slopes).sum().backward()
        return taken(adapter)

    def plain_gradients(self, adapter):
        adapter.zero_grad()
        for row, length in enumerate(self.lengths.tolist()):
            if length:
                (self.scored_plainly(adapter, row) * self.slopes[row, :length]).sum().backward()
        return taken(adapter)


def taken(adapter):
    gradients = {name: p.grad.clone() for name, p in adapter.named_parameters() if p.grad is not None}
    adapter.zero_grad()
    return gradients


def assert_same_gradients(ours, plain):
    assert plain
    assert set(ours) == set(plain), "a parameter has a gradient in one way and none in the other"
    whole = torch.cat([g.flatten() for g in plain.values()]).norm()
    for name in plain:
        # A tower's convolution sees padded and unpadded mel frames summed in another order: its own gradient is tiny.
        scale = whole if "tower" in name or "visual" in name else plain[name].norm()
        error = (ours[name] - plain[name]).norm() / scale
        assert error <= 1e-5, f"{name}: {error:.1e}"


def lora(adapter, targets):
    """LoRA that has been trained, as far as these tests are concerned: B is no longer 0."""
    adapter.add_lora(LoRA(r=4, targets=targets))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_" in name:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


# -- in fp32 -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("name", "temperature"), [*((name, 1.0) for name in BATCHES), ("all kinds", 0.7)])
def test_logprobs_are_those_of_the_unmodified_forward(adapter, posed, name, temperature):
    batch = Batch(name, posed)
    scored = batch.scored(adapter, temperature)
    assert scored.shape == batch.ids.shape
    assert (scored[~batch.mask] == 0).all()
    batch.assert_plain(adapter, scored, temperature)


@pytest.mark.parametrize(("name", "frozen"), [*((name, False) for name in BATCHES), ("all kinds", True)])
def test_the_gradient_of_every_parameter_is_that_of_the_unmodified_forward(adapter, posed, name, frozen):
    adapter.freeze_towers(frozen)
    batch = Batch(name, posed)
    plain = batch.plain_gradients(adapter)
    followed = {int(g) for g, length in zip(batch.group, batch.lengths, strict=True) if length}
    heard = any(clip.audio is not None for g in followed for clip in batch.prompts[g].clips)
    assert any("audio_tower" in name for name in plain) is (heard and not frozen)
    assert_same_gradients(batch.gradients(adapter), plain)


@pytest.mark.parametrize(
    "targets",
    [LoRA().targets, "all-linear", ["q_proj", "embed_tokens", "lm_head"]],
    ids=["text layers", "all linear", "both ends"],
)
def test_the_gradient_of_lora_is_that_of_the_unmodified_forward(adapter, posed, targets):
    lora(adapter, targets)
    batch = Batch("all kinds", posed)
    ours = batch.gradients(adapter)
    assert set(ours) == {name for name, _ in adapter.named_parameters() if "lora_" in name}
    assert_same_gradients(ours, batch.plain_gradients(adapter))


def recomputing(adapter, use_reentrant):
    """Switch gradient checkpointing of the text model on, and count how often each of its layers is gone through."""
    text, calls = adapter.model.model.language_model, Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that is what transformers says now, and did say before
        text.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    adapter.train()
    for i, layer in enumerate(text.layers):
        layer.mlp.register_forward_pre_hook(lambda *_, i=i: calls.update([i]))
    return calls


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen towers", "learning towers"])
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_layers_that_recompute_have_the_same_gradients(adapter, posed, use_reentrant, frozen):
    adapter.freeze_towers(frozen)
    batch = Batch("all kinds", posed)
    plain = batch.plain_gradients(adapter)
    calls = recomputing(adapter, use_reentrant)
    assert_same_gradients(batch.gradients(adapter), plain)
    assert calls == {0: 2, 1: 2}  # each layer once forward and once more in the backward pass


@pytest.mark.parametrize("targets", [LoRA().targets, "all-linear"], ids=["text layers", "all linear"])
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_layers_that_recompute_have_the_same_gradients_of_lora(adapter, posed, use_reentrant, targets):
    lora(adapter, targets)
    batch = Batch("all kinds", posed)
    plain = batch.plain_gradients(adapter)
    calls = recomputing(adapter, use_reentrant)
    adapter.model.enable_input_require_grads()  # reentrant checkpoints want an input that has a gradient
    assert_same_gradients(batch.gradients(adapter), plain)
    assert calls == {0: 2, 1: 2}


def test_rows_may_come_in_any_order(adapter, posed):
    """What is computed for a row follows from its prompt, not from where the row stands."""
    batch = Batch("all kinds", posed)
    with torch.no_grad():
        prefixes = adapter.encode(batch.prompts)
        scored = adapter.logprobs(prefixes, batch.ids, batch.mask, batch.group)
        for seed in range(3):
            order = torch.randperm(len(batch.ids), generator=torch.Generator().manual_seed(seed))
            again = adapter.logprobs(prefixes, batch.ids[order], batch.mask[order], batch.group[order])
            torch.testing.assert_close(again, scored[order], atol=1e-6, rtol=0)


def test_equal_completions_of_one_prompt_have_equal_logprobs_and_their_gradients_add_up(adapter, posed):
    """Three times the same completion is three times the gradient of one."""
    prefixes, ids = adapter.encode([posed["sounding"], posed["words"]]), torch.randint(10, 379, (1, 9))
    other = torch.randint(10, 379, (1, 9))

    def gradients(times):
        rows = torch.cat([ids.expand(times, -1), other])
        group = torch.tensor([0] * times + [1])
        scored = adapter.logprobs(prefixes, rows, torch.ones_like(rows, dtype=torch.bool), group)
        torch.testing.assert_close(scored[:times], scored[:1].expand(times, -1), atol=1e-6, rtol=0)
        (scored[:times].sum() + times * scored[times:].sum()).backward()
        return taken(adapter)

    one, three = gradients(1), gradients(3)
    assert_same_gradients(three, {name: 3 * gradient for name, gradient in one.items()})


@pytest.mark.parametrize("width", [T, 0])
@pytest.mark.parametrize("with_lora", [False, True])
def test_a_batch_of_nothing_but_empty_completions_scores_zero_and_teaches_nothing(adapter, posed, with_lora, width):
    if with_lora:
        lora(adapter, LoRA().targets)
    ids = torch.zeros(3, width, dtype=torch.long)
    prefixes, group = adapter.encode([posed["sounding"], posed["words"]]), torch.tensor([1, 0, 1])
    scored = adapter.logprobs(prefixes, ids, torch.zeros_like(ids, dtype=torch.bool), group)
    assert scored.shape == ids.shape
    assert (scored == 0).all()
    scored.sum().backward()
    assert all((gradient == 0).all() for gradient in taken(adapter).values())


def test_what_is_generated_has_the_logprobs_of_the_unmodified_forward(adapter, posed):
    asked = [posed[name] for name in ("image", "sounding", "two images", "words", "image, sounding", "image, sound")]
    drawn = adapter.generate(adapter.encode(asked), 2, Sampling(1.0, T), torch.Generator().manual_seed(0))
    for prompt, group in zip(asked, drawn, strict=True):
        for completion in group:
            with torch.no_grad():
                plain = plain_logprobs(adapter, prompt, completion.ids)
            torch.testing.assert_close(completion.behaviour_logprobs, plain, atol=1e-5, rtol=0)


# -- in bf16 -----------------------------------------------------------------------------------------------------------


def test_in_bfloat16_it_is_no_further_from_fp32_than_two_plain_runs_are(micro, posed):
    """The truth is fp32 with the same rounded weights and features; what a way adds to it is its own rounding."""
    rounded, exact = (load_adapter(str(micro / "model"), "bfloat16", "sdpa", CACHE_MB) for _ in range(2))
    rounded.freeze_towers()
    exact.float().freeze_towers()
    batch = Batch("all kinds", posed)
    prefixes = rounded.encode(batch.prompts)
    wide = [replace(p, features={kind: features.float() for kind, features in p.features.items()}) for p in prefixes]

    def together(adapter, features):
        return adapter.logprobs(features, batch.ids, batch.mask, batch.group)

    def one_by_one(adapter, features):
        scored = torch.zeros(batch.ids.shape)
        for row, length in enumerate(batch.lengths.tolist()):
            if length:
                scored[row, :length] = batch.scored_plainly(adapter, row)
        return scored

    def run(way, adapter, features):
        """Log-probs of all tokens, and all gradients end to end."""
        scored = way(adapter, features)
        (scored * batch.slopes).sum().backward()
        gradients = taken(adapter)
        return scored.detach()[batch.mask], torch.cat([gradients[name].float().flatten() for name in sorted(gradients)])

    truth, runs = run(together, exact, wide), {"shared": run(together, rounded, prefixes)}
    rounded.text = PlainText(rounded.model.model.language_model)
    runs["padded"], runs["alone"] = run(together, rounded, prefixes), run(one_by_one, rounded, prefixes)
    for i in range(2):  # log-probs, gradients
        errors = {name: (ours[i] - truth[i]).norm() / truth[i].norm() for name, ours in runs.items()}
        assert 0 < errors["shared"] <= 1.5 * min(errors["padded"], errors["alone"]), errors


def test_under_autocast_it_is_no_further_from_fp32_than_the_plain_way_is(adapter, posed):
    """Trainer(precision="bf16-mixed"): weights in fp32, products in bf16."""
    batch = Batch("no media", posed)
    wanted = batch.scored(adapter).detach()
    errors = []
    for run in (PlainText(adapter.model.model.language_model), adapter.text):
        adapter.text = run
        with torch.autocast("cpu", torch.bfloat16):
            scored = batch.scored(adapter)
        scored.sum().backward()
        assert all(gradient.isfinite().all() for gradient in taken(adapter).values())
        errors.append((scored.detach() - wanted)[batch.mask].norm())
    assert 0 < errors[1] <= 1.5 * errors[0], errors


# -- models that it does not fit ---------------------------------------------------------------------------------------


def misfit(micro, folder, attention, **text_config):
    """The tiny model with another text config; the weights stay."""
    shutil.copytree(micro / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= text_config
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="read once for each completion") as caught:
        loaded = load_adapter(str(folder), "float32", attention, CACHE_MB)
    ours = [w for w in caught if "read once" in str(w.message)]
    assert len(ours) == 1
    loaded.freeze_towers()
    return loaded, str(ours[0].message)


MISFITS = {
    "its attn_implementation is 'eager'": ("eager", {}),
    "a window only": (
        "sdpa",
        {"use_sliding_window": True, "sliding_window": 9, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "an attention dropout of 0.1": ("sdpa", {"attention_dropout": 0.1}),
}


@pytest.mark.parametrize("reason", MISFITS)
def test_a_model_that_it_does_not_fit_says_so_once_and_is_right_all_the_same(micro, tmp_path, posed, reason):
    attention, config = MISFITS[reason]
    loaded, message = misfit(micro, tmp_path / "model", attention, **config)
    assert reason in message
    batch = Batch("all kinds", posed)
    with torch.no_grad():
        batch.assert_plain(loaded, batch.scored(loaded))
    groups = loaded.generate(
        loaded.encode(batch.prompts), [2, 0, 1, 1, 0, 1, 1, 2], Sampling(1.0, 20), torch.Generator().manual_seed(0)
    )
    for prompt, group in zip(batch.prompts, groups, strict=True):
        for completion in group:
            with torch.no_grad():
                plain = plain_logprobs(loaded, prompt, completion.ids)
            torch.testing.assert_close(completion.behaviour_logprobs, plain, atol=1e-5, rtol=0)


def test_eager_attention_gives_what_sdpa_gives(micro, tmp_path, adapter, posed):
    eager, _ = misfit(micro, tmp_path / "model", "eager")
    batch = Batch("all kinds", posed)
    with torch.no_grad():
        torch.testing.assert_close(batch.scored(eager), batch.scored(adapter), atol=1e-5, rtol=0)
    assert_same_gradients(batch.gradients(eager), batch.gradients(adapter))
