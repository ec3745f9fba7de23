import json
from pathlib import Path

import pytest
import torch
import yaml

from avatar.commands.bench import main
from avatar.commands.bench.curve_course import (
    Course,
    Examiner,
    Watch,
    read_world,
    score_texts,
)
from avatar.commands.bench.curve_figures import (
    completions_to,
    difference,
    marks_of,
    summarize_runs,
    whole_curve,
)
from avatar.commands.bench.curve_ours import build_module
from avatar.commands.bench.curve_parity import Trace, compare_traces, cosine, measure_update
from avatar.commands.bench.curve_sampling import compare_draws
from avatar.commands.bench.curve_show import curves_table, gap, plot_curves, reach, spread, update_table
from avatar.commands.bench.curves import CurveOptions
from avatar.commands.bench.errors import BenchError
from avatar.commands.data.synth import synth
from avatar.data.module import ShardData
from avatar.errors import ConfigError
from avatar.models import load_adapter
from avatar.rewards.base import Reward, Scored
from avatar.types import Prompt

ROOT = Path(__file__).parent.parent


def nothing():
    """What is called after a step."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small world in words: 5 scenes to train on, 2 held out, and the tiny model as it was born."""
    folder = tmp_path_factory.mktemp("world") / "data"
    synth(str(folder), scale=0.03, world="text")
    return folder


@pytest.fixture(scope="module")
def read(world):
    """The first 40 prompts of seed 0 and of seed 1, of which there are 25; and the dev split."""
    return read_world(world, [0, 1], 40)


@pytest.fixture
def course(world, read):
    return Course(str(world / "model"), read[0][0][:3], 4, 1e-3, 0)


# -- what both are given -----------------------------------------------------------------------------------------------


def test_prompts_come_in_the_order_of_training_and_every_epoch_has_its_own(world, read):
    """A datamodule plans like this after `--seed_everything 0`; keys lie in their shard in the order of their names."""
    (first, other), _ = read
    keys = [prompt.key for prompt in first]
    names = sorted(set(keys))
    assert len(names) == 25
    torch.manual_seed(0)
    shards = ShardData(train=str(world / "train"))
    shards.setup("fit")
    plans = [shards.train_dataloader().plans(epoch) for epoch in (0, 1)]
    assert keys == [names[position] for plan in plans for batch in plan for position in batch][:40]
    assert keys[:15] != keys[25:]
    assert keys != [prompt.key for prompt in other]


def test_rewards_of_texts_are_half_for_the_form_and_one_for_the_answer():
    prompt = Prompt("p", [], (), "3", "number")
    right, wrong = (f"<think>sound 3</think><answer>{answer}</answer>" for answer in (3, 4))
    texts = [right, wrong, "<answer>3</answer>", right]
    # The last was cut off by the length limit: no reward for its form.
    assert score_texts([prompt] * 4, texts, [True, True, True, False]) == [1.5, 0.5, 1.0, 1.0]


def test_the_settings_are_those_of_the_config(course):
    given = yaml.safe_load((ROOT / "configs/micro/text_grpo.yaml").read_text())["model"]["init_args"]
    module = build_module(course)
    assert module.advantage.eps == given["advantage"]["init_args"]["eps"]
    assert [(type(r).__name__, r.weight) for r in module.rewards] == [
        (entry["class_path"], entry["init_args"]["weight"]) for entry in given["rewards"]
    ]
    assert {name: getattr(module.objective, name) for name in given["objective"]} == given["objective"]
    assert module.sampling.temperature == given["temperature"]
    assert module.sampling.max_new_tokens == given["max_new_tokens"]
    assert module.max_grad_norm == given["max_grad_norm"]
    [group] = module.optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["lr"], group["weight_decay"]) == (course.lr, given["optimizer"]["init_args"]["weight_decay"])
    defaults = CurveOptions.__dataclass_fields__
    assert defaults["lr"].default == given["optimizer"]["init_args"]["lr"]
    assert defaults["num_generations"].default == given["num_generations"]


