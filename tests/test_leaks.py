"""What counts as telling the answer: a table for people, and properties for all the ways to write the same thing."""

# ruff: noqa: RUF001

import string
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avatar.data.leaks import leaks
from avatar.data.words import count, ordinal, plain, spelt, words

PETS = ["dog", "cat", "a hot bath", "bird"]
YES = ["yes", "no"]
LEFT = "Left: cyclist | Center: girl playing flute"
TELLS = [
    # numbers
    ("count the 5 beeps", "5", "number"),
    ("there are five of them", "5", "number"),
    ("there are FIVE!", "5", "number"),
    ("there are f i v e", "5", "number"),
    ("there are f-i-v.e", "5", "number"),
    ("there are fi\u200bve", "5", "number"),
    ("there are ｆｉｖｅ", "5", "number"),
    ("there are 𝟓", "5", "number"),
    ("there are ５", "5", "number"),
    ("there are ⑤", "5", "number"),
    ("there are Ⅴ", "5", "number"),
    ("there are ٥", "5", "number"),
    ("一共有五次", "5", "number"),
    ("there are fíve", "5", "number"),
    ("5beeps", "5", "number"),
    ("a fivefold beep", "5", "number"),
    ("until the fifth beep", "5", "number"),
    ("until the 5th beep", "5", "number"),
    ("beeps: 05", "5", "number"),
    ("beeps: 5.0", "5", "number"),
    ("it is 5", "five", "number"),
    ("1 2 of them", "12", "number"),
    ("a dozen", "12", "number"),
    ("half a dozen", "6", "number"),
    ("two of them", "2", "number"),
    ("it beeps twice", "2", "number"),
    ("a single beep", "1", "number"),
    ("there is none", "0", "number"),
    ("twenty-one", "21", "number"),
    ("one hundred and five", "105", "number"),
    ("a hundred five", "105", "number"),
    ("1,000 people", "1000", "number"),
    ("a thousand people", "1000", "number"),
    ("nineteen eighty four", "1984", "number"),
    ("two and a half", "2.5", "number"),
    ("two point five", "2.5", "number"),
    ("2.50 s", "2.5", "number"),
    ("half of it", "0.5", "number"),
    ("minus three", "-3", "number"),
    # texts
    ("it is GREEN.", "green", "exact"),
    ("look for the greens", "green", "exact"),
    ("g r e e n", "green", "exact"),
    ("look at the flute", "The flute", "exact"),
    ("read the 24-hour sign", "24 hour", "ocr"),
    ("it says stop24hours", "STOP 24 HOURS", "ocr"),
    ("find five people", "5 people", "free"),
    ("watch as she plays the wooden flute", "A girl plays the wooden flute in a park", "free"),
    ("look for ++", "++", "exact"),
    ("找到弹吉他的人", "弹吉他", "free"),
    ("find the cyclist", LEFT, "location"),
    ("where is the girl playing flute ?", LEFT, "location"),
]
TELLS_NOTHING = [
    ("locate the sounding object first, then count", "1", "number"),
    ("listen often, and weight what is done", "10", "number"),  # ten, eight, one lie in the words
    ("if I venture a guess, look again", "5", "number"),  # five lies across them
    ("compare the first second with the rest", "2", "number"),
    ("count the 15 beeps", "5", "number"),
    ("there are 50", "5", "number"),
    ("watch the greenery", "green", "exact"),
    ("watch who plays the flute", "A girl plays the wooden flute in a park", "free"),
    ("first locate who makes the sound on each side", LEFT, "location"),
]
CHOICE_TELLS = [
    ("it is the dog", "A", PETS),
    ("it is the dog", "dog", PETS),
    ("look at the hot bath", "C", PETS),
    ("option B", "B", PETS),
    ("it is b", "B", PETS),
    ("choose B.", "B", PETS),
    ("choose (b)", "B", PETS),
    ("choose Ｂ", "B", PETS),
    ("option A fits", "A", PETS),
    ("the answer is a", "A", PETS),
    ("A) fits", "A", PETS),
    ("A or B", "A", PETS),
    ("B or A", "A", PETS),
    ("option 2", "B", PETS),
    ("option two", "B", PETS),
    ("the second option", "B", PETS),
    ("the last option", "D", PETS),
    ("neither A, C nor D", "B", PETS),
    ("no dog, no cat and no hot bath", "D", PETS),
    ("dog, cat, hot bath or bird: it is the dog", "A", PETS),
    ("it is not no", "yes", YES),
    ("three of them", "3", ["2", "3"]),
    ("3 of them", "three", ["two", "three"]),
]
CHOICE_TELLS_NOTHING = [
    ("compare A, B, C and D by their sound", "B", PETS),
    ("is it a dog, a cat, a hot bath or a bird that is heard", "B", PETS),
    ("a sound comes first, e.g. a bark", "A", PETS),
    ("A sound comes first; I'd listen", "A", PETS),
    ("it's the one that's heard, the bird's or another", "B", PETS),
    ("the bird and the dog are alike", "B", PETS),
]


