import json

import pytest
from report.folders import write_cell, write_plan, write_run, write_sweep

from avatar.commands.report import MOST_LINES, main
from avatar.errors import ConfigError
from avatar.report.figures.accuracy import ACCURACY_FIGURE
from avatar.report.figures.strength import STRENGTH_FIGURE


@pytest.fixture(autouse=True)
def _wide_console(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def _few_figures(monkeypatch):
    """Drawing all takes seconds; the tests of figures do."""
    monkeypatch.setattr("avatar.report.write.FIGURES", (ACCURACY_FIGURE, STRENGTH_FIGURE))


@pytest.fixture
def demo(tmp_path):
    """Two short runs and a cold start, as the demo leaves them."""
    write_run(tmp_path / "demo" / "grpo", steps=8, every=4)
    write_run(tmp_path / "demo" / "avatar", steps=8, every=4, replayed=4)
    (tmp_path / "demo" / "sft").mkdir()
    (tmp_path / "demo" / "sft" / "metrics.csv").write_text("step,loss\n1,2.5\n")
    (tmp_path / "demo" / "sft" / "config.yaml").write_text("model: {class_path: avatar.modules.SFTModule}\n")
    return tmp_path / "demo"


def test_a_folder_of_runs_becomes_a_page(demo, tmp_path, capsys):
    out = tmp_path / "report"
    assert main(["report", str(demo), "--out", str(out), "--baseline", "grpo"]) == 0
    said = capsys.readouterr().out
    assert "avatar" in said
    assert f"left out: {demo}/sft: a cold start, which generates no completions" in said
    assert "not drawn: Strength of the credit shape" in said
    assert f"page: {out}/index.html (" in said
    report = json.loads((out / "report.json").read_text())
    assert [(arm["label"], arm["baseline"]) for arm in report["arms"]] == [("avatar", "grpo"), ("grpo", None)]
    assert report["title"] == f"Report of {demo}"


def test_a_failed_cell_is_named_and_left_out_and_the_others_are_drawn(tmp_path, capsys):
    write_sweep(tmp_path / "s", {"a": {"steps": 8, "every": 4}}, seeds=(0, 1))
    write_plan(tmp_path / "s", {"arm": ["a"], "seed": ["0", "1", "2", "3"]}, title="mine")
    write_cell(tmp_path / "s", {"arm": "a", "seed": "2"}, "failed", "DataError: no clip", steps=8, top=0.0)
    assert main(["report", str(tmp_path / "s"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "s/cells/a-2: failed: DataError: no clip" in said
    assert "s/cells/a-3: not started" in said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["figures"]["accuracy"]["numbers"]["arms"]["mine"]["num_runs"] == 2
    assert len(report["left_out"]) == 2


def test_of_many_that_are_left_out_the_first_are_named_on_the_screen_and_all_on_the_page(tmp_path, capsys):
    write_sweep(tmp_path / "s", {"a": {"steps": 4}}, seeds=(0,))
    write_plan(tmp_path / "s", {"arm": ["a"], "seed": list(map(str, range(20)))})
    main(["report", str(tmp_path / "s"), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.count("left out:") == MOST_LINES + 1
    assert (tmp_path / "out" / "index.html").read_text().count("not started") == 19


def test_what_cannot_be_done_is_said_before_anything_is_written(demo, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    cases = {
        (str(demo), "--out", str(tmp_path / "full")): "has files in it that no `avatar report` has written",
        (str(demo), "--baseline", "grop", "--out", str(tmp_path / "new")): r"Did you mean 'grpo'\?",
        (str(demo / "sft"), "--out", str(tmp_path / "new")): "none of 1 runs can be used. .*a cold start",
        (str(tmp_path / "full"), "--out", str(tmp_path / "new")): "holds no run",
        (str(demo), "--outt", "x"): "unknown argument --outt. Did you mean '--out'",
    }
    for args, message in cases.items():
        with pytest.raises(ConfigError, match=message):
            main(["report", *args])
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


def test_several_folders_are_one_page(demo, tmp_path):
    write_sweep(tmp_path / "s", {"a": {"steps": 4}, "b": {"steps": 4}}, seeds=(0,), title="sweep")
    main(["report", str(demo / "grpo"), str(tmp_path / "s"), "--out", str(tmp_path / "out")])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [arm["label"] for arm in report["arms"]] == ["grpo", "sweep: a", "sweep: b"]
