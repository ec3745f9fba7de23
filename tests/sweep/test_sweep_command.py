"""``avatar sweep`` from end to end, cells in this process: what it leaves, goes on with, refuses and sets aside."""

import json
import shutil

import pytest
from tests_sweep import cell, stamps, sweep_here, timeless

from avatar.cli import main

NAMES = ("GRPO-0", "GRPO-1", "TAS-0", "TAS-1")
TAS = "{class_path: TAS, init_args: {shape: {class_path: Parabolic, init_args: {strength: 0.9}}}}"
ARMS = (
    "--config=base.yaml",
    "--axis=model.advantage=GRPO,TAS",
    "--axis=seed_everything=0,1",
    "--baseline=advantage=GRPO",
    "--targets=[0.01,0.99]",
    "--completions=16",
    "--validate_every=8",
)
ODD, DOWN = ("[{class_path: tests_curriculum.%s}]" % name for name in ("Odd", "Down"))  # noqa: UP031  braces


@pytest.fixture(scope="module")
def whole(sweep_world):
    """A finished sweep of two arms and two seeds in ``runs/whole``, not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sweep_world)
        status, ran = sweep_here(patch, *ARMS, "--out=runs/whole")
    assert (status, ran) == (0, list(NAMES))
    return sweep_world / "runs" / "whole"


@pytest.fixture
def copy(whole, here):
    """The same, to be changed."""
    shutil.rmtree(here / "runs" / "copy", ignore_errors=True)
    shutil.copytree(whole, here / "runs" / "copy")
    yield here / "runs" / "copy"
    shutil.rmtree(here / "runs" / "copy", ignore_errors=True)
    shutil.rmtree(here / "runs" / "copy.1", ignore_errors=True)


def test_every_cell_has_its_folder_with_config_log_and_result(whole):
    for name in NAMES:
        record = cell(whole, name)
        assert (record["status"], record["attempts"], record["error"]) == ("finished", 1, None)
        assert record["point"] == dict(zip(("advantage", "seed"), name.split("-"), strict=True))
        assert [x for x, _ in record["result"]["curve"]] == [0, 8, 16]  # completions; 4 a step, validated every 2 steps
        assert (record["result"]["steps"], record["result"]["completions"]) == (4, 16)
        files = {path.name for path in (whole / "cells" / name).iterdir()}
        assert {"config.yaml", "log.txt", "metrics.csv", "completions.jsonl", "model", "checkpoints"} <= files


def test_cells_differ_by_seed_and_arm(whole):
    """A sweep of one run shown four times would pass all other tests."""
    seen = {(whole / "cells" / name / "completions.jsonl").read_text() for name in NAMES}
    assert len(seen) == 4


def test_the_tables_hold_every_row(whole):
    entries = json.loads((whole / "results.json").read_text())
    assert [(e["point"], e["runs"], e["of"]) for e in entries] == [
        ({"advantage": "GRPO"}, 2, 2),
        ({"advantage": "TAS"}, 2, 2),
    ]
    assert ["accuracy_difference" in entry for entry in entries] == [False, True]
    for name, start in (("results.md", "| GRPO | 2 |"), ("results.tex", "GRPO & 2 &")):
        assert start in (whole / name).read_text()
    sweep = json.loads((whole / "sweep.json").read_text())
    assert (sweep["cells"], sweep["command"][:2]) == (list(NAMES), ["avatar", "sweep"])


def test_a_cell_writes_what_the_same_run_alone_writes(whole, here):
    """It came last and so had all its clips from others."""
    alone = here / "runs" / "alone"
    args = ["--config=base.yaml", "--model.advantage=TAS", "--seed_everything=1", "--trainer.max_steps=4"]
    assert main(["fit", *args, "--trainer.val_check_interval=2", f"--trainer.default_root_dir={alone}"]) == 0
    for name in ("metrics.csv", "completions.jsonl", "model/model.safetensors"):
        assert (whole / "cells" / "TAS-1" / name).read_bytes() == (alone / name).read_bytes(), name


def test_started_again_it_runs_nothing_and_shows_the_table(whole, here, monkeypatch, capsys):
    before = stamps(whole, *NAMES)
    assert sweep_here(monkeypatch, *ARMS, "--out=runs/whole") == (0, [])
    assert stamps(whole, *NAMES) == before
    out = capsys.readouterr().out
    assert "4 of 4 cells are finished already" in out
    assert "TAS" in out


def test_stopped_half_way_it_goes_on_and_ends_as_if_nothing_had_happened(copy, whole, here, monkeypatch, capsys):
    for name in NAMES[3:]:
        shutil.rmtree(copy / "cells" / name)
    args = (*ARMS, "--out=runs/copy")
    assert sweep_here(monkeypatch, *args, stop_after=0) == (130, [])
    assert "Interrupted. Go on with: avatar sweep --config=base.yaml" in capsys.readouterr().err
    assert [entry["runs"] for entry in json.loads((copy / "results.json").read_text())] == [2, 1]
    before = stamps(copy, *NAMES[:3])
    assert sweep_here(monkeypatch, *args) == (0, list(NAMES[3:]))
    assert stamps(copy, *NAMES[:3]) == before
    for name in NAMES:
        ours, theirs = cell(copy, name), cell(whole, name)
        assert timeless(ours["result"]) == timeless(theirs["result"])
        assert ours["attempts"] == theirs["attempts"] == 1
        assert (ours["settings"], ours["inputs"]) == (theirs["settings"], theirs["inputs"])


def test_changed_settings_are_refused_and_nothing_is_lost(copy, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in copy.rglob("*.json")}
    status, ran = sweep_here(monkeypatch, *ARMS, "--out=runs/copy", "--set=model.temperature=0.5")
    assert (status, ran) == (2, [])
    err = capsys.readouterr().err
    assert "cell GRPO-0" in err
    assert "model.init_args.temperature: 1.0 -> 0.5" in err
    assert "--restart" in err
    assert {path: path.read_bytes() for path in before} == before


def test_a_restart_sets_the_old_sweep_aside_whole(copy, here, monkeypatch, capsys):
    args = (*ARMS, "--out=runs/copy", "--set=model.temperature=0.5", "--restart")
    assert sweep_here(monkeypatch, *args, stop_after=0) == (130, [])
    captured = capsys.readouterr()
    assert "set aside: runs/copy.1" in captured.out
    assert "--restart" not in captured.err.partition("Go on with")[2]  # or it would begin anew once more
    assert [cell(here / "runs" / "copy.1", name)["status"] for name in NAMES] == ["finished"] * 4
    assert not (copy / "cells").exists()


def test_a_restart_that_is_refused_sets_nothing_aside(copy, here, monkeypatch):
    status, _ = sweep_here(monkeypatch, *ARMS, "--out=runs/copy", "--restart=true", "--set=model.temperatur=0.5")
    assert status == 2
    assert not (here / "runs" / "copy.1").exists()


def test_a_sweep_that_is_at_work_is_not_set_aside(copy, here, monkeypatch, capsys):
    from avatar.commands.folders import locked

    with locked(copy, "a test"):
        status, _ = sweep_here(monkeypatch, *ARMS, "--out=runs/copy", "--restart=true")
    assert status == 2
    assert "is at work in runs/copy" in capsys.readouterr().err
    assert not (here / "runs" / "copy.1").exists()


def test_a_dry_run_shows_the_grid_and_writes_nothing(copy, here, monkeypatch, capsys):
    shutil.rmtree(copy / "cells" / "TAS-1")
    before = sorted(here.rglob("*"))
    assert sweep_here(monkeypatch, *ARMS, "--out=runs/copy", "--dry_run=true") == (0, [])
    assert sorted(here.rglob("*")) == before
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {(row[1], row[3]): row[-3:-1] for row in rows if len(row) > 7 and row[1] in ("GRPO", "TAS")}
    assert shown[("TAS", "1")] == ["to", "do"]
    assert shown[("GRPO", "0")][-1] == "finished"


@pytest.mark.slow
def test_more_seeds_are_run_beside_what_is_there_and_leave_no_checkpoints_where_these_are_not_wanted(copy, monkeypatch):
    more = [arg.replace("=0,1", "=0,1,2").replace("GRPO,TAS", "GRPO") for arg in ARMS]
    assert sweep_here(monkeypatch, *more, "--out=runs/copy", "--keep_checkpoints=false") == (0, ["GRPO-2"])
    (entry,) = json.loads((copy / "results.json").read_text())
    assert (entry["runs"], entry["of"]) == (3, 3)
    assert not (copy / "cells/GRPO-2/checkpoints").exists()
    assert not (copy / "cells/GRPO-2/model").exists()
    assert (copy / "cells/GRPO-1/checkpoints").exists()  # of an earlier command


def test_a_failed_cell_is_named_kept_and_tried_again_and_stops_no_other(here, monkeypatch, capsys):
    args = (
        "--config=base.yaml",
        f"--axis=r:model.rewards={DOWN},{ODD}",
        "--out=runs/failing",
        "--set=trainer.max_steps=2",
    )
    args = (*args, "--set=trainer.val_check_interval=1")
    down, odd = "class_path-tests_curriculum.Down", "class_path-tests_curriculum.Odd"
    assert sweep_here(monkeypatch, *args) == (1, [down, odd])
    err = capsys.readouterr().err
    assert f"failed: {down}: there is nobody at http://127.0.0.1:1; see runs/failing/cells/{down}/log.txt" in err
    assert "Try them once more with: avatar sweep" in err
    assert cell(here / "runs/failing", odd)["status"] == "finished"
    assert sweep_here(monkeypatch, *args) == (1, [down])
    record = cell(here / "runs/failing", down)
    assert (record["status"], record["attempts"], record["result"]) == ("failed", 2, None)
    (entry, *_) = json.loads((here / "runs/failing/results.json").read_text())[::-1]
    assert entry["runs"] == 1


@pytest.mark.slow
def test_a_cell_that_was_cut_off_after_its_last_step_is_concluded(copy, whole, monkeypatch):
    """Killed between the last checkpoint and the record."""
    path = copy / "cells" / "GRPO-1" / "cell.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"status": "running", "result": None}))
    assert sweep_here(monkeypatch, *ARMS, "--out=runs/copy") == (0, ["GRPO-1"])
    assert timeless(cell(copy, "GRPO-1")["result"]) == timeless(record["result"])
    assert cell(copy, "GRPO-1")["attempts"] == 2


@pytest.mark.slow
def test_another_name_for_an_axis_leaves_finished_cells_usable(copy, monkeypatch):
    renamed = [a.replace("=model.advantage", "=arm:model.advantage").replace("=advantage", "=arm") for a in ARMS]
    assert sweep_here(monkeypatch, *renamed, "--out=runs/copy") == (0, [])
    assert json.loads((copy / "results.json").read_text())[0]["point"] == {"arm": "GRPO"}
