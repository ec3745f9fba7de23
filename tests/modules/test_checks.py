"""What is refused: settings that make no sense together, checkpoints of other models, broken buffers, bad rewards."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from tests_replay import Sum, fit, module_of, run, sgd

from avatar.advantages import AVATAR, GRPO, TAS, Mixed
from avatar.errors import CheckpointError, ConfigError
from avatar.losses import Objective
from avatar.modules import Policy, RLModule
from avatar.modules.checks import check_devices, check_trainer
from avatar.replay import Replay, Stuck, ZeroStreak
from avatar.rewards import Format, Scored

# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"advantage": Mixed()}, r"model.advantage Mixed scores replayed completions.*add a model.replay section"),
        ({"advantage": AVATAR()}, r"model.advantage AVATAR scores replayed completions"),
        ({"advantage": TAS(Mixed())}, r"model.advantage TAS scores replayed completions"),
        ({"hints": ZeroStreak(), "num_generations": 2}, r"num_generations must be at least 4 with model.hints, got 2"),
        ({"hints": ZeroStreak(), "num_generations": 3}, r"num_generations must be at least 4 with model.hints, got 3"),
        ({"hints": Stuck(), "objective": Objective(beta=0.0)}, r"Stuck looks at the KL.*model.objective.beta is 0"),
        ({"updates_per_rollout": 0}, r"updates_per_rollout must be at least 1, got 0"),
        ({"part_norms_every": -1}, r"part_norms_every must be at least 0, got -1"),
        ({"reward_window": 0}, r"reward_window must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused_before_anything_is_loaded(wrong, message):
    with pytest.raises(ConfigError, match=message):
        RLModule(Policy("nowhere"), **wrong)


@pytest.mark.parametrize(
    "right",
    [
        {"advantage": GRPO(), "replay": Replay()},  # replayed completions as members of their group
        {"advantage": TAS(), "replay": None},
        {"advantage": AVATAR(), "replay": Replay()},
        {"hints": Stuck(), "num_generations": 4},
        {"hints": ZeroStreak(), "num_generations": 4, "objective": Objective(beta=0.0)},
    ],
)
def test_settings_that_go_together_are_taken(right):
    RLModule(Policy("nowhere"), **right)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"updates_per_rollout": 2}, "updates_per_rollout above 1"), ({"replay": Replay(draw="fifo")}, "draw fifo")],
)
def test_what_is_exact_on_one_device_only_is_refused_on_two(more, message):
    module = RLModule(Policy("nowhere"), **more)
    module._trainer = SimpleNamespace(world_size=1)
    check_devices(module)
    module._trainer = SimpleNamespace(world_size=2)
    with pytest.raises(ConfigError, match=message):
        check_devices(module)


def test_strategies_that_split_the_weights_are_refused():
    module = RLModule(Policy("nowhere"))
    module._trainer = SimpleNamespace(world_size=2, strategy=DDPStrategy())
    check_devices(module)
    module._trainer = SimpleNamespace(world_size=2, strategy=ModelParallelStrategy())
    with pytest.raises(ConfigError, match="ModelParallelStrategy splits weights among devices"):
        check_devices(module)


@pytest.mark.parametrize(("precision", "fits"), [("32-true", True), ("bf16-mixed", True), ("bf16-true", False)])
def test_a_precision_that_does_not_work_is_told_with_one_that_does(precision, fits):
    trainer = Trainer(precision=precision, accelerator="cpu", logger=False, enable_checkpointing=False)
    with nullcontext() if fits else pytest.raises(ConfigError, match=r"model\.policy\.dtype to bfloat16"):
        check_trainer(trainer)


# -- rewards -----------------------------------------------------------------------------------------------------------


class OneTooFew(Sum):
    def __call__(self, prompts, completions, group):
        return Scored(torch.zeros(len(completions) - 1), torch.ones(len(completions) - 1, dtype=torch.bool))


class NotANumber(Sum):
    def __call__(self, prompts, completions, group):
        return Scored(torch.full((len(completions),), torch.nan), torch.ones(len(completions), dtype=torch.bool))


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([Format(), OneTooFew()], r"reward 'onetoofew' must return \[N\] rewards and \[N\] valid for N = 2"),
        ([NotANumber()], r"reward 'notanumber' gave a NaN"),
        ([Format(), Format()], r"two rewards are called 'format'"),
    ],
)
def test_a_reward_that_cannot_work_is_told_before_a_model_is_loaded(prompts, rewards, message):
    module = RLModule(Policy("nowhere"), rewards=rewards)
    with pytest.raises(ConfigError, match=message):
        module.rehearse(prompts[0])
    assert not hasattr(module.policy, "adapter")


def test_the_rewards_that_come_with_the_house_pass_the_rehearsal(prompts):
    RLModule(Policy("nowhere")).rehearse(prompts[0])


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(micro, tmp_path_factory):
    """After six steps with replay, without a KL term."""
    folder = tmp_path_factory.mktemp("checkpoint")
    module, _ = run(micro, folder, 6, advantage=AVATAR(), replay=Replay(minimum=1), objective=Objective(beta=0.0))
    module.trainer.save_checkpoint(folder / "six.ckpt")
    return torch.load(folder / "six.ckpt", weights_only=True)


def goes_on(checkpoint, micro, folder, **more):
    torch.save(checkpoint, folder / "changed.ckpt")
    defaults = {"advantage": AVATAR(), "replay": Replay(minimum=1), "objective": Objective(beta=0.0)}
    module = module_of(micro, **(defaults | more))
    fit(module, micro, folder, 8, ckpt_path=folder / "changed.ckpt")
    return module


def copy_of(value):
    return {k: copy_of(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_a_buffer_that_another_model_or_tokenizer_has_filled_is_refused(checkpoint, micro, tmp_path, what):
    changed = copy_of(checkpoint)
    changed["rl"]["origin"][what] = "0123456789abcdef"
    with pytest.raises(CheckpointError, match=rf"filled by another {what} \(0123456789abcdef\) than the one in"):
        goes_on(changed, micro, tmp_path)
    without = goes_on(changed, micro, tmp_path, replay=None, advantage=GRPO())
    assert without.global_step == 8  # a run that replays nothing may go on


def test_a_policy_of_other_weights_cannot_take_a_buffer_over(checkpoint, micro, adapter, tmp_path):
    with torch.no_grad():
        next(adapter.model.parameters()).mul_(1.5)
    adapter.save_pretrained(tmp_path / "model")
    (tmp_path / "dev").symlink_to(micro / "dev")
    with pytest.raises(CheckpointError, match="filled by another model"):
        goes_on(checkpoint, tmp_path, tmp_path)


def broken(change):
    def of(checkpoint):
        changed = copy_of(checkpoint)
        change(changed["rl"]["memory"])
        return changed

    return of


BROKEN = {
    "a part is missing": lambda m: m["buffer"].pop("behaviour_logprobs"),
    "the counter is missing": lambda m: m["buffer"].pop("next_serial"),
    "ids are cut short": lambda m: m["buffer"].update(ids=m["buffer"]["ids"][:-1]),
    "an entry is missing": lambda m: m["buffer"].update(rewards=m["buffer"]["rewards"][:-1]),
    "a serial is missing": lambda m: m["buffer"].update(serials=m["buffer"]["serials"][:-1]),
    "a key is missing": lambda m: m["buffer"].update(keys=m["buffer"]["keys"][:-1]),
    "a count is too large": lambda m: m["buffer"].update(counts=m["buffer"]["counts"] + 1),
    "the tracker has lost a part": lambda m: m["tracker"].pop("kl"),
    "the tracker has lost a prompt": lambda m: m["tracker"].update(keys=m["tracker"]["keys"][:-1]),
    "a step of the tracker is missing": lambda m: m["tracker"].update(last_visit=m["tracker"]["last_visit"][:-1]),
    "there is no tracker": lambda m: m.pop("tracker"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_memory_whose_parts_do_not_fit_together_is_refused(checkpoint, micro, tmp_path, change):
    with pytest.raises(CheckpointError, match="broken"):
        goes_on(broken(change)(checkpoint), micro, tmp_path)


def test_a_buffer_filled_without_a_reference_is_refused_where_one_is_needed(checkpoint, micro, tmp_path):
    """Stored completions bring their log-probs under the reference with them; these have none."""
    with pytest.raises(CheckpointError, match=r"without a reference.*model.objective.beta"):
        goes_on(checkpoint, micro, tmp_path, objective=Objective(beta=0.1))
    assert goes_on(checkpoint, micro, tmp_path, objective=Objective(beta=0.1), replay=None, advantage=GRPO())


def test_a_buffer_filled_with_a_reference_serves_a_run_without_one(micro, tmp_path):
    module, _ = run(
        micro, tmp_path, 6, advantage=AVATAR(), replay=Replay(minimum=1), optimizer=sgd(0.1), objective=Objective()
    )
    module.trainer.save_checkpoint(tmp_path / "six.ckpt")
    stored = torch.load(tmp_path / "six.ckpt", weights_only=True)
    went_on = goes_on(stored, micro, tmp_path, optimizer=sgd(0.1))
    assert went_on.metrics["replay/replayed"] > 0
    assert "kl/fresh" not in went_on.metrics


def test_a_checkpoint_without_replay_starts_a_buffer_that_is_empty(micro, tmp_path):
    module, _ = run(micro, tmp_path, 6, hints=ZeroStreak(), optimizer=sgd(0.1))
    module.trainer.save_checkpoint(tmp_path / "six.ckpt")
    stored = torch.load(tmp_path / "six.ckpt", weights_only=True)
    went_on = goes_on(stored, micro, tmp_path, optimizer=sgd(0.1), objective=Objective(), replay=Replay(minimum=12))
    assert len(went_on.memory.buffer) == 2 * 8  # of the two steps since
    assert went_on.memory.replay_since == 8
    assert len(went_on.memory.tracker) == 10  # the past of the prompts was kept
