import numpy as np
import pytest
from report.folders import write_run

from avatar.errors import DataError
from avatar.report.files import read_columns, read_objects
from avatar.report.runs import read_run
from avatar.report.sweeps import Place


def everything(name):
    return True


def test_cells_that_hold_no_number_are_nan_and_only_asked_columns_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text("step,x,y\n1,0.5,\n2,,word\n")
    columns = read_columns(tmp_path / "a.csv", lambda name: name != "step")
    np.testing.assert_array_equal(columns["x"], [0.5, np.nan])
    np.testing.assert_array_equal(columns["y"], [np.nan, np.nan])
    assert set(columns) == {"x", "y"}


@pytest.mark.parametrize("torn", ["3,0.7", "3", "3,0.7,0.1,9\n", "3\n"])
def test_a_row_that_a_crash_has_torn_is_not_read(tmp_path, torn):
    (tmp_path / "a.csv").write_text("step,x\n1,0.5\n" + torn)  # "0.7" may have been going to be 0.75
    assert read_columns(tmp_path / "a.csv", everything)["x"].tolist() == [0.5]


@pytest.mark.parametrize("text", ["", "step,x"])
def test_a_table_without_a_whole_header_has_no_columns(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    assert read_columns(tmp_path / "a.csv", everything) == {}


def test_lines_that_are_torn_or_no_objects_are_passed_over(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"step": 1}\n{"st\n[1]\nnull\n\n{"step": 2, "text": "\u2028"}\n{"step": 3}')
    assert [row["step"] for row in read_objects(tmp_path / "a.jsonl")] == [1, 2]
    assert list(read_objects(tmp_path / "none.jsonl")) == []


def test_objects_up_to_a_step_are_passed_over_wherever_the_step_stands(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"step": 1}\n{"step": 10, "a": 1}\n{"a": 2, "step": 1}\n{"a": 3, "step": 11}\n')
    assert [row.get("a") for row in read_objects(tmp_path / "a.jsonl", after=9)] == [1, 3]


def test_a_run_whose_files_were_torn_is_read_up_to_there(tmp_path):
    whole = read_run(Place(write_run(tmp_path / "whole", replayed=4)))
    torn = write_run(tmp_path / "torn", replayed=4)
    for name, text in {
        "metrics.csv": "41,0.9",
        "timings.csv": "41",
        "health.jsonl": '{"step": 50, "histogram/fr',
        "completions.jsonl": '{"step": 41, "length": 99',
    }.items():
        with (torn / name).open("a") as file:
            file.write(text)
    read = read_run(Place(torn))
    assert read.last_accuracy == whole.last_accuracy
    assert read.seconds == whole.seconds
    np.testing.assert_array_equal(read.lengths, whole.lengths)
    np.testing.assert_array_equal(read.histograms["fresh"], whole.histograms["fresh"])


def test_what_is_no_run_of_reinforcement_learning_is_told_in_words(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss,val/accuracy\n1,0.5,0.3\n")
    with pytest.raises(DataError, match="counts no generated completions"):
        read_run(Place(tmp_path))
    (tmp_path / "config.yaml").write_text("model: {class_path: avatar.modules.SFTModule}\n")
    with pytest.raises(DataError, match="a cold start"):
        read_run(Place(tmp_path))
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(DataError, match=r"config.yaml is no YAML"):
        read_run(Place(tmp_path))
    (tmp_path / "config.yaml").write_text("just text\n")
    with pytest.raises(DataError, match="a YAML mapping was wanted, got str"):
        read_run(Place(tmp_path))
    with pytest.raises(DataError, match=r"metrics.csv cannot be read: No such file"):
        read_run(Place(tmp_path / "none"))
