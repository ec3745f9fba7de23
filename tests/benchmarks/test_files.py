import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.benchmarks.files import (
    FileBenchmark,
    check_inside,
    first_there,
    read_json,
    read_json_lines,
    take,
    to_record,
)
from avatar.benchmarks.question import Question
from avatar.benchmarks.recipe import Recipe
from avatar.data.schema import Medium
from avatar.errors import DataError

BOM = b"\xef\xbb\xbf"


class Pets(FileBenchmark):
    """Whatever questions it is given."""

    title, source, num_records, media_kinds = "Pets", "pets.example", 2, ("video",)
    default_root, annotation = "data/benchmarks/pets", ("data/*.json", "pets.json")

    def __init__(self, *questions):
        self.given = list(questions)

    def questions(self, root):
        self.annotation_files(root)
        return self.given


def about(key, *names, kind="video"):
    return Question(key, f"What is in {key}?", "A", media=tuple(Medium(kind, name) for name in names))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "pets.json").write_text("[]")
    return tmp_path


# -- reading -----------------------------------------------------------------------------------------------------------

rows = st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3), max_size=4)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n \t\r\n"])
@pytest.mark.parametrize("bom", [b"", BOM])
@given(rows=rows)
@settings(max_examples=20, deadline=None)
def test_lines_are_read_whatever_ends_them_and_whatever_stands_in_their_texts(tmp_path_factory, end, bom, rows):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes(bom + end.join(lines).encode())
    assert [row for _, row in read_json_lines(path)] == rows


def test_a_line_separator_of_unicode_ends_no_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "x\u2028y\x85z"}\n\n{"a": 2}', encoding="utf-8")
    assert list(read_json_lines(path)) == [(f"{path}:1", {"a": "x\u2028y\x85z"}), (f"{path}:3", {"a": 2})]


def test_a_line_in_another_encoding_or_of_no_object_is_named_and_the_file_s_own_number_alone(tmp_path):
    path = tmp_path / "a.jsonl"
    cases = {
        b'{"a": 1}\n{"a" 2}\n': ":2: .*it is no JSON: Expecting ':' delimiter at character 6",
        b'{"a": 1}\n{"a": "\xe4"}\n': ":2: .*byte 8 of the line is not in UTF-8",
        '{"a": 1}\n'.encode("utf-16"): ":1: .*byte 1 of the line is not in UTF-8",
        b'{"a": 1}\n[{"a": 2}]\n': r":2: .*it is \[\{'a': 2\}\]\. Each line must be one whole object",
        b'[\n{"a": 1}\n]\n': ":1: .*Each line must be one whole object.*no list around",
        b'{\n"a": 1\n}\n': ":1: .*Each line must be one whole object",
    }
    for content, message in cases.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as found:
            list(read_json_lines(path))
        assert "line 1" not in str(found.value)


@pytest.mark.parametrize("content", [b'{"a": 1}\n\n{"a": \n{"a": 2}', b'{"a": 1}\n\n' + b"[" * 100_000])
def test_a_line_that_is_no_json_is_named_by_its_number(tmp_path, content):
    (tmp_path / "a.jsonl").write_bytes(content)
    lines = read_json_lines(tmp_path / "a.jsonl")
    assert next(lines)[1] == {"a": 1}
    with pytest.raises(DataError, match=r"a\.jsonl:3: cannot be read as JSON lines"):
        next(lines)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe{\x00}\x00", b"[" * 100_000])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: cannot be read as JSON"):
        read_json(path)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(BOM + b'{"a": [1]}\r\n')
    assert read_json(tmp_path / "a.json") == {"a": [1]}


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        ({"b": 1, "c": 2}, str, "here: field 'a' is missing; it has b, c"),
        (["a"], str, "here: field 'a' is missing$"),
        (None, str, "here: field 'a' is missing"),
        ({"a": 1}, str, "here: field 'a' has the wrong type int: 1"),
        ({"a": None}, (str, int), "wrong type NoneType"),
        ({"a": True}, int, "wrong type bool: True"),  # no 1
        ({"a": True}, (str, int), "wrong type bool: True"),
    ],
)
def test_a_field_that_is_not_there_or_of_another_kind_is_told(record, kind, message):
    with pytest.raises(DataError, match=message):
        take(record, "a", kind, "here")


def test_a_field_of_the_right_kind_is_taken_as_it_is():
    assert take({"a": True}, "a", bool, "here") is True
    assert take({"a": 0}, "a", (str, int), "here") == 0
    assert take({"a": ""}, "a", str, "here") == ""


def test_a_long_value_is_not_shown_whole():
    with pytest.raises(DataError) as found:
        take({"a": "x" * 10_000}, "a", int, "here")
    assert len(str(found.value)) < 200


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.mp4", "a/../../b.mp4", "a/..", "a\0b"])
def test_a_path_that_leads_out_is_refused(name):
    with pytest.raises(DataError, match="leads out of the benchmark's folder"):
        check_inside(name, "here")


@pytest.mark.parametrize("name", ["a.mp4", "a/b c/..d.mp4", "ü ‧ /x...mp4", "./a.mp4"])
def test_any_other_path_is_taken_as_it_is(name):
    assert check_inside(name, "here") == name


