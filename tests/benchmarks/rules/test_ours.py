import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.answers import parse_answer
from avatar.benchmarks.grades import Grade
from avatar.benchmarks.rules.ours import gold_letter, grade_answer

quick = settings(max_examples=100, deadline=None)
PETS = ("dog", "cat", "cow")


@pytest.mark.parametrize(
    ("output", "problem_type", "gold", "options", "grade"),
    [
        ("<answer>B</answer>", "choice", "B", PETS, Grade(1.0, "cat", "strict")),
        ("It is the cat.", "choice", "B", PETS, Grade(1.0, "cat", "lenient")),
        ("C", "choice", "B", PETS, Grade(0.0, "cow", "strict")),
        ("a cat or a cow", "choice", "B", PETS, Grade(0.0, "", "unparsed")),
        ("cat", "choice", "cat", PETS, Grade(1.0, "cat", "strict")),  # gold by its text
        ("A, C", "choices", "A,B", PETS, Grade(0.5, "A,C", "strict")),  # 2 * 1 / (2 + 2)
        ("3.0", "number", "3", (), Grade(1.0, "3", "strict")),
        ("about 1234567", "number", 1234567, (), Grade(1.0, "1234567", "lenient")),
        ("0.1", "number", "0.2", (), Grade(0.0, "0.1", "strict")),
        ("Mind gap", "ocr", "Mind the gap", (), Grade(pytest.approx(2 / 3), "Mind gap", "strict")),
        ("The Answer.", "exact", "the answer", (), Grade(1.0, "the answer", "strict")),
        ("", "exact", "x", (), Grade(0.0, "", "unparsed")),
    ],
)
def test_score_and_what_was_read_are_those_of_the_one_parser(output, problem_type, gold, options, grade):
    assert grade_answer(output, problem_type, gold, options) == grade


@pytest.mark.parametrize(
    "options",
    [
        ("B", "A", "D"),  # letters themselves
        ("A", "A", "B"),
        ("dog", "dog", "cat"),
        ("", "", "."),
        ("dog", "A. dog", "b"),
        ("<answer>", "</answer>", "<think>x"),
        ("(B)", "not A", "A or B"),
        ("two\nlines", "a\u2028b", "  "),
        tuple(f"option {i}" for i in range(30)),
    ],
)
@pytest.mark.parametrize("gold", "ABC")
def test_a_gold_letter_is_the_option_of_that_letter_whatever_the_options_say(options, gold):
    for output in ("A", "B", "C", "nothing of the kind"):
        said = parse_answer(output, "choice", options).value
        assert grade_answer(output, "choice", gold, options).score == float(said == "ABC".index(gold))


@given(options=st.lists(st.text(), min_size=1, max_size=26), data=st.data(), output=st.text())
@quick
def test_no_option_makes_a_gold_letter_unreadable(options, data, output):
    gold = data.draw(st.integers(0, len(options) - 1))
    grade = grade_answer(output, "choice", chr(ord("A") + gold), options)
    assert grade.score in (0.0, 1.0)
    assert grade.score == 0.0 or grade.parsed == options[gold]


@pytest.mark.parametrize("gold", ["D", "horse", "", "A or B"])
def test_a_gold_answer_that_is_no_option_is_an_error_and_not_a_wrong_answer(gold):
    with pytest.raises(ValueError, match="gold answer"):
        grade_answer("A", "choice", gold, PETS)


@pytest.mark.parametrize(("gold", "letter"), [("B", "B"), ("(c)", "C"), ("Cow", "C"), ("A. dog", "A")])
def test_a_gold_answer_names_its_option_by_letter_or_by_text(gold, letter):
    assert gold_letter(gold, PETS) == letter


@pytest.mark.parametrize("gold", ["D", "horse", "A. cat", "dog and cat"])
def test_a_gold_answer_that_names_no_option_or_two_is_refused(gold):
    with pytest.raises(ValueError, match="gold answer"):
        gold_letter(gold, PETS)
