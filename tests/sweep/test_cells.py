"""What every cell runs: the order of its arguments, its budget, its seed, and what is refused before any compute."""

import shutil
from pathlib import Path

import pytest
import yaml
from tests_sweep import ROOT, checked

from avatar.commands.sweep import cells
from avatar.commands.sweep.axes import parse_axis
from avatar.commands.sweep.cells import _budget, _content, arguments, plan_cells
from avatar.commands.sweep.options import Options, check_options, read_options
from avatar.errors import ConfigError

PLANS = sorted((ROOT / "configs" / "sweeps" / "plans").glob("*.yaml"))


def planned(*axes, extra=None, **options):
    return plan_cells(checked(*axes, config=["base.yaml"], **options), extra)


@pytest.fixture
def parses(monkeypatch):
    """Every argument list that was parsed."""
    seen, parse = [], cells._parse

    def counted(args, options):
        seen.append(args)
        return parse(args, options)

    monkeypatch.setattr(cells, "_parse", counted)
    return seen


def test_arguments_are_base_then_files_of_axes_then_set_then_values_of_axes():
    axes = [parse_axis(t) for t in ("seed_everything=0", "arm:config=a.yaml,b.yaml", "m.lr=1,2")]
    options = Options(config=["base.yaml", "pool.yaml"], set=["data.val=dev", "--m.beta=0"])
    assert arguments(options, axes, {"seed": "0", "arm": "b", "lr": "2"}) == [
        "fit", "--config=base.yaml", "--config=pool.yaml", "--config=b.yaml", "--data.val=dev", "--m.beta=0",
        "--seed_everything=0", "--m.lr=2",
    ]  # fmt: skip


def test_the_later_argument_counts(here, tmp_path):
    """An overlay goes over the base, --set over both, an axis over that, and what was found best over all."""
    lr = "model.init_args.optimizer.init_args.lr"
    over = tmp_path / "over.yaml"
    over.write_text("model: {init_args: {optimizer: {init_args: {lr: 0.5}}, temperature: 0.5, max_new_tokens: 5}}")
    overlay, name = f"arm:config={over}", "over-7"
    (cell,) = planned(
        overlay, "model.temperature=7", set=["model.temperature=0.6", "model.max_new_tokens=6"],
        extra={name: ["--model.optimizer.lr=0.9"]},
    )  # fmt: skip
    keys = ("temperature", "max_new_tokens", "num_generations")
    kept = {key: cell.settings[f"model.init_args.{key}"] for key in keys}
    assert cell.name == name
    assert kept == {"temperature": 7, "max_new_tokens": 6, "num_generations": 4}
    assert cell.settings[lr] == 0.9


def test_cells_that_differ_in_the_seed_are_parsed_once_and_keep_their_seed(here, parses):
    before = sorted(here.rglob("*"))
    cells = planned("seed_everything=0,1,12")
    assert len(parses) == 1
    for cell, seed in zip(cells, (0, 1, 12), strict=True):
        assert cell.settings["seed_everything"] == seed
        assert f"--seed_everything={seed}" in cell.args
        assert (cell.name, cell.point, cell.folder) == (f"{seed}", {"seed": f"{seed}"}, Path(f"runs/s/cells/{seed}"))
        assert f"--trainer.default_root_dir=runs/s/cells/{seed}" in cell.args
    first, second, _ = cells
    assert {key for key in first.settings if first.settings[key] != second.settings[key]} == {"seed_everything"}
    assert first.data == second.data
    assert first.max_steps == 8
    assert not {"config", "trainer.default_root_dir", "ckpt_path"} & set(first.settings)  # say where it lies
    assert set(first.inputs) == {"data/micro/model", "data/micro/pool", "data/micro/dev"}
    assert sorted(here.rglob("*")) == before  # planning writes nothing


def test_inputs_are_known_by_content(here, tmp_path):
    ours = _content("data/micro/dev", {})
    shutil.copytree(here / "data/micro/dev", tmp_path / "dev")
    assert _content(f"{tmp_path}/dev", {}) == ours
    (tmp_path / "dev" / "index.json").write_text("an index may come and go")
    assert _content(f"{tmp_path}/dev", {}) == ours
    with next((tmp_path / "dev").glob("*.tar")).open("r+b") as file:
        file.seek(600)
        file.write(b"?")
    assert _content(f"{tmp_path}/dev", {}) != ours
    assert _content("Qwen/Qwen2.5-Omni-7B", {}) == "Qwen/Qwen2.5-Omni-7B"  # on the hub