@pytest.mark.parametrize(("hint", "answer", "kind"), TELLS)
def test_a_hint_that_says_the_answer_leaks(hint, answer, kind):
    assert leaks(hint, answer, kind)


@pytest.mark.parametrize(("hint", "answer", "kind"), TELLS_NOTHING)
def test_a_hint_of_strategy_does_not(hint, answer, kind):
    assert leaks(hint, answer, kind) is None


@pytest.mark.parametrize(("hint", "answer", "options"), CHOICE_TELLS)
def test_a_hint_that_singles_out_the_right_option_leaks(hint, answer, options):
    assert leaks(hint, answer, "choice", options)


@pytest.mark.parametrize(("hint", "answer", "options"), CHOICE_TELLS_NOTHING)
def test_options_named_alike_or_not_at_all_tell_nothing(hint, answer, options):
    assert leaks(hint, answer, "choice", options) is None


def test_numbers_are_spelt_as_people_do():
    assert spelt(21) == ["twenty one"]
    assert spelt(105) == ["one hundred five", "one hundred and five", "a hundred five", "a hundred and five"]
    assert spelt(1_000_000) == ["one million", "a million"]
    assert spelt(2_345)[0] == "two thousand three hundred forty five"
    assert "nineteen eighty four" in spelt(1984)
    assert [ordinal(n) for n in (1, 4, 12, 20, 23)] == ["first", "fourth", "twelfth", "twentieth", "twenty third"]


@given(st.integers(0, 10**9))
def test_no_two_numbers_are_spelt_alike(number):
    for other in {number + 1, number * 10, number // 10, number % 1000} - {number}:
        assert not set(spelt(number)) & set(spelt(other))


# -- however it is written ---------------------------------------------------------------------------------------------

WIDE = {ord(c): ord(c) + 0xFEE0 for c in string.ascii_letters + string.digits}
TRICKS = {
    "as it is": lambda s: s,
    "capitals": str.upper,
    "full width": lambda s: s.translate(WIDE),
    "spaced": " ".join,
    "dashed": "-".join,
    "dotted": ".".join,
    "underlined": "_".join,
    "zero width": "\u200b".join,
    "joined unseen": "\u2060".join,
    "soft hyphens": "\u00ad".join,
    "no-break spaces": "\u00a0".join,
    "accents": lambda s: "".join(c + "\u0301" for c in s),
    "lines": "\n".join,
    "quoted": lambda s: f"«{s}»",
    "bold": lambda s: f"**{s}**",
}
FRAMES = ("{}", "look for {} first", "it is {}.", "({})", "so: {}!", "then,{},then")


def disguises(text: str) -> Iterator[str]:
    return (frame.format(trick(text)) for trick in TRICKS.values() for frame in FRAMES)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
@example(0)
@example(1)
def test_a_number_leaks_in_digits_and_words_however_they_are_written(number):
    for said in (str(number), f"{number:,}", *spelt(number)):
        for hint in disguises(said):
            assert leaks(hint, str(number), "number"), hint


TEXT = st.text(string.ascii_letters + "äßçñéüøЖд中文ノ한글", min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXT, min_size=1, max_size=4), st.sampled_from(["exact", "ocr", "free"]))
def test_a_text_leaks_however_it_is_written(parts, kind):
    answer = " ".join(parts)
    for hint in disguises(answer):
        assert leaks(hint, answer, kind), hint


@given(st.lists(TEXT, min_size=5, max_size=9), st.data())
def test_four_words_in_a_row_of_a_longer_answer_leak(parts, data):
    start = data.draw(st.integers(0, len(parts) - 4))
    run = " ".join(parts[start : start + 4])
    assert leaks(f"look: {run}", " ".join(parts), "free")


@settings(deadline=None)
@given(st.lists(TEXT, min_size=2, max_size=6, unique_by=lambda s: "".join(words(s))), st.data())
def test_an_option_leaks_by_its_text_unless_all_are_named(options, data):
    gold = data.draw(st.sampled_from(options))
    joined = {"".join(words(option)) for option in options}
    if any(a != b and a in b for a in joined for b in joined) or any(len(w) < 3 for w in joined):
        return  # one option within another is named along with it
    for hint in disguises(gold):
        assert leaks(hint, gold, "choice", options), hint
    assert leaks(f"is it {', '.join(options)} ?", gold, "choice", options) is None


@given(st.text(max_size=60), st.text(max_size=20), st.sampled_from(["number", "choice", "exact", "free", "location"]))
def test_nothing_that_can_be_written_breaks_it(hint, answer, kind):
    found = leaks(hint, answer, kind, [answer, "b"] if kind == "choice" else [])
    assert found is None or found


@given(st.text(max_size=40))
def test_plain_text_stays_plain(text):
    assert words(plain(text)) == words(text)


def test_words_are_found_whole_or_cut_and_never_inside_another():
    assert count(words("t en and t-e-n, tens, but not listen or ten sely"), ["ten"]) == 4  # "ten sely" has it too
    assert count(words("often"), ["ten"]) == 0
    assert count(words("anything"), []) == 0
