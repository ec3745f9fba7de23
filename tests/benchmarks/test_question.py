import json
from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.benchmarks import BENCHMARKS, find_benchmark
from avatar.benchmarks.exams.replies import question_row
from avatar.benchmarks.question import Question, letter_of, option_texts
from avatar.data.schema import Medium
from avatar.errors import DataError

quick = settings(max_examples=100, deadline=None)
FORMS = ["{}. {}", "({}) {}", "{}: {}", "{}) {}", " {} . {} "]


@pytest.mark.parametrize("form", FORMS)
@given(texts=st.lists(st.text(), min_size=1, max_size=26))
@quick
def test_letters_put_before_options_come_off_again(form, texts):
    lettered = [form.format(letter, text) for letter, text in zip(ascii_uppercase, texts, strict=False)]
    assert option_texts(lettered) == tuple(text.strip() for text in texts)


@pytest.mark.parametrize(
    "options",
    [
        ("A. dog", "cat"),  # one has none
        ("A. dog", "C. cat"),  # not in order
        ("B. dog", "A. cat"),
        ("a. dog", "b. cat"),
        ("A dog", "B cat"),  # no mark behind the letter
        ("A", "B"),
        ("Anna: hello", "Ben: hi"),
        (),
        (*(f"{letter}. x" for letter in ascii_uppercase), "[. x"),  # more than there are letters
    ],
)
def test_options_that_are_not_lettered_throughout_and_in_order_stay_as_they_are(options):
    assert option_texts(options) == options
    assert Question("q", "?", "A", options=options).texts == options


def test_what_follows_a_letter_may_itself_look_lettered():
    assert option_texts(["A. B. cat", "B. (A) dog"]) == ("B. cat", "(A) dog")


def test_there_are_26_letters():
    assert [letter_of(i) for i in (0, 1, 25)] == ["A", "B", "Z"]
    with pytest.raises(IndexError):
        letter_of(26)


def test_a_clip_is_named_by_its_files_in_any_order_each_once():
    one, two = Medium("video", "b.mp4", 0.0, 2.0), Medium("audio", "a.wav")
    assert Question("q", "?", "A", media=(one, two)).clip == Question("r", "?", "B", media=(two, one, one)).clip
    assert Question("q", "?", "A", media=(one,)).clip != Question("q", "?", "A", media=(two,)).clip


def test_a_question_without_media_is_a_clip_of_its_own_unless_it_says_what_is_shown():
    assert Question("q", "?", "A").clip == "q"
    assert Question("q", "?", "A", shown="film 3", media=(Medium("video", "b.mp4"),)).clip == "film 3"


labels = st.one_of(st.text(), st.lists(st.text(), max_size=3).map(tuple))


@given(
    key=st.text(min_size=1),
    options=st.lists(st.text(), min_size=1, max_size=5).map(tuple),
    groups=st.dictionaries(st.text(), labels, max_size=3),
    shown=st.text(min_size=1),
)
@quick
def test_a_row_gives_back_all_of_its_question_that_grading_needs(key, options, groups, shown):
    question = Question(key, "why?", "B", "choices", options, qtype="mood", groups=groups, ident="7", shown=shown)
    row = json.loads(json.dumps(question_row(question)))
    assert BENCHMARKS["jsonl"]().question_of_row(row) == question


def test_options_of_a_row_go_by_their_letters_and_not_by_their_order():
    benchmark = find_benchmark("video_holmes")()
    row = {"gold": "A", "options": {"B": "cat", "A": "dog"}}
    assert benchmark.question_of_row(row).options == ("dog", "cat")
    with pytest.raises(DataError, match="must have the keys A, B, C"):
        benchmark.question_of_row({"gold": "A", "options": {"A": "dog", "C": "cat"}})