def test_an_exam_is_of_the_weights_it_is_given_and_leaves_chance_alone(world, read):
    examiner = Examiner(str(world / "model"), read[1])
    assert examiner.num == 10  # five questions about either of two scenes
    born = load_adapter(str(world / "model"), "float32", "sdpa", 0).model.state_dict()
    weights = {name: torch.zeros_like(weight) for name, weight in born.items()}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert examiner(weights) == 0.0
    assert torch.equal(before, torch.get_rng_state())
    now = examiner._module.policy.adapter.model.state_dict()
    assert all(not w.any() for w in now.values())


def test_a_watch_asks_before_the_first_step_and_every_so_many(monkeypatch):
    seconds = iter([0.0, 1.0, 10.0, 13.0, 20.0, 22.0, 30.0, 31.0])  # steps of 1, 3, 2 and 1
    monkeypatch.setattr("avatar.commands.bench.curve_course.time.perf_counter", lambda: next(seconds))
    accuracies, told = iter([0.3, 0.5, 0.9]), []
    watch = Watch(lambda weights: next(accuracies), every=2, advance=lambda: told.append(1))
    watch.start({})
    for _ in range(4):
        watch.begin()
        watch.end(dict)
    figures = watch.figures("avatar", 7, num_generations=8)
    assert figures["points"] == [[0, 0.3], [16, 0.5], [32, 0.9]]
    assert figures["step_s"] == 1.5
    assert (figures["side"], figures["seed"], len(told)) == ("avatar", 7, 4)


@pytest.mark.slow
def test_trl_is_given_the_very_tokens_that_ours_reads_and_the_same_ends(course, tmp_path):
    pytest.importorskip("trl")
    from transformers import TrainerCallback

    from avatar.commands.bench.curve_peer import build_trainer

    trainer = build_trainer(course, TrainerCallback(), str(tmp_path))
    adapter = load_adapter(course.model, "float32", "sdpa", 0)
    ours = [prefix.ids.tolist() for prefix in adapter.encode(course.prompts)]
    assert trainer.processing_class(text=list(trainer.train_dataset["prompt"]))["input_ids"] == ours
    assert sorted(trainer.eos_token_ids) == adapter.stop_ids.tolist()
    assert sorted(trainer.generation_config.suppress_tokens) == sorted(adapter.media_ids.tolist())
    assert trainer.train_dataset["step"][:] == [0, 1, 2]
    names = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    adapter.freeze_towers()
    assert names == {name for name, p in adapter.model.named_parameters() if p.requires_grad}


# -- figures -----------------------------------------------------------------------------------------------------------


def run(side, seed, *accuracies, step_s=0.1):
    points = [[80 * i, accuracy] for i, accuracy in enumerate(accuracies)]
    return {"side": side, "seed": seed, "points": points, "step_s": step_s, "step_cpu_s": step_s}


RUNS = [
    run("avatar", 0, 0.3, 0.5, 0.9, 0.9, 0.8),
    run("trl", 0, 0.3, 0.4, 0.8, 0.9, 0.9, step_s=0.2),
    run("avatar", 1, 0.3, 0.3, 0.4, 0.5, 0.6),
    run("trl", 1, 0.3, 0.3, 0.4, 0.9, 0.8, step_s=0.4),
]


def test_the_summary_of_four_curves():
    summary = summarize_runs(RUNS, completions=320, every=80)
    assert summary["marks"] == [80, 160, 320]
    assert summary["avatar"]["accuracy"] == {"80": [0.5, 0.3], "160": [0.9, 0.4], "320": [0.8, 0.6]}
    assert summary["avatar"]["to_target"] == [160, None]
    assert summary["trl"]["to_target"] == [160, 240]
    assert summary["trl"]["step_s"] == pytest.approx(0.3)
    # (.5 + .9 + .9 + .8) / 4 = .775 and .45; (.4 + .8 + .9 + .9) / 4 = .75 and .6
    assert summary["avatar"]["whole_curve"] == pytest.approx([0.775, 0.45])
    found = summary["difference"]["whole_curve"]
    assert found["mean"] == pytest.approx((0.025 - 0.15) / 2)
    assert found["interval"] == pytest.approx((-0.15, 0.025))  # both seeds the one, or both the other: one in four each


