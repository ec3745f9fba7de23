"""What is known of a cell, and what is refused when it would be run otherwise now."""

import json
from dataclasses import replace

import pytest
from tests_sweep import a_record, level

from avatar.commands.sweep.cells import Cell
from avatar.commands.sweep.record import check_records, new_record, read_record
from avatar.errors import ConfigError


@pytest.fixture
def cell(tmp_path):
    return Cell(
        "GRPO-0", {"advantage": "GRPO", "seed": "0"}, tmp_path / "GRPO-0", ["fit"], {"model.lr": 0.1, "seed": 0},
        {"models/a": "abc", "data/b": "def"}, 8, "{}",
    )  # fmt: skip


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = a_record(level(0.5), advantage="GRPO", seed="0")
    record.save(tmp_path / "deep" / "folder")
    assert read_record(tmp_path / "deep" / "folder") == record
    assert [path.name for path in (tmp_path / "deep" / "folder").iterdir()] == ["cell.json"]  # nothing half-written


def test_a_cell_that_was_never_begun_has_no_record(tmp_path):
    assert read_record(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', '{"other": 1}', '"x"'])
def test_a_file_that_is_not_ours_is_refused_by_its_name(tmp_path, text):
    (tmp_path / "cell.json").write_text(text)
    with pytest.raises(ConfigError, match=r"not what `avatar sweep` writes.*move the folder away"):
        read_record(tmp_path)


def test_what_was_begun_is_found(cell):
    assert check_records([cell]) == {}
    new_record(cell).save(cell.folder)
    assert check_records([cell]) == {"GRPO-0": new_record(cell)}


def test_changed_settings_are_refused_with_key_values_and_way_out_and_nothing_is_touched(cell):
    new_record(cell).save(cell.folder)
    before = (cell.folder / "cell.json").read_bytes()
    with pytest.raises(ConfigError) as error:
        check_records([replace(cell, settings={"model.lr": 0.2, "seed": 0, "model.beta": 1})])
    for part in ("cell GRPO-0", "model.lr: 0.1 -> 0.2", "model.beta: unset -> 1", "another --out", "--restart"):
        assert part in str(error.value)
    assert "seed" not in str(error.value).replace("sets", "")
    assert (cell.folder / "cell.json").read_bytes() == before


def test_many_changes_are_shown_in_part(cell):
    new_record(cell).save(cell.folder)
    with pytest.raises(ConfigError) as error:
        check_records([replace(cell, settings={f"k{i}": i for i in range(50)})])
    assert str(error.value).count("->") == 9  # eight of them, and "then -> now"


def test_changed_data_or_model_is_refused_by_its_place(cell):
    new_record(cell).save(cell.folder)
    with pytest.raises(ConfigError, match=r"GRPO-0: what lies in data/b has changed since\. .*another --out"):
        check_records([replace(cell, inputs={"models/a": "abc", "data/b": "new"})])


def test_a_folder_that_somebody_else_filled_is_refused(cell):
    cell.folder.mkdir()
    assert check_records([cell]) == {}  # empty is as good as not there
    (cell.folder / "metrics.csv").write_text("step\n")
    with pytest.raises(ConfigError, match="holds a run that `avatar sweep` did not begin"):
        check_records([cell])


def test_a_record_lists_its_settings_so_that_tables_can_be_made_without_configs(cell):
    new_record(cell).save(cell.folder)
    content = json.loads((cell.folder / "cell.json").read_text())
    assert content["settings"] == {"model.lr": 0.1, "seed": 0}
    assert (content["status"], content["attempts"], content["result"], content["version"]) == ("running", 0, None, 1)