def test_a_budget_of_completions_becomes_arguments(here):
    # 8 generations x 2 prompts = 16 a step: 64 / 16 = 4 steps, validated every 32 / 16 = 2
    (cell,) = planned("model.num_generations=8", set=["data.batch_size=2"], completions=64, validate_every=32)
    assert cell.max_steps == cell.settings["trainer.max_steps"] == 4
    assert cell.settings["trainer.val_check_interval"] == 2
    assert cell.args[-5:-2] == [
        "--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.check_val_every_n_epoch=null",
    ]  # fmt: skip


def steps_of(group=4, prompts=1, devices=1, updates=1, **options):
    """(steps, steps between validations)."""
    settings = {f"model.init_args.{k}": v for k, v in (("num_generations", group), ("updates_per_rollout", updates))}
    budget = _budget(settings | {"data.init_args.batch_size": prompts}, devices, Options(**options))
    return budget.get("trainer.max_steps"), budget.get("trainer.val_check_interval")


def test_every_cell_generates_the_same_number_of_completions():
    # steps x group x prompts x devices = 960, whatever these are
    for group, prompts, devices in ((4, 1, 1), (8, 1, 1), (8, 2, 1), (4, 3, 2), (16, 5, 3)):
        steps, every = steps_of(group, prompts, devices, completions=960, validate_every=240)
        assert steps * group * prompts * devices == 960
        assert every * group * prompts * devices == 240
    assert steps_of() == (None, None)
    assert steps_of(completions=40) == (10, None)  # the config says when to validate
    assert steps_of(validate_every=40) == (None, 10)


def test_a_rollout_that_is_used_for_several_updates_counts_as_many_steps():
    # 64 / 4 = 16 rollouts of two optimizer steps each: trainer.max_steps counts these, validations the rollouts.
    assert steps_of(updates=2, completions=64, validate_every=16) == (32, 4)


@pytest.mark.parametrize("name", ["completions", "validate_every"])
def test_completions_that_are_no_whole_number_of_steps_are_refused_with_the_unit(name):
    with pytest.raises(ConfigError) as error:
        steps_of(8, 3, **{name: 100})
    for part in ("100 completions", "steps of 24", "take a multiple of 24"):
        assert part in str(error.value)


def test_a_cold_start_has_no_completions_to_count():
    assert _budget({}, 1, Options()) == {}
    with pytest.raises(ConfigError, match="--completions and --validate_every are of training by reinforcement"):
        _budget({}, 1, Options(completions=64))


def test_a_mistake_is_told_with_the_cell_that_it_is_in(here):
    with pytest.raises(ConfigError, match=r"^cell 1-GRP: .*'GRPO'"):
        planned("seed_everything=1", "model.advantage=GRP")


def test_a_cell_on_several_devices_is_refused(here):
    """Lightning would start the worker again for each of them, and these would take the orders of the first."""
    with pytest.raises(ConfigError, match=r"asks for 2: pass --set trainer\.devices=1"):
        planned("seed_everything=0", set=["trainer.devices=2"])


def test_cells_whose_names_would_be_one_are_refused():
    with pytest.raises(ConfigError, match="two cells would have one folder"):
        plan_cells(checked("a:x=1-2,1", "b:y=3,2-3"))


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_a_plan_that_is_shipped_is_a_sweep_of_files_that_are_there(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = check_options(read_options([f"--plan={path}"]))
    files = [value for axis in sweep.axes if axis.key == "config" for value in axis.values]
    assert all(Path(file).is_file() for file in files)
    assert set(sweep.baseline) == {"arm"}
    keys = {"title", "config", "axis", "set", "out"} & set(yaml.safe_load(path.read_text()))
    assert len(keys) == 5


@pytest.mark.slow
@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_the_cells_of_a_plan_that_is_shipped_parse(path, monkeypatch):
    """Each arm once, at the first of all other values; without what is to be found by another sweep."""
    monkeypatch.chdir(ROOT)
    planned = read_options([f"--plan={path}"])
    axes = [text if i == 0 else text.split(",")[0] for i, text in enumerate(planned.axis)]
    given = Options(**{**planned.__dict__, "axis": axes, "best_of": ""})
    for cell in plan_cells(check_options(given)):
        made = cell.settings["model.init_args.num_generations"] * cell.settings["data.init_args.batch_size"]
        updates = cell.settings["model.init_args.updates_per_rollout"]
        assert cell.max_steps // updates * made == planned.completions
