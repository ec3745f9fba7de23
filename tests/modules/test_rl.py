from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tests_plain import plain_logits, plain_logprobs
from tests_replay import fit as run_loop

from avatar.advantages import GRPO
from avatar.errors import CheckpointError, ConfigError
from avatar.losses import Objective
from avatar.models import LoRA, load_adapter
from avatar.modules import Policy, Reference, RLModule
from avatar.modules.steps import step_seed
from avatar.rewards import Reward, Scored

CACHE_MB = 64


class LastToken(Reward):
    """Random-looking and never the same over a group: what the tiny untrained model writes earns it some spread."""

    def __call__(self, prompts, completions, group):
        rewards = torch.tensor([float(int(c.ids.sum()) % 7) for c in completions])
        return Scored(rewards, torch.ones(len(rewards), dtype=torch.bool))


class SkipsTheFirst(LastToken):
    """A judge that could not judge the first completion."""

    def __call__(self, prompts, completions, group):
        scored = super().__call__(prompts, completions, group)
        return Scored(scored.rewards, torch.arange(len(completions)) > 0)


class KeepGradients(Callback):
    def __init__(self):
        self.gradients, self.weights = {}, {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.weights = {k: v.clone() for k, v in module.policy.state_dict().items()}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients = {k: p.grad.clone() for k, p in module.policy.named_parameters() if p.grad is not None}


@pytest.fixture
def reference_folder(adapter, tmp_path):
    """A model a little away from the policy, towers too, so that the KL term has a gradient."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in adapter.model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    adapter.save_pretrained(tmp_path / "reference")
    return tmp_path / "reference"


def module_of(micro: Path, **kwargs) -> RLModule:
    policy = Policy(str(micro / "model"), dtype="float32")
    defaults = {"num_generations": 4, "max_new_tokens": 10, "max_grad_norm": 1e9, "rewards": [LastToken()]}
    return RLModule(policy, **(defaults | kwargs))


def fit(module: RLModule, micro: Path, tmp_path: Path, steps: int = 1, **kwargs) -> Trainer:
    return run_loop(module, micro, tmp_path, steps, split="train", **kwargs)


def plain_loss(module, reference, rollout, weights, beta=0.1, eps=0.2):
    """One completion after the other, through the unmodified processor and forward of transformers."""
    adapter = module.policy.adapter
    module.policy.load_state_dict(weights)
    experience, losses = rollout.experience, []
    for i, completion in enumerate(rollout.completions):
        if not experience.valid[i]:
            continue
        mates = [j for j in range(len(rollout.completions)) if experience.group[j] == experience.group[i]]
        scores = torch.tensor([experience.rewards[j] for j in mates if experience.valid[j]])
        deviation = (((scores - scores.mean()) ** 2).sum() / (len(scores) - 1)).sqrt()  # ddof 1
        advantage = (experience.rewards[i] - scores.mean()) / (deviation + 1e-4)
        prompt = rollout.posed.prompts[int(experience.prompt[i])]
        logprobs = plain_logprobs(adapter, prompt, completion.ids)
        with torch.no_grad():
            ref_logprobs = plain_logprobs(reference, prompt, completion.ids)
        ratio = (logprobs - completion.behaviour_logprobs).exp()
        policy = -torch.minimum(ratio * advantage, ratio.clamp(1 - eps, 1 + eps) * advantage)
        kl = (ref_logprobs - logprobs).exp() - (ref_logprobs - logprobs) - 1
        losses.append((policy + beta * kl).mean())  # over the completion's own tokens
    return torch.stack(losses).mean()  # over completions


@pytest.mark.parametrize("reward", [LastToken, SkipsTheFirst])
@pytest.mark.parametrize("freeze_towers", [True, False])
def test_the_gradient_of_a_step_equals_that_of_a_plain_loop_over_completions(
    micro, tmp_path, reference_folder, reward, freeze_towers
):
    module = module_of(micro, reference=Reference(str(reference_folder)), rewards=[reward()], max_new_tokens=24)
    keep = KeepGradients()
    module.policy.freeze_towers = freeze_towers
    fit(module, micro, tmp_path, callbacks=[keep], seed=1)
    lengths = {len(c.ids) for c in module.rollout.completions}
    assert len(lengths) > 1, "the batch must be ragged for this test to mean something"
    module.policy.zero_grad()
    reference = load_adapter(str(reference_folder), "float32", "sdpa", CACHE_MB)
    plain_loss(module, reference, module.rollout, keep.weights).backward()
    plain = {k: p.grad for k, p in module.policy.named_parameters() if p.grad is not None}
    assert set(keep.gradients) == set(plain), "a parameter has a gradient in one way and none in the other"
    assert any("audio_tower" in name for name in plain) is not freeze_towers
    whole = torch.cat([g.flatten() for g in plain.values()]).norm()
    for name in plain:
        # A tower's convolution sees padded and unpadded mel frames summed in another order: its own gradient is tiny.
        scale = whole if "tower" in name or "visual" in name else plain[name].norm()
        error = (keep.gradients[name] - plain[name]).norm() / scale
        assert error < 1e-5, f"{name}: {error:.1e}"


def test_on_fresh_data_every_ratio_is_one_and_nothing_is_clipped(micro, tmp_path):
    module = module_of(micro)
    module.log_step = lambda metrics, step: seen.append(metrics)
    seen: list = []
    fit(module, micro, tmp_path, steps=2)
    for metrics in seen:
        assert metrics["ratio_mean/fresh"] == pytest.approx(1.0, abs=1e-5)
        assert metrics["ratio_max/fresh"] == pytest.approx(1.0, abs=1e-4)
        assert metrics["clip_share/fresh"] == 0
    assert seen[0]["kl/fresh"] == pytest.approx(0.0, abs=1e-6)  # the policy has not moved yet
    assert seen[1]["kl/fresh"] > 0


def test_completions_are_counted_and_dated(micro, tmp_path):
    module = module_of(micro)
    fit(module, micro, tmp_path, steps=3)
    assert module.num_generated == 3 * 2 * 4  # steps x prompts x generations
    assert {c.step for c in module.rollout.completions} == {3}
    assert module.rollout.experience.group.tolist() == [0] * 4 + [1] * 4


def test_without_a_kl_term_no_reference_is_loaded(micro, tmp_path):
    module = module_of(micro, objective=Objective(beta=0.0), reference=Reference("nowhere"))
    fit(module, micro, tmp_path)
    assert module.reference is None


def test_the_reference_does_not_move_and_lies_in_no_checkpoint(micro, tmp_path):
    module = module_of(micro, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    trainer = fit(module, micro, tmp_path)
    assert module.reference.fingerprint == module.reference.adapter.fingerprint()
    assert module.policy.adapter.fingerprint() != module.reference.fingerprint
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert all(k.startswith("policy.") for k in checkpoint["state_dict"])
    assert checkpoint["rl"]["reference"] == {
        "path": str(micro / "model"),
        "fingerprint": module.reference.fingerprint,
    }


def test_another_reference_than_the_checkpoints_is_refused(micro, tmp_path, reference_folder):
    trainer = fit(module_of(micro), micro, tmp_path)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    other = module_of(micro, reference=Reference(str(reference_folder)))
    with pytest.raises(CheckpointError, match="another model"):
        fit(other, micro, tmp_path, steps=2, ckpt_path=tmp_path / "x.ckpt")


def test_a_checkpoint_without_all_of_the_policy_is_refused(micro, tmp_path):
    trainer = fit(module_of(micro), micro, tmp_path)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, tmp_path / "y.ckpt")
    with pytest.raises(CheckpointError, match="lacks 1 weights"):
        fit(module_of(micro), micro, tmp_path, steps=2, ckpt_path=tmp_path / "y.ckpt")


def test_a_group_without_spread_and_without_kl_moves_nothing(micro, tmp_path):
    class Same(LastToken):
        def __call__(self, prompts, completions, group):
            return Scored(torch.ones(len(completions)), torch.ones(len(completions), dtype=torch.bool))

    module, keep = module_of(micro, objective=Objective(beta=0.0), rewards=[Same()]), KeepGradients()
    fit(module, micro, tmp_path, callbacks=[keep])
    assert all((gradient == 0).all() for gradient in keep.gradients.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_generations": 1}, "num_generations must be at least 2, got 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"rewards": []}, "rewards is empty"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_loaded(wrong, message):
    with pytest.raises(ConfigError, match=message):
        RLModule(Policy("nowhere"), **wrong)


def test_an_estimators_own_floor_is_checked():
    with pytest.raises(ConfigError, match="eps"):
        GRPO(eps=-1)


def test_steps_and_ranks_draw_from_different_streams():
    seeds = {step_seed(seed, step, rank) for seed in range(3) for step in range(50) for rank in range(8)}
    assert len(seeds) == 3 * 50 * 8


def test_without_replayed_completions_no_second_backward_is_paid_for(micro, tmp_path):
    module = module_of(micro, part_norms_every=1)
    fit(module, micro, tmp_path)
    assert "grad_norm" in module.metrics
    assert not any(name.startswith("grad_norm/") for name in module.metrics)


class CountBackward(Callback):
    """Tokens that the first layer of the policy reads in the backward passes, where activations are made again."""

    def __init__(self):
        self.inside, self.tokens = False, 0

    def on_train_start(self, trainer, module):
        def count(layer, inputs):
            self.tokens += self.inside * inputs[0].shape[1]

        module.policy.adapter.model.model.language_model.layers[0].mlp.register_forward_pre_hook(count)

    def on_before_backward(self, trainer, module, loss):
        self.inside = True

    def on_after_backward(self, trainer, module):
        self.inside = False


@pytest.mark.parametrize("lora", [None, LoRA()])
def test_gradient_checkpointing_computes_again_and_changes_nothing(micro, tmp_path, lora):
    weights, again = [], []
    for checkpointing in (False, True):
        module, count = module_of(micro, top_p=0.9, max_new_tokens=24), CountBackward()
        module.policy.gradient_checkpointing, module.policy.lora = checkpointing, lora
        fit(module, micro, tmp_path, steps=2, callbacks=[count])
        weights.append({k: v.clone() for k, v in module.policy.state_dict().items()})
        again.append(count.tokens)
    assert again[0] == 0
    assert again[1] > 0
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


@pytest.mark.parametrize("freeze_towers", [True, False])
def test_a_clip_goes_through_the_towers_once_for_all_completions(micro, tmp_path, freeze_towers):
    """Four completions of each of two prompts, generated, scored and scored under the reference.

    Frozen towers see each clip once in the run. Those that learn see it once a step, and then those of the reference,
    which keep other weights, see it once in the run.
    """
    module, seen, clips = module_of(micro), [], []
    module.policy.freeze_towers = freeze_towers
    module.log_step = lambda metrics, step: seen.append((metrics, module.rollout.posed.prompts))
    fit(module, micro, tmp_path, steps=4)
    for metrics, prompts in seen:
        keys = {prompt.clips[0].key for prompt in prompts}
        runs = len(keys - set(clips)) + (0 if freeze_towers else len(keys))
        clips += keys
        for kind in ("video", "audio"):
            assert metrics[f"encode/{kind}_runs_per_prompt"] == runs / len(prompts)
    assert len(clips) > len(set(clips)), "some clip must come back for this test to mean something"


def test_the_entropy_is_that_of_the_policy_on_fresh_tokens(micro, tmp_path):
    module, seen = module_of(micro, temperature=0.7), []
    module.log_step = lambda metrics, step: seen.append(metrics)
    fit(module, micro, tmp_path)
    policy = load_adapter(str(micro / "model"), "float32", "sdpa", CACHE_MB)  # as it was before its first step
    entropies = []
    for i, completion in enumerate(module.rollout.completions):
        prompt = module.rollout.posed.prompts[int(module.rollout.experience.prompt[i])]
        with torch.no_grad():
            logprobs = torch.log_softmax(plain_logits(policy, prompt, completion.ids) / 0.7, -1)  # [T, V]
        entropies.append(-(logprobs.exp() * logprobs).sum(-1))
    assert seen[0]["entropy/fresh"] == pytest.approx(float(torch.cat(entropies).mean()), rel=1e-5)


@pytest.mark.parametrize("updates", [1, 2])
def test_mixed_precision_runs_through_the_whole_loop(micro, tmp_path, updates):
    """Writing and scoring round alike: on fresh data the ratio is 1 within what bf16 can tell, 2^-8 of a logit of 4."""
    module, seen = module_of(micro, updates_per_rollout=updates), []
    module.policy.gradient_checkpointing = True
    module.log_step = lambda metrics, step: seen.append(metrics)
    fit(module, micro, tmp_path, steps=2, precision="bf16-mixed")
    assert seen[0]["ratio_mean/fresh"] == pytest.approx(1.0, abs=0.02)
    assert all(p.isfinite().all() for p in module.policy.parameters())
    assert module.policy.adapter.model.model.language_model.layers[0].training
