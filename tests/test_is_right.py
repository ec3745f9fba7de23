import pytest

from avatar.answers import gold_answer, is_right, parse_answer, same_answer
from avatar.errors import AvatarError, ConfigError


@pytest.mark.parametrize(
    ("text", "answer", "problem_type", "options", "right"),
    [
        ("<think>x</think><answer>2</answer>", "2", "number", (), True),
        ("<answer>two</answer>", "2", "number", (), True),
        ("<answer>2.001</answer>", "2", "number", (), True),  # within a thousandth
        ("<answer>3</answer>", "2", "number", (), False),
        ("<answer>2 or 3</answer>", "2", "number", (), False),
        ("<answer>B</answer>", "blue", "choice", ("red", "blue"), True),
        ("<answer>blue</answer>", "B", "choice", ("red", "blue"), True),
        ("<answer>A</answer>", "B", "choice", ("red", "blue"), False),
        ("<answer> The Cat. </answer>", "the cat", "exact", (), True),
        ("<answer>the dog</answer>", "the cat", "exact", (), False),
        ("", "the cat", "exact", (), False),
        ("<answer>2</answer><answer>3</answer>", "2", "number", (), False),
        ("<answer>2", "2", "number", (), False),  # cut off
    ],
)
def test_an_answer_is_right_if_it_parses_to_the_gold_one(text, answer, problem_type, options, right):
    assert is_right(text, answer, problem_type, options) is right
    parsed = parse_answer(text, problem_type, options).value
    assert same_answer(parsed, gold_answer(answer, problem_type, options)) is right


@pytest.mark.parametrize("problem_type", ["ocr", "free"])
@pytest.mark.parametrize("text", ["<answer>the cat</answer>", "", "the cat"])
def test_what_is_alike_rather_than_equal_is_not_graded_and_says_how_to_leave_it_out(problem_type, text):
    with pytest.raises(ConfigError, match=rf"'{problem_type}' are not graded yet.*avatar data pack --problem_types"):
        is_right(text, "the cat", problem_type)
    assert issubclass(ConfigError, AvatarError)  # a message and no traceback


@pytest.mark.parametrize("problem_type", ["ocr", "free"])
def test_what_is_alike_is_read_as_it_stands(problem_type):
    assert parse_answer("<think>x</think><answer> Stop, B. 3 </answer>", problem_type).value == "Stop, B. 3"
    assert parse_answer("<answer>Stop, B. 3</answer>", problem_type).how == "strict"
    assert gold_answer("Stop, B. 3", problem_type) == "Stop, B. 3"
    for text in ("", "<answer> </answer>", "<answer>a</answer><answer>b</answer>", "<answer>cut off"):
        assert not parse_answer(text, problem_type).parsed
        assert parse_answer(text, problem_type).value is None


@pytest.mark.parametrize("answer", ["", " ", "<answer>a</answer><answer>b</answer>"])
@pytest.mark.parametrize("problem_type", ["exact", "ocr", "free"])
def test_a_gold_text_of_nothing_or_of_two_is_refused(answer, problem_type):
    with pytest.raises(ValueError, match=f"is no {problem_type} answer"):
        gold_answer(answer, problem_type)


def test_an_unknown_type_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown problem_type 'mcq'; known: choice, number, exact, ocr, free"):
        is_right("a", "a", "mcq")
