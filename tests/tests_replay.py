"""The real loop with replay and hints on the tiny real model, kept step by step, and the plain way to the same."""

from collections import defaultdict
from dataclasses import replace

import torch
from lightning.pytorch import Callback, Trainer
from tests_plain import plain_logprobs

from avatar.data.module import ShardData
from avatar.losses import Objective
from avatar.modules import Policy, RLModule
from avatar.replay import HintTrigger
from avatar.rewards import Reward, Scored


class Sum(Reward):
    """Random-looking and hardly ever the same over a group: what the tiny untrained model writes earns some spread."""

    def __call__(self, prompts, completions, group):
        rewards = torch.tensor([float(int(c.ids.sum()) % 7) for c in completions])
        return Scored(rewards, torch.ones(len(rewards), dtype=torch.bool))


class Always(HintTrigger):
    """Every visit is hinted."""

    def __call__(self, history, window):
        return True


class Sometimes(HintTrigger):
    """Hinted if the visit before was at an odd step: both kinds of visits meet stored completions of both kinds."""

    def __call__(self, history, window):
        return history.last_visit % 2 == 1


class KeepSteps(Callback):
    """Metrics and rollout of each batch, tokens of each update; from a step on, its weights and gradients too."""

    def __init__(self, tensors_from=10**9):
        self.metrics, self.rollouts, self.tokens = [], [], []
        self.weights, self.gradients = {}, {}  # by how many updates came before
        self.tensors_from = tensors_from

    def on_train_start(self, trainer, module):
        objective = module.objective

        def kept(tokens, *rest):
            self.tokens.append(replace(tokens, logprobs=tokens.logprobs.detach()))
            return objective(tokens, *rest)

        module.objective = kept

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if (step := trainer.global_step) >= self.tensors_from:
            self.weights[step] = {k: v.clone() for k, v in module.policy.state_dict().items()}
            named = module.policy.named_parameters()
            self.gradients[step] = {k: p.grad.clone() for k, p in named if p.grad is not None}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.metrics.append({k: float(v) for k, v in module.metrics.items()})
        self.rollouts.append(module.rollout)


