import time

import pytest

from avatar.benchmarks.rules.authors import authors_answer, grade_authors


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<answer>B</answer>", "B"),
        ("<answer>\n b </answer>", "b"),  # stripped, and left in small letters
        ("<answer>B. a dog</answer>", "B. a dog"),  # as it stands
        ("<answer>A</answer> or <answer>B</answer>", "A"),  # the first
        ("A, then assistant\n<think>C</think><answer>B</answer>", "B"),
        ("<answer>B</answer> assistant\nC", "B"),  # tags count before the turn, too
        ("A assistant\nB", "B"),
        ("C assistant\nnot one", ""),  # letters only after it
        ("A or B", "B"),  # the last
        ("B I think", "I"),  # any letter
        ("None of them", "N"),  # no letter alone: the first capital
        ("<answer>B", "B"),  # an open tag is no tag
        ("<ANSWER>B</ANSWER> or C", "C"),
        ("是B。", "B"),  # letters before it: it does not stand alone
        ("no idea", ""),
        ("<answer> </answer> B", ""),
        ("", ""),
    ],
)
def test_the_first_payload_goes_before_the_last_letter_before_the_first_capital(reply, answer):
    assert authors_answer(reply) == answer


def test_where_nothing_is_found_the_fallback_takes_the_first_letter_of_any_case():
    assert authors_answer("no idea", fallback="A-D") == "D"
    assert authors_answer("no one", fallback="A-D") == ""
    assert authors_answer("no one", fallback="A-E") == "E"
    assert authors_answer("None", fallback="A-E") == "N"  # there is something
    assert authors_answer("<answer></answer>", fallback="A-D") == "A"  # that of the tag
    assert authors_answer("d assistant\n", fallback="A-D") == "D"  # in all of the text


def test_letters_may_be_fewer_and_tags_ignored():
    assert authors_answer("B I think", letters="A-D", tags=False) == "B"
    assert authors_answer("<answer>b</answer>", letters="A-D", tags=False) == ""
    assert authors_answer("<answer>A</answer> <answer>B</answer>", letters="A-D", tags=False) == "B"


def test_the_answer_is_compared_as_it_stands_unless_folded():
    assert grade_authors("<answer>b</answer>", "B").score == 0
    assert grade_authors("<answer>b</answer>", "B", fold=True).score == 1
    assert grade_authors("<answer>B. dog</answer>", "B", fold=True).score == 0
    assert grade_authors("B", "b").score == 1  # the gold answer is always in capitals
    assert (grade_authors("no", "B").score, grade_authors("no", "B").how) == (0, "unparsed")


@pytest.mark.parametrize("reply", ["<answer>" * 50_000, "<answer>" + " " * 400_000, " " * 400_000, "B" * 400_000])
def test_time_grows_with_the_length_of_the_reply_only(reply):
    start = time.perf_counter()
    authors_answer(reply, fallback="Q")
    assert time.perf_counter() - start < 1