def test_the_first_name_that_is_there_is_taken_and_else_the_first_of_all(tmp_path):
    (tmp_path / "b.mp4").touch()
    (tmp_path / "c.mp4").touch()
    assert first_there(tmp_path, iter(["a.mp4", "b.mp4", "c.mp4"])) == "b.mp4"
    assert first_there(tmp_path, ["a.mp4", "x" * 300, "d.mp4"]) == "a.mp4"


def test_of_the_patterns_the_first_that_is_there_counts_and_all_its_files_in_order(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("data/b.json", "data/a.json", "pets.json"):
        (tmp_path / name).touch()
    assert Pets().annotation_files(tmp_path) == [tmp_path / "data/a.json", tmp_path / "data/b.json"]


def test_where_no_file_matches_the_message_names_patterns_source_and_the_way_out(tmp_path):
    with pytest.raises(DataError, match=r"no data/\*\.json or pets\.json in .* comes from pets\.example.*_root"):
        Pets().annotation_files(tmp_path)


# -- what is asked -----------------------------------------------------------------------------------------------------


def test_media_come_before_the_text_and_options_without_their_letters():
    question = Question("q", "Which?", "A", options=("A. dog", "B. cat"), media=(Medium("image", "a.png"),))
    record = to_record(question)
    assert (record.question, record.options, record.media) == ("Which?", ["dog", "cat"], [Medium("image", "a.png")])
    assert not record.use_audio_in_video
    assert to_record(about("q", "a.mp4")).use_audio_in_video


def test_where_media_stand_within_the_text_they_stay_there_and_options_follow():
    parts = ({"type": "text", "text": "Is"}, {"type": "image"}, {"type": "text", "text": "one?"})
    media = (Medium("image", "a.png"),)
    record = to_record(Question("q", "Is it one?", "A", options=("yes", "no"), media=media, parts=parts))
    assert record.messages == [{"role": "user", "content": [*parts, {"type": "text", "text": "\nA. yes\nB. no"}]}]
    plain = to_record(Question("q", "Is it one?", "yes", "exact", media=media, parts=parts))
    assert plain.messages == [{"role": "user", "content": list(parts)}]


def test_ids_of_any_kind_find_their_question_again(root):
    keys = ["a b/c", "ü‧\u2028", "../../x", "1", "Ω#2", " "]
    benchmark = Pets(*(about(key) for key in keys))
    dataset = benchmark.prompts(root, Recipe())
    assert [entry.key for entry in dataset.indexes[0]] == keys
    assert [benchmark.question_called(key).text for key in keys] == [f"What is in {key}?" for key in keys]
    assert benchmark.question(dataset[2]) == about("../../x")


def test_two_questions_of_one_key_are_refused_and_none_is_lost_unseen(root):
    with pytest.raises(DataError, match="two questions have the key 'a'"):
        Pets(about("a", "1.mp4"), about("b"), about("a", "2.mp4")).prompts(root, Recipe())


# -- media that are not there ------------------------------------------------------------------------------------------


@pytest.fixture
def some(root):
    """Four questions about five films, of which one is there, one is a link to a file, and one leads nowhere."""
    (root / "there.mp4").touch()
    (root / "link.mp4").symlink_to(root / "there.mp4")
    (root / "broken.mp4").symlink_to(root / "blobs" / "gone")
    benchmark = Pets(about("a", "there.mp4"), about("b", "link.mp4", "no.mp4"), about("c", "broken.mp4"), about("d"))
    benchmark.prompts(root, Recipe())
    return benchmark


def test_missing_media_are_named_by_question(some):
    found = some.missing(list("abcd"), Recipe(), allowed=True)
    assert found == {"b": f"no.mp4 is not in {some.home}", "c": f"broken.mp4 is not in {some.home}"}
    assert some.missing(["a", "d"], Recipe(), allowed=False) == {}


def test_missing_media_are_refused_with_their_number_and_the_first(some):
    with pytest.raises(
        DataError,
        match=r"2 of 4 media files are missing in .*, the first is no\.mp4\. They come from "
        r"pets\.example: put them below .*, or count the questions about them as wrong with --allow_missing true$",
    ):
        some.missing(list("abcd"), Recipe(), allowed=False)
    with pytest.raises(DataError, match="all 1 media files"):
        some.missing(["c"], Recipe(), allowed=False)


def test_what_is_not_shown_is_not_missed(root):
    benchmark = Pets(about("a", "no.png", kind="image"), about("b", "no.mp3", kind="audio"))
    for modalities, missed in {"both": "ab", "video": "a", "audio": "b", "none": ""}.items():
        recipe = Recipe(modalities=modalities)
        benchmark.prompts(root, recipe)
        assert list(benchmark.missing(["a", "b"], recipe, allowed=True)) == list(missed)


def test_a_folder_of_frames_is_a_film_and_an_empty_one_is_missing(root):
    for folder in ("full", "empty"):
        Path(root, folder).mkdir()
    (root / "full/0001.jpg").touch()
    benchmark = Pets(about("a", "full"), about("b", "empty"))
    benchmark.prompts(root, Recipe())
    assert list(benchmark.missing(["a", "b"], Recipe(), allowed=True)) == ["b"]
