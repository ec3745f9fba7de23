import pytest

from avatar.benchmarks.rules.characters import first_character


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("C", "C"),
        ("The answer is (C).", "C"),
        ("Answer: C", "C"),  # the phrase goes, and with it its A
        ("Final Answer: C", "C"),  # wherever it stands
        ("Best answer: C", "B"),  # this phrase does not go, for want of a comma
        ("Best option: C", "B"),
        ("Best answer:Best option: C", "C"),  # what the missing comma made of the two
        ("Depending on it, C", "D"),  # words count
        ("c", ""),  # capitals only
        ("E", ""),
        ("none of these", ""),
        ("", ""),
    ],
)
def test_the_first_capital_counts_once_set_phrases_are_gone(reply, letter):
    assert first_character(reply) == letter


def test_letters_and_phrases_may_be_others():
    assert first_character("E or B", "ABCDE") == "E"
    assert first_character("Answer: C", phrases=("The answer is",)) == "A"
