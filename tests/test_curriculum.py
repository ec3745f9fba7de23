"""The curriculum: stages in order from each other's weights, refused before compute, gone on with after a stop."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from avatar.cli import main
from avatar.commands import folders
from avatar.commands.curriculum import read, show, state
from avatar.commands.curriculum.recipe import Recipe, StageTest
from avatar.commands.parsed import as_arguments, flatten

ROOT = Path(__file__).parent.parent
RL = {
    "trainer": {"max_steps": 4, "val_check_interval": 2},
    "model": {"max_new_tokens": 8, "optimizer.lr": 1e-3, "rewards": [{"class_path": "tests_curriculum.Odd"}]},
}
SFT = {"trainer.max_steps": 4, "trainer.val_check_interval": 2, "model.perception.steps": 2, "data.batch_size": 8}
REPLAY = {"model.replay.minimum": 4, "model.hints.visits": 1, "data.train": "data/micro/pool"}


def recipe(**changes) -> dict:
    """Three stages of four steps; ``changes`` go over the top-level keys."""
    stages = [
        {"name": "s0", "title": "SFT", "config": "configs/micro/sft.yaml", "overrides": SFT},
        {"name": "s1", "title": "+ S1", "config": "configs/micro/grpo4.yaml", "overrides": RL},
        {"name": "s2", "title": "+ S2", "config": "configs/micro/avatar.yaml", "overrides": {**RL, **REPLAY}},
    ]
    tests = [{"benchmark": "micro", "root": "data/micro/test"}]
    return {"out": "runs/c", "stages": stages, "tests": tests, **changes}


def curriculum(more: str = "", **changes) -> int:
    Path("c.yaml").write_text(yaml.safe_dump(recipe(**changes)))
    return main(["curriculum", "--config", "c.yaml", *more.split()])


def stamps(folder: str) -> dict[str, int]:
    """When each file below ``folder`` was written."""
    return {str(p): p.stat().st_mtime_ns for p in sorted(Path(folder).rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def world(micro, tmp_path_factory):
    """A folder with data/micro, the configs, and a finished curriculum under runs/whole."""
    folder = tmp_path_factory.mktemp("curriculum")
    shutil.copytree(micro, folder / "data" / "micro")
    shutil.copytree(ROOT / "configs", folder / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert curriculum("--out runs/whole") == 0
    return folder


@pytest.fixture
def here(world, monkeypatch):
    """In the world, with a copy of the finished curriculum to spoil."""
    monkeypatch.chdir(world)
    shutil.rmtree("runs/c", ignore_errors=True)
    shutil.copytree("runs/whole", "runs/c")
    for path in Path("runs/c").glob("*/stage.json"):  # the copy starts from its own models
        path.write_text(path.read_text().replace("runs/whole", "runs/c"))


@pytest.fixture
def empty(micro, tmp_path, monkeypatch):
    """Configs and data, and nothing run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "micro").symlink_to(micro)
    (tmp_path / "configs").symlink_to(ROOT / "configs")


# -- refused before any compute ----------------------------------------------------------------------------------------


def stage(**changes) -> list[dict]:
    return [{"name": "s0", "config": "configs/micro/sft.yaml", **changes}]


