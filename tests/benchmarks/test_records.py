import json
import sys

import pytest

from avatar.benchmarks.records import (
    parquet_columns,
    read_records,
    take_letter,
    take_options,
    take_texts,
    unique_keys,
)
from avatar.errors import ConfigError, DataError

ROWS = [{"id": "a", "options": ["x", "y"], "big": "1"}, {"id": "b", "options": ["z"], "big": "2"}]


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def records(path, columns=()):
    return [record for _, record in read_records(path, columns)]


def test_lists_columns_and_lines_of_json_hold_the_same_records(tmp_path):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    assert records(write(tmp_path / "a.json", ROWS)) == ROWS
    assert records(write(tmp_path / "b.json", columns)) == ROWS
    assert records(write(tmp_path / "c.jsonl", "\n\n".join(map(json.dumps, ROWS)))) == ROWS


def test_of_a_parquet_table_only_the_columns_asked_for_are_read(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert records(tmp_path / "a.parquet") == ROWS
    assert records(tmp_path / "a.parquet", ("options", "id", "other")) == [
        {"id": "a", "options": ["x", "y"]},
        {"id": "b", "options": ["z"]},
    ]
    assert parquet_columns(tmp_path / "a.parquet") == ["id", "options", "big"]


def test_records_are_named_by_file_and_place(tmp_path):
    assert [where.rpartition("/")[2] for where, _ in read_records(write(tmp_path / "a.json", ROWS))] == [
        "a.json#1",
        "a.json#2",
    ]
    lines = write(tmp_path / "a.jsonl", "\n" + json.dumps(ROWS[0]))
    assert [where.rpartition("/")[2] for where, _ in read_records(lines)] == ["a.jsonl:2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", '"text"', "must be a list of records"),
        ("a.json", {"id": ["a"], "n": 3}, "must be a list of records"),
        ("a.json", {"id": ["a", "b"], "n": [1]}, r"differ in length: .*'id': 2, 'n': 1"),
        ("a.parquet", "no table", "a.parquet: the table cannot be read"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        records(write(tmp_path / name, content))


def test_who_has_no_reader_of_parquet_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'avatar-rl\[hf\]'"):
        records(write(tmp_path / "a.parquet", ""))


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        (lambda r: take_texts(r, "texts", "here"), "here: field 'texts' must hold texts, got 2"),
        (lambda r: take_options(r, "one", "here"), "here: field 'one' must hold 2 to 26 options, got 1"),
        (lambda r: take_options(r, "many", "here"), "got 27"),
        (lambda r: take_letter(r, "answer", ["x", "y"], "here"), "'answer' must be the letter .* A to B, got 'C'"),
        (lambda r: take_letter(r, "both", ["x", "y"], "here"), "got 'AB'"),
        (lambda r: take_letter(r, "small", ["x", "y"], "here"), "got 'b'"),
        (lambda r: take_letter(r, "none", ["x", "y"], "here"), "got ''"),
    ],
)
def test_a_field_that_is_not_as_it_must_be_is_named(taken, message):
    record = {"texts": ["a", 2], "one": ["a"], "many": ["a"] * 27}
    record |= {"answer": "C", "both": "AB", "small": "b", "none": ""}
    with pytest.raises(DataError, match=message):
        taken(record)


def test_fields_that_are_as_they_must_be_are_given():
    record = {"options": ["x", "y"], "answer": " B "}
    assert take_options(record, "options", "here") == ("x", "y")
    assert take_letter(record, "answer", ["x", "y"], "here") == "B"


def test_keys_are_unique_and_stay_when_records_are_added():
    assert list(unique_keys(["a", "b", "a", "a"])) == ["a", "b", "a#2", "a#3"]
    assert list(unique_keys(["a", "b", "a"])) == ["a", "b", "a#2"]