def test_the_start_is_no_part_of_the_curve_and_the_target_may_be_met_exactly():
    assert whole_curve(run("trl", 0, 0.9, 0.1, 0.3)) == pytest.approx(0.2)
    assert completions_to(run("trl", 0, 0.9, 0.1, 0.8), 0.8) == 0
    assert completions_to(run("trl", 0, 0.3, 0.1, 0.8), 0.8) == 160


@pytest.mark.parametrize(
    ("completions", "every", "marks"),
    [(1280, 80, [320, 640, 1280]), (160, 80, [80, 160]), (240, 80, [80, 160, 240]), (80, 80, [80])],
)
def test_marks_lie_where_exams_are(completions, every, marks):
    assert marks_of(completions, every) == marks


def test_one_seed_has_no_interval_and_equal_curves_have_none_to_speak_of():
    assert difference([0.5], [0.4]) == {"mean": pytest.approx(0.1), "interval": None}
    assert difference([0.5, 0.7], [0.5, 0.7]) == {"mean": 0.0, "interval": (0.0, 0.0)}


# -- the same completions ----------------------------------------------------------------------------------------------


def trace(rewards, losses, gradients, start, end):
    made = Trace(nothing, [[[1, 2], [3]]] * len(rewards), rewards, losses, [], [torch.tensor(g) for g in gradients])
    made.norms = [float(gradient.norm()) for gradient in made.gradients]
    made.start, made.end = torch.tensor(start), torch.tensor(end)
    return made


def test_a_trace_is_at_no_distance_from_itself():
    one = trace([[1.5, 0.5]], [0.2], [[3.0, 4.0]], [0.0, 0.0], [1.0, 0.0])
    found = compare_traces(one, one)
    assert found["weights_apart"] == found["worst_reward_gap"] == found["worst_loss_gap"] == 0.0
    assert found["worst_cosine"] == pytest.approx(1.0)
    assert found["worst_grad_norm_gap"] == 0.0


def test_the_worst_step_is_told_and_steps_without_a_gradient_are_counted():
    rewards = [[0.5, 0.5], [1.5, 0.5], [1.5, 0.5]]
    ours = trace(rewards, [0.0, 0.1, 0.2], [[0.0, 0.0], [3.0, 4.0], [2.0, 0.0]], [0.0, 0.0], [3.0, 4.0])
    other = [[0.5, 0.5], [1.5, 0.0], [1.5, 0.5]]
    peer = trace(other, [0.0, 0.1, 0.25], [[0.0, 0.0], [3.0, 4.0], [0.0, 3.0]], [0.0, 0.0], [3.0, 4.5])
    found = compare_traces(ours, peer)
    assert found["num_flat"] == 1
    assert found["worst_reward_gap"] == 0.5
    assert found["worst_loss_gap"] == pytest.approx(0.05)
    assert found["worst_cosine"] == 0.0  # the third gradients stand at right angles
    assert found["worst_grad_norm_gap"] == pytest.approx(0.5)  # 3 / 2 - 1
    assert found["weights_apart"] == pytest.approx(0.1)  # 0.5 apart after a way of 5
    assert found["first"]["cosine"] == pytest.approx(1.0)
    json.dumps(found)


def test_sides_that_begin_with_other_weights_are_not_compared():
    one, other = (trace([[1.5, 0.5]], [0.2], [[3.0, 4.0]], [start, 0.0], [1.0, 0.0]) for start in (0.0, 1e-7))
    with pytest.raises(BenchError, match="did not begin with the same weights"):
        compare_traces(one, other)


def test_a_gradient_on_one_side_alone_is_not_passed_over():
    assert cosine(torch.zeros(2), torch.zeros(2)) is None
    assert cosine(torch.zeros(2), torch.ones(2)) == 0.0