WRONG = [
    ("a key that is none", {"stagez": []}, "", r"stagez"),
    ("a key of a stage that is none", {"stages": stage(confg="x")}, "", r"confg"),
    ("no stage", {"stages": []}, "", r"stages is empty"),
    ("a stage without config", {"stages": [{"name": "s0"}]}, "", r"config"),
    ("two of one name", {"stages": [*stage(), *stage()]}, "", r"two are called 's0'"),
    ("a name that leads elsewhere", {"stages": stage(name="../s0")}, "", r"'../s0' names a folder"),
    ("a config that is not there", {"stages": stage(config="configs/mine.yaml")}, "", r"configs/mine.yaml is not here"),
    ("an unknown argument", {"stages": stage(overrides={"model.lrr": 1})}, "", r"stage s0 .*sft.yaml\): .*lrr"),
    ("an impossible value", {"stages": [*stage(), {"name": "s1", "config": "configs/micro/grpo4.yaml",
     "overrides": {"model.num_generations": 1}}]}, "", r"stage s1 .*num_generations must be at least 2"),
    ("data that is not there", {"stages": stage(overrides={"data.val": "data/nothing"})}, "",
     r"stage s0: there is no data folder data/nothing"),
    ("a start that is not there", {"stages": stage(overrides={"model.policy.path": "./nothing"})}, "",
     r"stage s0 starts from ./nothing"),
    ("an unknown benchmark", {"tests": [{"benchmark": "mirco"}]}, "", r"'mirco'. Did you mean 'micro'"),
    ("test data that is not there", {"tests": [{"benchmark": "micro", "root": "no"}]}, "", r"no data folder no,"),
    ("an unknown benchmark in a folder", {"tests": [{"benchmark": "mirco", "root": "data/micro/test"}]}, "",
     r"test mirco: unknown benchmark 'mirco'. Did you mean 'micro'"),
    ("a key of the curriculum that is nearly one", {"stage": stage()}, "", r"'stage'. Did you mean 'stages'"),
    ("a key of a stage that is nearly one", {"stages": stage(titel="x")}, "", r"'titel'. Did you mean 'title'"),
    ("an unknown swap", {"tests": [{"benchmark": "micro", "root": "data/micro/test", "swap": "smell"}]}, "",
     r"swap must be audio or video"),
    ("two tests of one name", {"tests": recipe()["tests"] * 2}, "", r"two are called 'micro'"),
    ("an unknown data command", {"data": {"sinth": {}}}, "", r"data: unknown command 'sinth'. Did you mean 'synth'"),
    ("an unknown argument of it", {"data": {"synth": {"scal": 1}}}, "", r"data.synth: .*scal"),
    ("a stage to end with that is none", {}, "--until s9", r"--until: no stage 's9'.* Known: s0, s1, s2"),
    ("an end before the start", {}, "--from s1 --until s0", r"left no model|comes after"),
    ("a start whose stage before has not been run", {}, "--from s1", r"left no model in runs/c/s0/model"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "more", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_is_wrong_is_told_before_anything_is_run(changes, more, message, empty, capsys):
    assert curriculum(more, **changes) == 2
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert not Path("runs").exists()


def test_without_a_config_the_command_says_what_it_wants(capsys):
    assert main(["curriculum"]) == 2
    assert "--config FILE" in capsys.readouterr().err


def test_a_judge_that_is_down_is_told_before_the_first_stage(empty, capsys):
    """The rewards of every stage are tried first, as the stage itself would."""
    stages = recipe()["stages"]
    stages[2]["overrides"] = {**stages[2]["overrides"], "model.rewards": [{"class_path": "tests_curriculum.Down"}]}
    assert curriculum(stages=stages) == 2
    assert "stage s2: there is nobody at http://127.0.0.1:1" in capsys.readouterr().err
    assert not Path("runs/c/s0").exists()
    assert curriculum("--dry_run", stages=stages) == 0


def test_a_dry_run_shows_the_plan_and_leaves_nothing(empty, capsys):
    assert curriculum("--dry_run") == 0
    out = capsys.readouterr().out
    assert out.count("to do") == 3
    assert "runs/c/s1" in out
    assert not Path("runs").exists()


def test_a_class_in_a_curriculum_is_not_made_while_it_is_read(empty, capsys):
    harm = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "marker"]}}
    assert curriculum(stages=stage(overrides={"model.advantage": harm, "data.harm": harm}), data={"synth": harm}) == 2
    assert not Path("marker").exists()


def test_data_that_a_command_will_make_may_be_missing(empty, capsys):
    data = {"synth": {"out": "data/other", "scale": 0.01}}
    tests = [{"benchmark": "micro", "root": "data/other/test"}]
    assert curriculum("--dry_run", data=data, tests=tests) == 0
    assert "synth" in capsys.readouterr().out
    assert not Path("data/other").exists()


# -- parts -------------------------------------------------------------------------------------------------------------


def test_overrides_are_arguments_of_the_command_line():
    nested = {"model": {"optimizer.lr": 1e-4, "advantage": {"class_path": "GRPO"}}, "data.train": "x", "a.b": None}
    assert as_arguments(nested) == [
        "--model.optimizer.lr=0.0001", '--model.advantage={"class_path": "GRPO"}', "--data.train=x", "--a.b=null",
    ]  # fmt: skip


def test_flatten_loses_no_leaf_and_tells_places_apart():
    tree = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}, {"e": {}}]}
    assert dict(flatten(tree)) == {"a.b": 1, "a.c": [1, 2], "d[0].e": None, "d[1].e": {}}


