"""Every YAML parses against the code, names every argument by a name that exists, and says nothing twice."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from avatar.benchmarks import BENCHMARKS
from avatar.cli import main
from avatar.commands.curriculum import read
from avatar.commands.parsed import ParsedCLI, flatten
from avatar.commands.rewards.config import read_mix
from avatar.commands.sweep.options import check_options, read_options
from avatar.commands.train import AvatarCLI

ROOT = Path(__file__).parent.parent
MIXES = sorted((ROOT / "configs" / "rewards").glob("*.yaml"))  # `avatar rewards` reads these
CURRICULA = sorted((ROOT / "configs").rglob("curriculum.yaml"))  # and `avatar curriculum` these
SWEEPS = ROOT / "configs" / "sweeps"
PLANS = sorted((SWEEPS / "plans").glob("*.yaml"))  # of `avatar sweep`; these lay the files below over a base
OVERLAYS = sorted([*(SWEEPS / "arms").glob("*.yaml"), *(SWEEPS / "regimes").glob("*.yaml")])
CONFIGS = sorted(set((ROOT / "configs").rglob("*.yaml")) - {*MIXES, *CURRICULA, *PLANS, *OVERLAYS})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_config_parses_and_its_objects_can_be_made(path, monkeypatch):
    monkeypatch.setattr(AvatarCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.chdir(ROOT)
    cli = AvatarCLI(["fit", "--config", str(path), "--trainer.accelerator=cpu", "--trainer.precision=null"])
    given = yaml.safe_load(path.read_text())
    assert type(cli.model).__name__ == given["model"]["class_path"]
    assert cli.trainer.max_steps == given["trainer"]["max_steps"]


@pytest.mark.parametrize("path", MIXES, ids=lambda p: p.name)
def test_a_reward_mix_parses_and_its_rewards_can_be_made(path):
    given = yaml.safe_load(path.read_text())["rewards"]
    assert [type(reward).__name__ for reward in read_mix(str(path))] == [entry["class_path"] for entry in given]


@pytest.mark.parametrize("path", CURRICULA, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_curriculum_parses_and_its_stages_are_among_the_configs_tested_here(path):
    recipe, _ = read(["--config", str(path)])
    assert len(recipe.stages) == 4
    assert {ROOT / stage.config for stage in recipe.stages} <= set(CONFIGS)
    assert {test.benchmark for test in recipe.tests} <= set(BENCHMARKS)


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda p: p.stem)
def test_an_overlay_of_the_map_parses_over_its_base_and_is_what_its_name_says(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cli = ParsedCLI(["fit", f"--config={SWEEPS / 'base.yaml'}", f"--config={path}"])
    given = yaml.safe_load(path.read_text())
    settings, wanted = dict(flatten(cli.config["fit"].as_dict())), dict(flatten(given))
    for key, value in wanted.items():
        found = settings[key]
        assert found == value or str(found).endswith(f".{value}"), key  # classes are written by their short names
    assert not (path.parent.name == "arms" and "avatar" in path.stem) or cli.model.memory.replay is not None


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_a_plan_of_the_map_names_files_that_are_there_and_fills_a_grid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = check_options(read_options(["--plan", str(path)]))
    arms = next(axis for axis in sweep.axes if axis.name == "arm")
    assert all(Path(value).is_file() for value in arms.values)
    assert sweep.options.out == f"runs/sweeps/{path.stem}"
    assert sweep.options.set[0].endswith("/dev" if path.stem.endswith("_tune") else "/test")
    if sweep.options.best_of:  # what it takes the rates from chose them for the same arms
        tuned = check_options(read_options(["--plan", str(path.with_name(f"{path.stem}_tune.yaml"))]))
        assert sweep.options.best_of == tuned.options.kept
        assert set(arms.labels) <= set(next(axis for axis in tuned.axes if axis.name == "arm").labels)
        assert sweep.options.completions == tuned.options.completions


def test_print_config_gives_back_what_was_overridden(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", "configs/micro/grpo.yaml", "--model.num_generations", "4", "--print_config"])
    assert stopped.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["num_generations"] == 4
    assert printed["model"]["init_args"]["objective"]["beta"] == 0.1


def test_a_later_config_goes_over_an_earlier_one(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    over = tmp_path / "over.yaml"
    over.write_text("model:\n  init_args:\n    num_generations: 4\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config", "configs/micro/grpo.yaml", "--config", str(over), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["num_generations"] == 4
    assert printed["model"]["init_args"]["temperature"] == 1.0


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_the_dispatcher_answers_without_opening_a_room(command):
    script = f"import sys; from avatar.cli import main; main(['{command}']); print(sorted(m for m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not any(f"'{heavy}'" in out for heavy in ("torch", "lightning", "transformers", "jsonargparse", "rich"))


def test_a_tag_in_a_config_builds_no_object(tmp_path, capsys):
    marker = tmp_path / "marker"
    evil = f'!!python/object/apply:os.system ["touch {marker}"]'
    (tmp_path / "evil.yaml").write_text(f"seed_everything: {evil}\n")
    assert main(["fit", "--config", str(tmp_path / "evil.yaml")]) == 2
    assert "could not determine a constructor for the tag" in capsys.readouterr().err
    assert not marker.exists()
    yaml.load(evil, yaml.UnsafeLoader)  # noqa: S506  what it would have done
    assert marker.exists()
