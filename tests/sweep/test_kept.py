"""Finished cells in one small file: what it holds, and that a sweep made from it is the same."""

import json

import pytest
from tests_sweep import a_record, a_sweep, checked, level, write_sweep

from avatar.commands.sweep.best import best_of
from avatar.commands.sweep.kept import keep, read_kept, restore
from avatar.commands.sweep.record import read_record
from avatar.commands.sweep.table import read_cells, summarize
from avatar.errors import ConfigError

SWEEP = a_sweep("arm:m=GRPO,TAS", "seed_everything=0,1", baseline={"arm": "GRPO"})


def records():
    """Four cells that share most settings; one has failed."""
    made = []
    for i, (arm, seed) in enumerate((arm, seed) for arm in ("GRPO", "TAS") for seed in ("0", "1")):
        record = a_record(level(0.1 * (i + 1)), arm=arm, seed=seed)
        record.settings = {"lr": 0.1, "list": [1, {"a": None}], "arm": arm, "seed": int(seed), "none": None}
        record.inputs = {"data/x": "abc"}
        made.append(record)
    del made[0].settings["lr"]
    made[1].settings["alone"] = True
    made[3].status, made[3].result, made[3].error = "failed", None, "no"
    return made


@pytest.fixture
def folder(tmp_path):
    return write_sweep(tmp_path / "s", SWEEP, records())


def test_finished_cells_come_back_with_all_their_settings(folder, tmp_path):
    keep(folder, tmp_path / "deep" / "kept.json")
    sweep, kept = read_kept(tmp_path / "deep" / "kept.json")
    assert sweep == SWEEP
    assert [(r.name, r.point, r.settings, r.inputs, r.result, r.status) for r in kept] == [
        (r.name, r.point, r.settings, r.inputs, r.result, r.status) for r in records()[:3]
    ]


def test_the_table_can_be_made_from_the_file(folder, tmp_path):
    keep(folder, tmp_path / "kept.json")
    assert summarize(*read_kept(tmp_path / "kept.json"))[0] == summarize(SWEEP, records())[0]


def test_another_sweep_may_choose_by_the_file(folder, tmp_path):
    sweep = a_sweep("arm:m=GRPO", "lr:o.lr=1,2", "seed_everything=0")
    made = [a_record(level(y), arm="GRPO", lr=lr, seed="0") for lr, y in (("1", 0.2), ("2", 0.3))]
    keep(write_sweep(tmp_path / "t", sweep, made), tmp_path / "kept.json")
    _, extra = best_of(tmp_path / "kept.json", checked("arm:m=GRPO", "seed_everything=5"))
    assert extra == {"GRPO-5": ["--o.lr=2"]}


def test_what_is_set_alike_is_written_once(folder, tmp_path):
    keep(folder, tmp_path / "kept.json")
    content = json.loads((tmp_path / "kept.json").read_text())
    assert content["settings"]["list"] == [1, {"a": None}]
    assert not any("list" in cell["settings"]["other"] for cell in content["cells"])
    assert content["cells"][0]["settings"]["lacking"] == ["lr"]


def test_cells_that_were_kept_before_stay_and_new_ones_join_them(folder, tmp_path):
    file = tmp_path / "kept.json"
    keep(folder, file)
    other = write_sweep(tmp_path / "t", SWEEP, [a_record(level(0.9), arm="TAS", seed="1")])
    keep(other, file)
    assert [record.name for record in read_kept(file)[1]] == ["GRPO-0", "GRPO-1", "TAS-0", "TAS-1"]
    before = file.read_bytes()
    keep(other, file)
    assert file.read_bytes() == before  # the same cells, the same bytes: no change in a repository


def test_cells_are_put_where_nothing_lies_yet_and_are_marked(folder, tmp_path):
    file, other = tmp_path / "kept.json", tmp_path / "t"
    keep(folder, file)
    a_record(level(0.9), arm="TAS", seed="0").save(other / "cells" / "TAS-0")
    assert restore(file, other, ["GRPO-0", "TAS-0"]) == 1
    assert read_record(other / "cells" / "GRPO-0").kept
    assert read_record(other / "cells" / "GRPO-0").result == level(0.1)
    assert read_record(other / "cells" / "TAS-0").result == level(0.9)  # as it was
    assert read_cells(other, ["GRPO-1"]) == []
    assert restore(tmp_path / "absent.json", other, ["GRPO-1"]) == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"settings": {}, "cells": [{}]}'])
def test_a_file_that_is_not_ours_is_refused_by_its_name(tmp_path, text):
    (tmp_path / "kept.json").write_text(text)
    with pytest.raises(ConfigError, match=r"kept\.json: no finished cells that"):
        read_kept(tmp_path / "kept.json")
