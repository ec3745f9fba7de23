import json
import shutil
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.benchmarks.exams import sheet as module
from avatar.benchmarks.exams.sheet import AnswerSheet, read_predictions
from avatar.errors import DataError

quick = settings(max_examples=50, deadline=None)
BOM = b"\xef\xbb\xbf"
outputs = st.lists(st.text(st.characters()), min_size=1, max_size=4)  # halves of surrogate pairs too


def row(key, output="B", asked="1a"):
    return {"id": key, "output": output, "asked": asked}


def rows_of(outputs):
    return [row(str(i), output) for i, output in enumerate(outputs)]


def asked_of(rows):
    return {row["id"]: row["asked"] for row in rows}


@pytest.fixture
def folder(tmp_path_factory):
    """A new one for each example."""
    return lambda: tmp_path_factory.mktemp("sheet")


# -- what a kill leaves ------------------------------------------------------------------------------------------------


@given(outputs=outputs, data=st.data())
@quick
def test_wherever_the_end_is_cut_off_the_whole_lines_and_no_others_stand(tmp_path_factory, outputs, data):
    rows = rows_of(outputs)
    sheet = AnswerSheet(tmp_path_factory.mktemp("sheet") / "run", "s")
    sheet.add(rows)
    content = sheet.mine.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    sheet.mine.write_bytes(content[:cut])
    # A line that lacks its end of line alone is whole.
    num_whole = content[:cut].count(b"\n") + (content[cut : cut + 1] == b"\n" and cut > 0)
    assert list(sheet.answered(asked_of(rows)).values()) == [{**row, "stamp": "s"} for row in rows[:num_whole]]
    sheet.add(rows[num_whole:])  # the run goes on behind what is left
    assert list(sheet.answered(asked_of(rows))) == list(asked_of(rows))


@pytest.mark.parametrize(
    "torn",
    [b"\0" * 4096, b"\xff\xfe", b"[" * 100_000, b"[1, 2]", b'"text"', b"null", b"{}", b'{"id": ["a"], "stamp": "s"}'],
)
def test_a_line_that_is_no_row_costs_none_of_the_others(tmp_path, torn):
    sheet = AnswerSheet(tmp_path / "run", "s")
    sheet.add([row("a")])
    with sheet.mine.open("ab") as file:
        file.write(torn)
    sheet.add([row("b")])
    assert list(sheet.answered({"a": "1a", "b": "1a", "": ""})) == ["a", "b"]


@pytest.mark.parametrize("output", ["x" * 2**20, "\u2028\u2029\x85\r\n\t\0\x1c", "\ud83d", "</answer>", ""])
def test_a_reply_of_any_kind_is_one_line_and_comes_back_as_it_was(tmp_path, output):
    sheet = AnswerSheet(tmp_path / "run", "s")
    sheet.add([row("a", output), row("b")])
    assert sheet.mine.read_bytes().count(b"\n") == 2
    assert sheet.answered({"a": "1a", "b": "1a"})["a"]["output"] == output
    sheet.finish([row("a", output), row("b")])
    assert [found["output"] for found in read_predictions(sheet.finished)] == [output, "B"]


# -- whose replies they are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "asked"),
    [("other", {"a": "1a"}), ("s", {"a": "2b"}), ("s", {"b": "1a"}), ("s", {})],
    ids=["another model or recipe", "another question of that key", "another key", "nothing"],
)
def test_replies_to_something_else_are_not_taken_over(tmp_path, stamp, asked):
    AnswerSheet(tmp_path / "run", "s").add([row("a")])
    assert AnswerSheet(tmp_path / "run", stamp).answered(asked) == {}
    assert list(AnswerSheet(tmp_path / "run", "s").answered({"a": "1a"})) == ["a"]


def test_a_question_that_could_not_be_asked_is_asked_again(tmp_path):
    sheet = AnswerSheet(tmp_path / "run", "s")
    sheet.finish([row("a"), {"id": "b", "output": None, "missing": "no file"}])
    assert list(sheet.answered({"a": "1a", "b": "1a"})) == ["a"]


def test_of_several_replies_to_a_question_the_first_stands_those_of_a_finished_run_before_all(tmp_path):
    AnswerSheet(tmp_path / "run", "s", rank=1).add([row("a", "rank 1"), row("b", "rank 1")])
    first = AnswerSheet(tmp_path / "run", "s", rank=0)
    first.add([row("a", "rank 0"), row("a", "again")])
    assert {key: found["output"] for key, found in first.answered({"a": "1a", "b": "1a"}).items()} == {
        "a": "rank 0",
        "b": "rank 1",
    }
    shutil.copy(first.mine, tmp_path / "kept")
    first.finish([row("a", "finished")])
    shutil.copy(tmp_path / "kept", first.mine)
    assert first.answered({"a": "1a"})["a"]["output"] == "finished"