class SaveAt(Callback):
    """A checkpoint in the middle of a run, at one step."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def sgd(lr):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


def module_of(micro, freeze_towers=True, **kwargs):
    policy = Policy(str(micro / "model"), dtype="float32", freeze_towers=freeze_towers)
    defaults = {"num_generations": 4, "max_new_tokens": 8, "max_grad_norm": 1e9, "rewards": [Sum()]}
    defaults["objective"] = Objective(beta=0.0)  # no reference to load and to score with, where it is not the point
    return RLModule(policy, **(defaults | kwargs))


def fit(module, micro, folder, steps, split="dev", batch_size=2, callbacks=(), ckpt_path=None, seed=0, precision=None):
    """Run the real loop; ``dev`` has ten prompts, which come back soon, ``train`` twenty-five."""
    torch.manual_seed(seed)
    data = ShardData(train=str(micro / split), batch_size=batch_size, letter_options=False, min_pixels=784)
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def run(micro, folder, steps, split="dev", batch_size=2, tensors_from=10**9, callbacks=(), **kwargs):
    """(module, what was kept of each step)."""
    module, keep = module_of(micro, **kwargs), KeepSteps(tensors_from)
    fit(module, micro, folder, steps, split, batch_size, [keep, *callbacks])
    return module, keep


# -- plainly -----------------------------------------------------------------------------------------------------------


class PlainModel:
    """What ``tests_plain`` needs of an adapter; the processor hears each prompt once, which takes most of the time."""

    def __init__(self, adapter):
        self.model, self.processor, self.inputs = adapter.model, self, {}
        self.apply_chat_template, self._processor = adapter.processor.apply_chat_template, adapter.processor

    def __call__(self, text, videos, audio, **kwargs):
        key = (text[0], videos[0].numpy().tobytes(), audio[0].tobytes())
        if key not in self.inputs:
            self.inputs[key] = self._processor(text=text, videos=videos, audio=audio, **kwargs)
        return dict(self.inputs[key])


def fresh_rows(rollout):
    """(visit, key, completion, reward, valid) of each fresh completion."""
    rows = []
    for i, completion in enumerate(rollout.completions):
        posed = int(rollout.experience.prompt[i])
        key = rollout.posed.prompts[posed].key
        valid = bool(rollout.experience.valid[i])
        rows.append((rollout.posed.visit[posed], key, completion, float(rollout.experience.rewards[i]), valid))
    return rows


def past_rewards(rollouts):
    """(key, hinted) -> valid fresh rewards, the oldest first."""
    past = defaultdict(list)
    for rollout in rollouts:
        for _, key, completion, reward, valid in fresh_rows(rollout):
            if valid:
                past[key, completion.hinted].append(reward)
    return past


def deviation(values):
    mean = sum(values) / len(values)
    return (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5  # ddof 1


def plain_rows(module, rollouts, prompt_of, window=20):
    """(is replayed, prompt, ids, behaviour log-probs, advantage) of what the last step is trained on."""
    rollout, past = rollouts[-1], past_rewards(rollouts[:-1])
    fresh, replayed = defaultdict(list), defaultdict(list)
    for visit, key, completion, reward, valid in fresh_rows(rollout):
        if valid:
            prompt = prompt_of(key).with_hint() if completion.hinted else prompt_of(key)
            ids = (prompt, completion.ids, completion.behaviour_logprobs)
            fresh[visit, completion.hinted].append((reward, ids))
    groups = rollout.experience.group[len(rollout.completions) :].tolist()
    for entry, group in zip(rollout.entries, groups, strict=True):
        prompt = prompt_of(entry.key).with_hint() if entry.hinted else prompt_of(entry.key)
        row = (prompt, entry.ids.long(), entry.behaviour_logprobs)
        mates = (entry.key, entry.hinted) if module.memory.replay.scope == "prompt" else group
        replayed[mates].append((entry.reward, past[entry.key, entry.hinted][-window:], row))
    floor = getattr(module.advantage, "base", module.advantage).std_floor
    rows = []
    for members in fresh.values():
        rewards = [reward for reward, _ in members]
        mean, same = sum(rewards) / len(rewards), len(set(rewards)) == 1
        for reward, row in members:
            rows.append((False, *row, 0.0 if same else (reward - mean) / (deviation(rewards) + 1e-4)))
    for members in replayed.values():
        scale = max(floor, deviation([reward for reward, _, _ in members])) if len(members) > 1 else 1.0
        for reward, before, row in members:
            rows.append((True, *row, (reward - sum(before) / len(before)) / (scale + 1e-4)))
    return rows


def plain_loss(module, reference, rollouts, prompt_of, objective, alpha, strength, temperature=1.0):
    """The mixed objective, one completion after the other through the unmodified forward of transformers.

    Returns:
        The loss, and of each part the (ratio, advantage) of its tokens.
    """
    ours, reference = PlainModel(module.policy.adapter), PlainModel(reference)
    reference.inputs = ours.inputs
    low, high = 1 - objective.clip_eps_low, 1 + objective.clip_eps_high
    parts, seen = {False: [], True: []}, {False: [], True: []}
    for is_replayed, prompt, ids, behaviour, advantage in plain_rows(module, rollouts, prompt_of):
        logprobs = plain_logprobs(ours, prompt, ids, temperature)
        with torch.no_grad():
            ref_logprobs = plain_logprobs(reference, prompt, ids, temperature)
        ratio, length = (logprobs - behaviour).exp(), len(ids)
        place = torch.tensor([t / (length - 1) if length > 1 else 0.0 for t in range(length)])
        a = advantage * (1 + strength * (2 * place - 1) ** 2)
        loss = -torch.minimum(ratio * a, ratio.clamp(low, high) * a)
        if advantage < 0:
            loss = torch.minimum(loss, -objective.dual_clip * a)
        if objective.kl_on == "all" or not is_replayed:
            d = (ref_logprobs - logprobs).clamp(max=5.0 if is_replayed else 20.0)
            loss = loss + objective.beta * (d.exp() - d - 1)
        parts[is_replayed].append(loss.mean())  # over the completion's own tokens
        seen[is_replayed] += zip(ratio.tolist(), a.tolist(), strict=True)
    return torch.stack(parts[False]).mean() + alpha * torch.stack(parts[True]).mean(), seen


def largest_error(gradients, plain):
    """Largest distance of two sets of gradients, each parameter by its own norm, the towers by that of all."""
    assert set(gradients) == set(plain), "a parameter has a gradient in one way and none in the other"
    whole = torch.cat([g.flatten() for g in plain.values()]).norm()
    errors = {}
    for name, gradient in plain.items():
        in_tower = "tower" in name or "visual" in name  # sums over padded and unpadded frames in another order
        errors[name] = float((gradients[name] - gradient).norm() / (whole if in_tower else gradient.norm()))
    return max(errors.values())