def test_a_fingerprint_follows_names_sizes_and_content_of_small_and_large_files(tmp_path):
    (tmp_path / "small").write_bytes(b"abc")
    (tmp_path / "large").write_bytes(bytes(2**21))
    seen = {folders.fingerprint(tmp_path)}
    assert folders.fingerprint(tmp_path) in seen
    for change in (
        lambda: (tmp_path / "small").write_bytes(b"abd"),
        lambda: (tmp_path / "large").write_bytes(bytes(2**21 - 1) + b"x"),  # the last byte of the last block
        lambda: (tmp_path / "large").write_bytes(bytes(2**21 + 1)),
        lambda: (tmp_path / "small").rename(tmp_path / "other"),
        lambda: (tmp_path / "new").write_bytes(b""),
    ):
        change()
        assert folders.fingerprint(tmp_path) not in seen
        seen.add(folders.fingerprint(tmp_path))
    assert folders.fingerprint("Qwen/Qwen2.5-Omni-7B") == "Qwen/Qwen2.5-Omni-7B"


def test_the_fingerprint_of_data_is_that_of_the_shards_alone(micro):
    before = folders.data_fingerprint(micro / "dev")
    (micro / "dev" / "extra.index.json").write_text("{}")
    try:
        assert folders.data_fingerprint(micro / "dev") == before != state.data_fingerprint(micro / "test")
    finally:
        (micro / "dev" / "extra.index.json").unlink()


def test_differences_name_the_key_and_both_values():
    assert folders.differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 4, "d": None}) == [
        "b: 2 -> 4", "c: 3 -> unset", "d: unset -> None",
    ]  # fmt: skip


def summary_of(*accuracies: dict[str, float]) -> dict:
    rows = [
        {"name": f"s{i}", "title": f"+ S{i}", "completions": 1280 if i else None, "seconds": 61.2, "tests": {
            name: {"accuracy": a, "num_scored": 600, "difference": a - accuracies[i - 1][name] if i else None}
            for name, a in tests.items()}}
        for i, tests in enumerate(accuracies)
    ]  # fmt: skip
    return {"finished": True, "tests": list(accuracies[0]), "stages": rows, "seconds": 200.0}


def test_the_table_has_a_row_a_stage_and_the_difference_to_the_row_above():
    header, rows = show.cells(summary_of({"see": 0.25, "hear": 0.5}, {"see": 0.75, "hear": 0.375}))
    assert header == ["stage", "see (n = 600)", "hear (n = 600)", "completions", "seconds"]
    assert rows == [
        ["+ S0", "0.250", "0.500", "-", "61"],
        ["+ S1", "0.750 (+0.500)", "0.375 (-0.125)", "1,280", "61"],
    ]


def test_the_picture_is_drawn_for_many_tests_and_for_one(tmp_path):
    for num in (1, 6):
        tests = [{f"t{i}": 0.1 * i + 0.05 * s for i in range(num)} for s in range(4)]
        show.plot(summary_of(*tests), tmp_path / "p.png")
        assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_two_tests_of_one_benchmark_go_by_names_of_their_own():
    assert StageTest("micro", swap="audio").label == "micro-swap_audio"
    assert StageTest("micro", name="deaf").label == "deaf"
    assert StageTest("micro").folder == "data/micro/test"


# -- a whole one -------------------------------------------------------------------------------------------------------


def test_each_stage_starts_from_the_weights_at_the_end_of_the_last(here):
    records = [json.loads(Path(f"runs/c/s{i}/stage.json").read_text()) for i in range(3)]
    assert [r["start"] for r in records[1:]] == [r["model"] for r in records[:2]]
    assert len({r["model"] for r in records}) == 3
    assert [r["completions"] for r in records] == [None, 16, 16]  # 4 steps x 4 new ones
    config = yaml.safe_load(Path("runs/c/s1/config.yaml").read_text())
    assert config["model"]["init_args"]["policy"]["init_args"]["path"] == "runs/whole/s0/model"


def test_the_table_holds_what_the_tests_found(here):
    summary = json.loads(Path("runs/c/curriculum.json").read_text())
    assert summary["finished"]
    for row in summary["stages"]:
        results = json.loads(Path(f"runs/c/{row['name']}/test/micro.results.json").read_text())
        assert row["tests"]["micro"]["accuracy"] == results["accuracy"]
        assert row["tests"]["micro"]["num_scored"] == results["num_scored"] == 20
    assert [row["title"] for row in summary["stages"]] == ["SFT", "+ S1", "+ S2"]
    assert Path("runs/c/curriculum.md").read_text().count("\n| ") == 4
    assert Path("runs/c/curriculum.png").stat().st_size > 5000


def test_a_stage_is_what_avatar_fit_makes_of_its_config(here):
    args = [*as_arguments(RL), "--model.policy.path=runs/c/s0/model", "--trainer.default_root_dir=runs/alone"]
    assert main(["fit", "--config=configs/micro/grpo4.yaml", *args]) == 0
    for name in ("metrics.csv", "completions.jsonl", "model/model.safetensors"):
        assert Path("runs/alone", name).read_bytes() == Path("runs/c/s1", name).read_bytes()