def test_a_sheet_whose_name_begins_alike_is_another_one(tmp_path):
    names = ["run", "run-2", "run.partial", "run[1]", "r?n"]
    for name in names:
        AnswerSheet(tmp_path / name, "s").add([row("a", name)])
    for name in names:
        sheet = AnswerSheet(tmp_path / name, "s")
        assert sheet.answered({"a": "1a"})["a"]["output"] == name
        assert sheet.partial() == [sheet.mine]


# -- the end of a run --------------------------------------------------------------------------------------------------


def test_a_finished_run_keeps_the_order_it_is_given_and_leaves_nothing_of_its_processes(tmp_path):
    for rank in range(12):
        AnswerSheet(tmp_path / "run", "s", rank).add([row(str(rank))])
    sheet = AnswerSheet(tmp_path / "run", "s")
    assert len(sheet.partial()) == 12
    sheet.finish([row("2"), row("1") | {"stamp": "another"}])
    assert [path.name for path in tmp_path.iterdir()] == ["run.predictions.jsonl"]
    rows = read_predictions(sheet.finished)
    assert [(found["id"], found["stamp"]) for found in rows] == [("2", "s"), ("1", "s")]


def test_what_is_forgotten_is_asked_anew(tmp_path):
    sheet = AnswerSheet(tmp_path / "run", "s")
    sheet.forget()  # nothing is there yet
    sheet.finish([row("a")])
    sheet.add([row("b")])
    AnswerSheet(tmp_path / "other", "s").add([row("a")])
    sheet.forget()
    assert sheet.answered({"a": "1a", "b": "1a"}) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["other.partial-0.jsonl"]


def test_in_a_folder_that_is_not_there_nothing_was_answered(tmp_path):
    sheet = AnswerSheet(tmp_path / "no/such/run", "s")
    assert (sheet.answered({"a": "1a"}), sheet.partial()) == ({}, [])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_knows_no_locks_gives_a_warning(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    sheet = AnswerSheet(tmp_path / "run", "s")
    with pytest.warns(UserWarning, match=r"cannot be locked \(Operation not supported\): start no second run"):
        sheet.lock()
    sheet.unlock()
    sheet.unlock()


def test_a_lock_goes_with_its_run_and_its_file_stays_out_of_the_way(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            sheet = AnswerSheet(tmp_path / "run", "s")
            sheet.lock()
            assert (sheet.partial(), sheet.answered({"a": "1a"})) == ([], {})
            sheet.unlock()


# -- a file of predictions ---------------------------------------------------------------------------------------------


@given(outputs=outputs, bom=st.booleans(), end=st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
@quick
def test_a_file_that_went_through_another_system_holds_the_same_replies(tmp_path_factory, outputs, bom, end):
    sheet = AnswerSheet(tmp_path_factory.mktemp("sheet") / "run", "s")
    sheet.finish(rows_of(outputs))
    content = sheet.finished.read_bytes()
    sheet.finished.write_bytes(BOM * bom + content.replace(b"\n", end))
    assert [row["output"] for row in read_predictions(sheet.finished)] == outputs


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{", r":2: no file of predictions \("),
        ("[" * 100_000, r":2: no file of predictions \("),
        ("[1]", ":2: no row of predictions: it needs an 'id' and an 'output'"),
        ('{"output": "B"}', ":2: no row"),
        ('{"id": "b"}', ":2: no row"),  # of an 'output' that is null the question was not asked
        ('{"id": ["b"], "output": "B"}', ":2: no row"),
        ('{"id": "b", "output": 3}', ":2: no row"),
        ('{"id": "a", "output": "C"}', ":2: a second reply to 'a'; leave one of the two"),
    ],
)
def test_a_line_that_is_no_reply_is_named_by_its_number(tmp_path, second, message):
    path = tmp_path / "run.predictions.jsonl"
    path.write_text(json.dumps(row("a")) + "\n" + second + "\n")
    with pytest.raises(DataError, match=rf"run\.predictions\.jsonl{message}"):
        read_predictions(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe{\x00}\x00"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "run.predictions.jsonl"
    if content:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"run\.predictions\.jsonl: no file of predictions"):
        read_predictions(path)


def test_a_question_that_was_not_asked_is_a_row_without_output(tmp_path):
    path = tmp_path / "run.predictions.jsonl"
    path.write_text('{"id": "a", "output": null}\n{"id": 2, "output": ""}\n')
    assert [found["output"] for found in read_predictions(path)] == [None, ""]
