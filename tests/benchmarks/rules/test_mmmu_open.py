import pytest

from avatar.benchmarks.rules.mmmu_open import key_phrases, normalized, open_match


@pytest.mark.parametrize(
    ("reply", "gold", "right"),
    [
        ("12.97 g", "12.97", True),
        ("12.966", "12.97", True),  # to two decimals
        ("12.964", "12.97", False),
        ("about 13", "12.97", False),
        ("$7,243,000", "7243000", True),
        ("1.2e3 W", "1,200", True),
        ("2 or 4", "4", True),  # one of several numbers
        ("four", "4", False),  # words are not read
        ("44", "4", False),
        ("so x = 4", "4", True),
        ("The answer is acute pain.", "Pain", True),  # a part of a longer phrase
        ("pain", "acute pain", False),
        ("<answer>pain</answer>", "pain", True),
        ("It is A", "A", True),
        ("Anything", "A", False),  # a single letter wants a blank beside it
        ("five", ["4", "five"], True),
        ("-3", "3", False),
    ],
)
def test_a_phrase_that_holds_the_answer_or_a_number_that_is_it_counts(reply, gold, right):
    assert open_match(reply, gold) == right


def test_what_counts_is_what_follows_the_last_cue_of_each_line():
    assert key_phrases("The sum is 3.\nSo the total is 4 apples.") == ["3.", "4 apples"]
    assert key_phrases("x = 3\ny = 4") == ["4"]  # of the last line alone
    assert key_phrases("No cue here.") == ["no cue here"]
    assert key_phrases("the answer is :") == ["the answer is :"]  # a mark is no answer
    assert key_phrases("Cats are dogs, so are pigs") == ["pigs"]  # of several cues the shortest


def test_numbers_and_texts_are_brought_to_one_form():
    assert normalized(" 1,234.567 ") == [1234.57]
    assert normalized("Red Cat") == ["red cat"]
    assert normalized("B") == [" b", "b "]