def test_what_is_done_is_not_done_again(here, capsys):
    before = stamps("runs/c")
    assert curriculum() == 0
    assert capsys.readouterr().out.count("done already") == 3
    changed = {p for p, t in stamps("runs/c").items() if before.get(p) != t}
    assert {Path(p).name for p in changed} <= {".lock", "curriculum.json", "curriculum.md", "curriculum.png"}


def test_a_new_test_is_asked_of_the_stages_that_are_done_and_nothing_else(here):
    before = stamps("runs/c")
    tests = [*recipe()["tests"], {"benchmark": "micro", "root": "data/micro/dev", "name": "dev"}]
    assert curriculum(tests=tests) == 0
    after = stamps("runs/c")
    for name in ("model/model.safetensors", "metrics.csv", "test/micro.results.json"):
        paths = [f"runs/c/s{i}/{name}" for i in range(3)]
        assert [after[path] for path in paths] == [before[path] for path in paths]
    assert json.loads(Path("runs/c/curriculum.json").read_text())["stages"][2]["tests"]["dev"]["num_scored"] == 10


def refused(capsys, message: str, more: str = "", **changes) -> None:
    """By the same words in a dry run, and nothing is written."""
    before = stamps("runs/c")
    for dry in ("", " --dry_run"):
        assert curriculum(more + dry, **changes) == 2
        assert re.search(message, capsys.readouterr().err)
    assert {k: v for k, v in stamps("runs/c").items() if ".lock" not in k} == {
        k: v for k, v in before.items() if ".lock" not in k
    }


def test_a_changed_config_is_refused_with_the_key_and_the_way_out(here, capsys):
    stages = recipe()["stages"]
    stages[1]["overrides"] = {**RL, "model.temperature": 0.9}
    refused(capsys, r"s1 was run with other settings(.|\n)*temperature: 1.0 -> 0.9\n(.|\n)*--restart s1", stages=stages)


def test_a_model_that_was_replaced_is_refused(here, capsys):
    shutil.copy("runs/c/s1/model/model.safetensors", "runs/c/s0/model/model.safetensors")
    refused(capsys, r"runs/c/s0/model is not the model that it wrote")
    record = json.loads(Path("runs/c/s0/stage.json").read_text())
    record["model"] = folders.fingerprint("runs/c/s0/model")
    Path("runs/c/s0/stage.json").write_text(json.dumps(record))
    refused(capsys, r"s1 was run from another model than the one that lies in runs/c/s0/model now")


def test_a_stage_that_was_removed_to_run_it_anew_is_noticed_by_the_next(here, capsys):
    shutil.rmtree("runs/c/s0")
    refused(capsys, r"s1 was run from a model of stage s0 that is not there any more: s0 is to be done")


def test_data_that_have_changed_are_refused(here, capsys, tmp_path):
    shutil.move("data/micro/pool", tmp_path)
    shutil.copytree("data/micro/dev", "data/micro/pool")
    try:
        refused(capsys, r"stage s2: the data in data/micro/pool have changed")
    finally:
        shutil.rmtree("data/micro/pool")
        shutil.move(tmp_path / "pool", "data/micro/pool")


def test_a_run_that_the_curriculum_did_not_begin_is_left_alone(here, capsys):
    Path("runs/c/s2/stage.json").unlink()
    refused(capsys, r"runs/c/s2 holds a run that `avatar curriculum` did not begin")


def test_restart_sets_the_stage_and_those_after_it_aside_and_comes_to_the_same(here, capsys):
    numbers = json.loads(Path("runs/c/curriculum.json").read_text())
    before = stamps("runs/c/s0")
    assert curriculum("--restart s1") == 0
    assert "set aside: runs/c/s1.1" in capsys.readouterr().out
    assert stamps("runs/c/s0") == before
    assert Path("runs/c/s1.1/metrics.csv").read_bytes() == Path("runs/c/s1/metrics.csv").read_bytes()
    assert results(json.loads(Path("runs/c/curriculum.json").read_text())) == results(numbers)


def results(summary: dict) -> list:
    """All of a table but its seconds."""
    return [
        (row["name"], row["steps"], row["completions"], {k: {**t, "seconds": 0} for k, t in row["tests"].items()})
        for row in summary["stages"]
    ]


