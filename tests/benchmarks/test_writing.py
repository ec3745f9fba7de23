import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.benchmarks import writing
from avatar.benchmarks.writing import encoded, naming_file, write_whole
from avatar.errors import AvatarError


@given(st.text(st.characters()))  # halves of surrogate pairs too
@settings(max_examples=200, deadline=None)
def test_any_text_in_json_survives_the_disk(text):
    assert json.loads(encoded(json.dumps(text, ensure_ascii=False))) == text


def test_a_reply_with_half_a_pair_is_written_as_json_escapes_it(tmp_path):
    write_whole(tmp_path / "a.json", json.dumps(["\ud83d", "ü", "\u2028"], ensure_ascii=False))
    assert (tmp_path / "a.json").read_bytes() == b'["\\ud83d", "\xc3\xbc", "\xe2\x80\xa8"]'


def test_folders_on_the_way_are_made_and_nothing_else_is_left(tmp_path):
    write_whole(tmp_path / "a/b/c d.json", "x\r\ny")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "a/b/c d.json"]
    assert (tmp_path / "a/b/c d.json").read_bytes() == b"x\r\ny"  # to the byte


def test_a_crash_before_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.json", "old")

    def crash(number):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"


@pytest.mark.parametrize("in_the_way", ["folder", "file"])
def test_what_is_in_the_way_is_named_and_stays(tmp_path, in_the_way):
    path = tmp_path / "a/b.json"
    if in_the_way == "folder":
        path.mkdir(parents=True)
    else:
        (tmp_path / "a").write_text("no folder")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AvatarError, match=r"a/b\.json cannot be written \(.+\)\. Make room or mend the folder"):
        write_whole(path, "x")
    assert sorted(tmp_path.rglob("*")) == before


def test_only_what_the_disk_says_becomes_an_error_of_the_user(tmp_path):
    with pytest.raises(ZeroDivisionError), naming_file(tmp_path):
        _ = 1 / 0
    with pytest.raises(AvatarError, match=r"cannot be written \(without a number\)"), naming_file(tmp_path):
        raise OSError("without a number")