def test_draws_are_compared_prompt_by_prompt():
    ours = Trace(nothing, [[[1], [1, 2, 3]], [[1], [1]]], [[1.5, 0.5], [0.5, 0.5]])
    peer = Trace(nothing, [[[1], [1]], [[1], [1]]], [[0.5, 0.5], [0.5, 0.5]])
    found = compare_draws(ours, peer)
    assert found["num_completions"] == 4
    # Means of the groups: 1 and .5 against .5 and .5; lengths 2 and 1 against 1 and 1.
    assert found["reward"] == {"avatar": 0.75, "trl": 0.5, "difference": {"mean": 0.25, "interval": (0.0, 0.5)}}
    assert (found["length"]["avatar"], found["length"]["trl"]) == (1.5, 1.0)


# -- what is shown -----------------------------------------------------------------------------------------------------


@pytest.fixture
def figures():
    one = trace([[1.5, 0.5]], [0.2], [[3.0, 4.0]], [0.0, 0.0], [1.0, 0.0])
    draws = Trace(nothing, [[[1], [1, 2]]], [[1.5, 0.5]])
    return {
        "options": {"seeds": "0,1", "num_generations": 8, "lr": 2e-4},
        "versions": {"trl": "1.16.0"},
        "num_questions": 200,
        "runs": RUNS,
        "summary": summarize_runs(RUNS, 320, 80),
        "checks": {"update": compare_traces(one, one), "sampling": compare_draws(draws, draws)},
    }


def rows_of(table):
    return {row[0]: row[1:] for row in zip(*(column.cells for column in table.columns), strict=True)}


def test_the_table_sets_both_sides_beside_their_difference(figures):
    rows = rows_of(curves_table(figures))
    assert rows["at 320"] == ("0.70 (0.60-0.80)", "0.85 (0.80-0.90)", "-0.15 [-0.20, -0.10]")
    assert rows["first at 0.80"] == ("never", "240", "")
    assert rows["seconds a step"] == ("0.100", "0.300", "TRL / ours 3.00")
    assert rows["start: reward"] == ("1.000", "1.000", "+0.000")
    assert rows_of(update_table(figures["checks"]["update"]))["largest difference of a reward"] == ("0",)


def test_numbers_as_they_are_written():
    assert spread([0.9]) == "0.90"
    assert gap({"mean": 0.1, "interval": None}) == "+0.10"
    assert reach([80, 160, 240]) == "160"
    assert reach([80, 160, None]) == "160 (1 never)"
    assert reach([80, None]) == "never"


@pytest.mark.parametrize("name", ["curves.png", "curves.svg"])
@pytest.mark.parametrize("runs", [RUNS, RUNS[:2]])
def test_curves_are_drawn(figures, tmp_path, name, runs):
    plot_curves({**figures, "runs": runs}, tmp_path / "new" / name)
    assert (tmp_path / "new" / name).stat().st_size > 10_000


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_generations": 1}, "--num_generations must be at least 2, got 1"),
        ({"checks": 0}, "--checks must be at least 1, got 0"),
        ({"lr": float("nan")}, "--lr must be above 0, got nan"),
        ({"every": 20}, "--every 20 must be a multiple of --num_generations 8"),
        ({"completions": 100}, "--completions must be a multiple of --every 80, .* got 100"),
        ({"completions": 0}, "--completions must be a multiple of --every 80, .* got 0"),
        ({"seeds": "0,0"}, "--seeds must be different whole numbers with commas, like 0,1,2; got '0,0'"),
        ({"seeds": "some"}, "--seeds must be different whole numbers .* got 'some'"),
    ],
)
def test_what_cannot_be_measured_is_said_first(options, message):
    with pytest.raises(ConfigError, match=message):
        CurveOptions(**options)


