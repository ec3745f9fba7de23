"""What source formats have in common: options, types, answers and files are read as they stand, or not at all."""

from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.data.pack import Embedded
from avatar.data.pack.shapes import (
    EXTENSIONS,
    Fields,
    answer_in,
    check_chain,
    files_of,
    kind_of,
    option_texts,
    options_in,
    payload_of,
    problem_type,
    strip_letters,
)
from avatar.errors import DataError


@pytest.mark.parametrize("form", ["{}. {}", "{}) {}", "({}) {}", "{}: {}", " {}.{}"])
def test_letters_are_taken_off_where_every_option_bears_its_own(form):
    texts = ["red", "green one", "A. blue"]
    assert strip_letters([form.format(letter, text) for letter, text in zip("ABC", texts, strict=True)]) == texts


@pytest.mark.parametrize(
    "options",
    [
        ["A. red", "green"],
        ["B. red", "A. green"],
        ["A", "B"],
        ["A.", "B."],
        ["Apple", "Bee"],
        [*(f"{c}. x" for c in ascii_uppercase), "y"],
    ],
)
def test_else_options_stay_as_they_are(options):
    assert strip_letters(options) == options


@given(st.lists(st.text(), max_size=30))
def test_options_come_out_in_their_order_whatever_they_are(options):
    assert len(strip_letters(options)) == len(options)


def test_options_may_be_labelled():
    labelled = [{"label": "A", "text": "red"}, {"label": "B", "text": "green"}]
    assert option_texts(labelled) == option_texts({"A": "red", "B": "green"}) == ["red", "green"]
    assert option_texts([1, 2.5]) == ["1", "2.5"]
    assert option_texts(None) == option_texts([]) == []
    with pytest.raises(DataError, match="labelled A, B, C"):
        option_texts(labelled[::-1])
    with pytest.raises(DataError, match="must be a list"):
        option_texts("A. red B. green")
    with pytest.raises(DataError, match="must hold texts, got True"):
        option_texts(["A. red", True])


def test_options_are_found_in_a_question():
    assert options_in("What?\nOptions:\nA. red\nB) green\n\n(C) blue") == ["red", "green", "blue"]
    assert options_in("A. red") == []  # one is no choice
    assert options_in("Person A. Smith waits") == []
    assert options_in("A. red\nB. green\nAnd:\nA. one\nB. two") == []  # which of them?


def test_problem_types_are_known_by_the_names_of_others():
    names = {
        "multiple choice": "choice", "multiple_choice": "choice", "Multiple-Choice": "choice",
        "numerical": "number", "regression": "number", "OCR": "ocr", "text_recognition": "ocr",
        "free-form": "free", "open-ended": "free", "exact": "exact", "code": "exact",
        "location": "location", "Localization": "location",
    }  # fmt: skip
    assert {name: problem_type(name, []) for name in names} == names
    assert (problem_type(None, ["x", "y"]), problem_type(None, [])) == ("choice", "exact")
    with pytest.raises(DataError, match="'temporal retrieval' is none of"):
        problem_type("temporal retrieval", [])


def test_an_answer_is_read_from_its_tags_and_never_guessed():
    assert answer_in("<answer> B </answer>", "solution") == "B"
    assert answer_in("<think>C?</think><answer>B</answer>", "solution") == "B"
    assert answer_in("two cats", "answer") == "two cats"
    assert (answer_in(3, "answer"), answer_in(2.5, "answer")) == ("3", "2.5")
    assert answer_in(None, "answer") is None
    assert answer_in("<answer>B", "answer") is None  # cut off
    for wrong in (True, ["A", "B"], {"a": 1}):
        with pytest.raises(DataError, match="must be text or a number"):
            answer_in(wrong, "answer")
    with pytest.raises(DataError, match="2 answers that differ"):
        answer_in("<answer>A</answer><answer>B</answer>", "solution")


def test_a_completion_tells_its_answer_by_tags_alone():
    assert payload_of("<think>hm</think><answer>B</answer>") == "B"
    assert payload_of("the answer is B") is None
    assert payload_of("<answer>A</answer> or <answer>B</answer>") is None
    assert payload_of(None) is None


def test_a_completion_at_odds_with_the_gold_answer_is_refused():
    chain = "<think>hm</think><answer>{}</answer>"
    check_chain(chain.format("red"), "A", "choice", ["red", "green"])  # the same option by its text
    check_chain(chain.format("2.0"), "2", "number", [])
    check_chain(chain.format("anything"), "some text", "free", [])  # other words may say the same
    check_chain("no tags", "A", "choice", ["red", "green"])
    for told, gold, kind, options in (
        ("B", "A", "choice", ["red", "green"]),
        ("3", "2", "number", []),
        ("no", "yes", "exact", []),
    ):
        with pytest.raises(DataError, match="which is right"):
            check_chain(chain.format(told), gold, kind, options)


def test_files_are_paths_or_bytes_alone_or_in_lists():
    assert list(files_of(["a.mp4", {"path": "b.mp4"}, {"path": "c.mp4", "bytes": None}], "videos")) == [
        "a.mp4",
        "b.mp4",
        "c.mp4",
    ]
    assert list(files_of([{"path": "c.mp4", "bytes": b"x"}, b"y"], "videos")) == [
        Embedded(b"x", "c.mp4"),
        Embedded(b"y"),
    ]
    assert list(files_of(None, "videos")) == []
    for wrong in (5, "", {"url": "x"}, {"path": None}, [True]):
        with pytest.raises(DataError, match="'videos' must name a file"):
            list(files_of(wrong, "videos"))
    with pytest.raises(DataError, match="holds a file as text"):
        list(files_of({"path": "a.mp4", "bytes": "AAAA"}, "videos"))


def test_a_kind_is_told_by_the_extension():
    assert [kind_of(f"x.{EXTENSIONS[kind][0].upper()}") for kind in EXTENSIONS] == list(EXTENSIONS)
    with pytest.raises(DataError, match="no video, image or audio by its extension"):
        kind_of("features.npy")


def test_what_is_left_over_becomes_metadata_if_it_is_json():
    row = {
        "id": 7,
        "hint": "look",
        "audio_cues": "a beep",
        "source": "web",
        "score": 0.5,
        "raw": b"x",
        "bad": float("nan"),
        "none": None,
    }
    fields = Fields(row)
    assert fields.key() == "7"
    assert fields.common() == {"hint": "look", "audio_caption": "a beep", "metadata": {"source": "web", "score": 0.5}}
    assert Fields({"metadata": {"kind": "more"}, "x": 1}).common() == {"metadata": {"kind": "more", "x": 1}}
    assert Fields({"id": True}).key() is Fields({}).key() is None
    with pytest.raises(DataError, match="'hint' must be text"):
        Fields({"hint": 5}).common()
