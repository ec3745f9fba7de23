import pytest

from avatar.benchmarks.rules.mmmu import AV_ODYSSEY_FORMS, MARKS, OMNIBENCH_FORMS, mmmu_choice

OPTIONS = {"A": "red kite", "B": "Drum roll.", "C": "a drum", "D": "rain"}


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("(A) or B ", "A"),  # brackets go before all else
        ("(A) or (C)", "C"),  # the last
        ("(C) or (A)", "A"),
        ("(D) and (D), not (A), (D)", "D"),  # by its last place
        ("B", "B"),  # blanks are put around it
        ("A and C", "C"),
        ("VITAMIN C is not B", "B"),
        ("grade-B it is, or class-D it is", "B"),  # seen as "B " and "D ", placed as " B " nowhere: the first
        ("It is C.", "C"),
        ("It is C. It is B.", "B"),  # "B." and "C." have no place " B " either: the first
        ("C\n", "N/A"),  # no blank behind it
        ("<answer>C</answer>", "N/A"),
        ("it may well be the drum roll. yes", "B"),
        ("it may be a drum roll. no, a drum", "C"),  # of texts, too, the last
        ("a drum it is", "N/A"),  # four words
        ("what you can hear is a drum", "C"),
        ("", "N/A"),
    ],
)
def test_forms_go_one_before_the_other_and_the_last_of_one_form_counts(reply, letter):
    assert mmmu_choice(reply, OPTIONS, OMNIBENCH_FORMS, "N/A") == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("D", "D"),
        ("Dogs", "D"),  # in any word
        ("C, not B", "B"),  # of several, the first in the alphabet
        ("B or (C)", "C"),  # but for brackets
        ("(B) or (C)", "C"),
        ("no idea", "A"),
        ("", "A"),
        ("i think it is the rain", "D"),
        ("what i hear is a low drum roll.", "A"),  # the full stop is taken off, so that the text is not there whole
    ],
)
def test_a_bare_letter_anywhere_may_do_and_a_default_may_be_an_option(reply, letter):
    assert mmmu_choice(reply, OPTIONS, AV_ODYSSEY_FORMS, "A", MARKS) == letter


def test_marks_are_taken_off_in_their_order_and_only_once():
    assert mmmu_choice("C!?", {"C": "x"}, (("{} ", "{} "),), strip="?!") == "C"
    assert mmmu_choice("C!?", {"C": "x"}, (("{} ", "{} "),), strip="!?") == ""  # the ! stays


def test_a_reply_of_six_words_is_long_enough_for_texts():
    assert mmmu_choice("now that is the rain", OPTIONS, ()) == ""
    assert mmmu_choice("now that is the rain again", OPTIONS, ()) == "D"