@pytest.mark.slow
def test_a_part_of_it_and_then_the_rest(here):
    whole = json.loads(Path("runs/c/curriculum.json").read_text())
    assert curriculum("--out runs/parts --until s0") == 0
    assert not Path("runs/parts/s1").exists()
    part = json.loads(Path("runs/parts/curriculum.json").read_text())
    assert not part["finished"]
    assert len(part["stages"]) == 1
    assert curriculum("--out runs/parts --from s1 --until s1") == 0
    assert curriculum("--out runs/parts") == 0
    assert results(json.loads(Path("runs/parts/curriculum.json").read_text())) == results(whole)


def test_two_at_a_time_in_one_folder_are_refused(here, capsys):
    with folders.locked(Path("runs/c"), "another `avatar curriculum`"):
        assert curriculum() == 2
    assert "another `avatar curriculum`" in capsys.readouterr().err


def half_done(name: str) -> None:
    """As if killed: the stage has its last checkpoint, and half of an exported model."""
    folder = Path("runs/c") / name
    record = json.loads((folder / "stage.json").read_text())
    killed = {"finished": False, "model": None, "began": 1.0, "tests": {}}
    (folder / "stage.json").write_text(json.dumps(record | killed))
    (folder / "model").rename(folder / "model.partial")
    (folder / "model.partial" / "config.json").write_text("{")


def test_a_kill_while_the_model_is_exported_costs_the_export_alone(here):
    numbers = json.loads(Path("runs/c/curriculum.json").read_text())
    before, metrics = folders.fingerprint("runs/c/s2/model"), Path("runs/c/s2/metrics.csv").read_bytes()
    half_done("s2")
    assert curriculum() == 0
    assert folders.fingerprint("runs/c/s2/model") == before
    assert Path("runs/c/s2/metrics.csv").read_bytes() == metrics
    assert results(json.loads(Path("runs/c/curriculum.json").read_text())) == results(numbers)
    assert not list(Path("runs/c/s2").glob("model.*"))


def test_a_stage_that_was_begun_with_other_settings_does_not_go_on_with_these(here, capsys):
    half_done("s2")
    stages = recipe()["stages"]
    stages[2]["overrides"] = {**stages[2]["overrides"], "seed_everything": 5}
    refused(capsys, r"s2 was begun with other settings(.|\n)*seed_everything: 0 -> 5", stages=stages)


# -- the ones we ship --------------------------------------------------------------------------------------------------


SHIPPED = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("curriculum.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_shipped_curriculum_is_a_chain_that_its_stages_agree_with(path, monkeypatch):
    """A stage's config, run by itself, writes where the curriculum has it and starts from what the last one writes."""
    monkeypatch.chdir(ROOT)
    ours, _ = read(["--config", str(path)])
    assert isinstance(ours, Recipe)
    before = None
    for each in ours.stages:
        config = yaml.safe_load(Path(each.config).read_text())
        folder = config["trainer"]["default_root_dir"]
        assert folder == f"{ours.out}/{each.name}"
        if before:
            assert config["model"]["init_args"]["policy"]["init_args"]["path"] == f"{before}/model"
        before = folder


@pytest.mark.slow
def test_the_curriculum_of_the_7b_runs_as_it_stands_but_for_its_size_and_its_judge(world, monkeypatch):
    """On the tiny model: paths, devices, sizes and lengths are changed, and a rule stands in for the judge."""
    monkeypatch.chdir(world)
    ours, _ = read(["--config", "configs/stages/curriculum.yaml"])
    small = {
        "trainer": {"accelerator": "cpu", "devices": 1, "strategy": "auto", "max_steps": 3, "val_check_interval": 3},
        "model": {"policy.dtype": "float32", "max_new_tokens": 8, "optimizer.lr": 1e-3},
        "data": {"val": "data/micro/dev", "num_workers": 1, "min_pixels": 784, "max_pixels": 3136},
        "data.letter_options": False,
        "data.system": None,
    }
    stages = []
    for each in ours.stages:
        over = {**small, "data.train": "data/micro/pool", "model.replay.minimum": 4}
        if each.name == "s0":
            over = {**small, "data.train": "data/micro/chains", "model.policy.path": "data/micro/model"}
        if each.name == "s3":
            over["model.rewards"] = [{"class_path": "tests_curriculum.Odd"}]
        stages.append({"name": each.name, "config": each.config, "overrides": over})
    assert curriculum(stages=stages, out="runs/seven") == 0
    summary = json.loads(Path("runs/seven/curriculum.json").read_text())
    assert [row["completions"] for row in summary["stages"]] == [None, 12, 12, 12]
    models = [folders.fingerprint(f"runs/seven/s{i}/model") for i in range(4)]
    assert models[0] != models[1]  # LoRA is merged, and the next starts from a full model
    assert not [p for p in Path("runs/seven/s3/model").iterdir() if "adapter" in p.name]
