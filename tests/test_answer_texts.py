"""Answers that are texts: what is read or told as it stands, and who is where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.answers import UNPARSED, gold_answer, normalize, parse_answer
from avatar.errors import AvatarError

names = st.text(st.characters(exclude_characters="|:<>"), max_size=8).filter(normalize)


@pytest.mark.parametrize("problem_type", ["ocr", "free"])
def test_what_is_alike_is_read_as_it_stands(problem_type):
    assert parse_answer("<think>x</think><answer> Stop, B. 3 </answer>", problem_type).value == "Stop, B. 3"
    assert parse_answer("<answer>Stop, B. 3</answer>", problem_type).how == "strict"
    assert gold_answer("Stop, B. 3", problem_type) == "Stop, B. 3"
    for text in ("", "<answer></answer>", "<answer>one</answer><answer>two</answer>", "<think>Stop, B. 3"):
        assert parse_answer(text, problem_type) == UNPARSED


@pytest.mark.parametrize("problem_type", ["ocr", "free", "exact", "number", "choice", "location"])
@pytest.mark.parametrize(
    "text",
    [
        "<answer>{wrong}<answer>{gold}</answer></answer>",
        "<answer>{gold}<think>or</think>\n<answer>{wrong}</answer>",
        "<answer>{wrong} <ANSWER>{gold}</answer>",
        "<answer>{wrong}</think>{gold}</answer>",
        "<answer>{gold}<think></answer>",
        "<answer>{gold}<answer ></answer>",
    ],
)
def test_a_payload_with_another_tag_in_it_hedges_and_is_not_read(problem_type, text):
    wrong, gold = {"number": "4 3", "choice": "A B", "location": "left:a left:b"}.get(problem_type, "cat dog").split()
    options = ("red", "blue") if problem_type == "choice" else ()
    assert parse_answer(text.format(wrong=wrong, gold=gold), problem_type, options) == UNPARSED
    assert parse_answer(f"<answer>{gold}</answer>", problem_type, options).parsed


def test_signs_may_be_read_but_do_not_tell_anything():
    assert parse_answer("<answer>?!</answer>", "ocr").value == "?!"
    assert parse_answer("<answer>...</answer>", "ocr") == UNPARSED
    assert parse_answer("<answer>?!</answer>", "free") == UNPARSED


@pytest.mark.parametrize("problem_type", ["exact", "ocr", "free", "location"])
@pytest.mark.parametrize("answer", ["", "  ", "<answer>a: x</answer><answer>b: x</answer>"])
def test_a_gold_text_of_nothing_or_of_two_is_refused(answer, problem_type):
    with pytest.raises(ValueError, match=f"is no {problem_type} answer"):
        gold_answer(answer, problem_type)


def test_an_unknown_type_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown problem_type 'mcq'; known: choice, number, exact, ocr, free, loc"):
        parse_answer("a", "mcq")
    assert not issubclass(ValueError, AvatarError)


@pytest.mark.parametrize(
    "text",
    [
        "Left: cyclist | Center: girl playing flute",
        "center:girl playing flute|left:cyclist",
        " CENTER : Girl  playing\nflute. | Left: 'cyclist'",
        "<think>Left: dog</think><answer>Left: cyclist | Center: girl playing flute</answer>",
    ],
)
def test_places_are_read_in_any_order_and_spelling(text):
    answer = parse_answer(text, "location")
    assert (answer.value, answer.how) == ("center: girl playing flute | left: cyclist", "strict")
    assert gold_answer("Left: cyclist | Center: girl playing flute", "location") == answer.value


def test_what_is_there_may_hold_a_time_and_one_place_is_enough():
    assert parse_answer("Left: clock at 3:15", "location").value == "left: clock at 3:15"


@pytest.mark.parametrize(
    "text",
    [
        "cyclist",
        "Left cyclist | Right: dog",
        "Left: cyclist | left: dog",  # which of them?
        "Left: cyclist | LEFT : cyclist",
        "Left: | Right: dog",
        "Left: ... | Right: dog",
        ": cyclist",
        "Left: cyclist |",
        "Left: cyclist | Center: girl or Center: dog | Right: man",
        "Left: cyclist Right: dog",
        "Left: 3: 15",
        "Left: cyclist || Right: dog",
        "Left: a | Right: b <answer>Left: c</answer> <answer>Left: d</answer>",
        "<answer>Left: cyclist",
    ],
)
def test_a_place_named_twice_or_an_empty_side_is_no_answer(text):
    assert parse_answer(text, "location") == UNPARSED


@given(st.dictionaries(names.map(normalize), names, min_size=1, max_size=4), st.randoms())
def test_places_that_are_read_read_the_same_again_in_any_order(sides, random):
    order = list(sides.items())
    random.shuffle(order)
    read = parse_answer(" | ".join(f"{place}: {thing}" for place, thing in order), "location").value
    assert read == " | ".join(f"{place}: {normalize(thing)}" for place, thing in sorted(sides.items()))
    assert parse_answer(read, "location").value == read