def test_without_trl_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("avatar.commands.bench.curves.trl_is_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"TRL.* is not installed; pip install 'avatar-rl\[bench\]'"):
        main(["bench", "curves"])


def test_what_is_not_there_is_said_with_the_command_that_makes_it(world, monkeypatch, tmp_path):
    monkeypatch.setattr("avatar.commands.bench.curves.trl_is_installed", lambda: True)
    with pytest.raises(ConfigError, match="make one: avatar data synth --world text --out nowhere"):
        CurveOptions(data="nowhere")
    with pytest.raises(ConfigError, match=r"avatar fit --config configs/micro/text_sft\.yaml"):
        CurveOptions(data=str(world), model="nowhere")
    (tmp_path / "taken").touch()
    with pytest.raises(ConfigError, match="this is a file; give a folder"):
        CurveOptions(data=str(world), model=str(world / "model"), out=str(tmp_path / "taken"))


# -- the whole ---------------------------------------------------------------------------------------------------------


class Wordy(Reward):
    """Sums the codes of the letters: as good as random, so that a model that knows nothing has something to learn."""

    def __call__(self, prompts, completions, group):
        return Scored(
            torch.tensor([sum(c.text.encode()) % 97 / 96 for c in completions]), torch.ones(len(completions)) > 0
        )


@pytest.fixture
def wordy(monkeypatch):
    pytest.importorskip("trl")
    for room in ("curve_course", "curve_ours"):
        monkeypatch.setattr(f"avatar.commands.bench.{room}.rewards", lambda: [Wordy()])


@pytest.mark.slow
@pytest.mark.usefixtures("wordy")
def test_on_the_same_completions_trl_makes_the_same_step_of_them(course):
    """The outside check: rewards, advantages, loss with its KL term, gradient, clipping and AdamW, step by step."""
    told = []
    found = measure_update(course, lambda: told.append(1))
    assert (found["num_steps"], found["num_flat"], len(told)) == (3, 0, 6)
    assert found["worst_reward_gap"] == 0.0
    assert found["steps"][2]["loss"][0] > 1e-4  # of the KL term, since the advantages of a group sum to 0
    assert found["worst_loss_gap"] < 1e-5
    assert found["worst_cosine"] > 1 - 1e-6
    assert found["worst_grad_norm_gap"] < 1e-3
    assert found["weights_apart"] < 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("wordy")
@pytest.mark.parametrize("other", [{"temperature": 0.9}, {"scale_rewards": "none"}, {"weight_decay": 0.1}])
def test_one_other_setting_is_seen(course, monkeypatch, other):
    from avatar.commands.bench import curve_peer

    matched = curve_peer.build_config

    def changed(*args):
        config = matched(*args)
        for name, value in other.items():
            setattr(config, name, value)
        return config

    monkeypatch.setattr(curve_peer, "build_config", changed)
    found = measure_update(course, nothing)
    assert found["worst_reward_gap"] == 0.0
    assert found["weights_apart"] > 3e-3


@pytest.mark.slow
def test_both_learn_from_one_start_and_are_one_on_the_same_completions(world, tmp_path, capsys):
    pytest.importorskip("trl")
    given = {"completions": 32, "every": 16, "num_generations": 4, "seeds": "0,3", "checks": 3, "lr": 1e-3}
    given |= {"data": world, "model": world / "model", "out": tmp_path / "out"}
    assert main(["bench", "curves", *(f"--{name}={value}" for name, value in given.items())]) == 0
    figures = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert [(run["side"], run["seed"]) for run in figures["runs"]] == [
        ("avatar", 0), ("trl", 0), ("avatar", 3), ("trl", 3)
    ]  # fmt: skip
    assert [[at for at, _ in run["points"]] for run in figures["runs"]] == [[0, 16, 32]] * 4
    assert len({run["points"][0][1] for run in figures["runs"]}) == 1
    assert figures["num_questions"] == 10
    update, sampling = figures["checks"]["update"], figures["checks"]["sampling"]
    assert (update["num_steps"], sampling["num_completions"]) == (3, 48)  # 3 prompts, 4 x 4 of each
    assert update["worst_reward_gap"] == 0.0
    assert update["worst_loss_gap"] < 1e-5
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["curves.json", "curves.png", "curves.svg"]
    assert "avatar - TRL" in capsys.readouterr().out
