import pytest

from avatar.benchmarks import BENCHMARKS, grade_answer
from avatar.types import Prompt

COLOR = Prompt("c", [], (), "blue", "choice", ("red", "green", "blue"))
COUNT = Prompt("n", [], (), "3", "number")
SIGN = Prompt("s", [], (), "Mind the gap", "ocr")
TOLD = Prompt("t", [], (), "dog", "free")
PLACES = Prompt("p", [], (), "Left: cat | Right: dog", "location")


@pytest.mark.parametrize(
    ("output", "prompt", "score", "parsed", "how"),
    [
        ("<think>look blue</think><answer>blue</answer>", COLOR, 1, "blue", "strict"),
        ("<answer>C</answer>", COLOR, 1, "blue", "strict"),
        ("<answer>red</answer>", COLOR, 0, "red", "strict"),
        ("It must be blue.", COLOR, 1, "blue", "lenient"),
        ("", COLOR, 0, "", "unparsed"),
        ("<answer>red or blue</answer>", COLOR, 0, "", "unparsed"),
        ("<answer>3.0</answer>", COUNT, 1, "3", "strict"),
        ("<answer>4</answer>", COUNT, 0, "4", "strict"),
        ("three of them, <answer></answer>", COUNT, 0, "", "unparsed"),
        ("<answer>Mind a gap</answer>", SIGN, 2 / 3, "Mind a gap", "strict"),  # one word of three
        ("<answer>Dog!</answer>", TOLD, 1, "Dog!", "strict"),
        ("<answer>...</answer>", TOLD, 0, "", "unparsed"),
        ("<answer>Right: dog | Left: Cat</answer>", PLACES, 1, "left: cat | right: dog", "strict"),
        ("The cat is left: cat | right: dog", PLACES, 0, "right: dog | the cat is left: cat", "strict"),
        ("<answer>left: cat | left: dog</answer>", PLACES, 0, "", "unparsed"),
    ],
)
def test_a_reply_is_graded_and_never_guessed(output, prompt, score, parsed, how):
    grade = grade_answer(output, prompt.problem_type, prompt.answer, prompt.options)
    assert (grade.score, grade.parsed, grade.how) == (pytest.approx(score), parsed, how)


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_every_benchmark_says_what_it_is(name):
    benchmark = BENCHMARKS[name]
    assert benchmark.version >= 1
    assert benchmark.num_records > 0 or name == "jsonl"  # anyone's own has as many as it has
    assert benchmark.source
    assert benchmark.default_root
    assert benchmark.title
    assert set(benchmark.media_kinds) <= {"image", "video", "audio"}
    assert "avatar" in benchmark.scorings
    assert benchmark.__doc__


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_an_empty_reply_earns_nothing_anywhere(name):
    benchmark = BENCHMARKS[name]()
    question = benchmark.question_of_row(
        {"id": "c", "gold": "A", "options": ["red", "green"], "problem_type": "choice"}
    )
    assert not benchmark.grade("", question).score


def test_the_micro_benchmark_reads_its_split(micro):
    benchmark = BENCHMARKS["micro"]()
    dataset = benchmark.prompts(micro / "test", benchmark.recipe)
    assert len(dataset) == 20
    assert "/" in dataset[1].messages[-1]["content"][-1]["text"]  # options on one line, without letters
