"""Records from text: every one is yielded, or said to be broken at its own place."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.data.pack import text
from avatar.data.pack.text import text_rows
from avatar.errors import DataError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=12)


def rows_of(tmp_path, raw, name="train.json"):
    (tmp_path / name).write_bytes(raw)
    return list(text_rows(tmp_path / name))


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.sampled_from([None, 2]), st.integers(1, 40), st.booleans())
def test_an_array_read_in_small_pieces_is_the_array_read_at_once(tmp_path_factory, records, indent, chunk, ascii):
    raw = json.dumps(records, indent=indent, ensure_ascii=ascii).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "CHUNK", chunk)  # characters; also far below the length of one record
        rows = rows_of(tmp_path_factory.mktemp("array"), raw)
    assert [row.fields for row in rows] == records
    assert [row.origin for row in rows] == [f"train.json#{i + 1}" for i in range(len(records))]


@settings(max_examples=30, deadline=None)
@given(RECORDS)
def test_lines_are_read_as_they_were_written(tmp_path_factory, records):
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    rows = rows_of(tmp_path_factory.mktemp("lines"), raw, "train.jsonl")
    assert [row.fields for row in rows] == records
    assert [row.origin for row in rows] == [f"train.jsonl:{i + 1}" for i in range(len(records))]


BROKEN = {
    "half": (b'{"a": 1', "broken record"),
    "no object": (b"[1, 2]", "broken record"),
    "no UTF-8": (b'{"a": "\xff\xfe"}', "broken record"),
    "NaN": (b'{"a": NaN}', "broken record"),
    "deep": (b"[" * 200_000, "broken record"),
    "endless number": (b'{"a": ' + b"9" * 5000 + b"}", "broken record"),
    "too long": (b'{"a": "' + b"x" * 2000 + b'"}', "too large"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_costs_itself_alone(tmp_path, monkeypatch, name):
    raw, cause = BROKEN[name]
    if name == "too long":
        monkeypatch.setattr(text, "MAX_RECORD", 1000)
    first, broken, last = rows_of(tmp_path, b'{"a": 0}\n' + raw + b'\n\n{"a": 2}', "train.jsonl")
    assert (first.fields, last.fields) == ({"a": 0}, {"a": 2})
    assert (broken.fields, broken.error.cause, broken.origin) == (None, cause, "train.jsonl:2")
    assert last.origin == "train.jsonl:4"  # an empty line counts, as it does in an editor


@pytest.mark.parametrize(
    "raw", [b'[{"a": 1}, {"a": ', b'[{"a": 1} {"a": 2}]', b'[{"a": 1}] x', b'[{"a": 1}, {"a": NaN}]', b"["]
)
def test_a_broken_array_stops_at_the_record_that_is_in_doubt(tmp_path, raw):
    with pytest.raises(DataError, match=r"not JSON at or behind its record [012]"):
        rows_of(tmp_path, raw)


def test_an_item_that_is_no_object_costs_itself_alone(tmp_path):
    rows = rows_of(tmp_path, b'\xef\xbb\xbf [{"a": 1}, 5, {"a": 2}]')
    assert [row.fields for row in rows] == [{"a": 1}, None, {"a": 2}]
    assert "got int" in str(rows[1].error)


def test_an_object_that_is_too_long_for_the_window_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MAX_RECORD", 1000)
    monkeypatch.setattr(text, "CHUNK", 100)
    with pytest.raises(DataError, match="record 2"):
        rows_of(tmp_path, json.dumps([{"a": 1}, {"a": "x" * 5000}]).encode())
