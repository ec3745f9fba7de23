import pytest

from avatar.benchmarks import BENCHMARKS, grade_answer
from avatar.errors import DataError
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
        {"id": "c", "gold": "A", "options": ["red", "green"], "problem_type": "choice", "qtype": a_qtype(benchmark)}
    )
    assert not benchmark.grade("", question).score


def a_qtype(benchmark):
    return benchmark.qtypes[0] if benchmark.qtypes else ""


# What is graded by types of its own, and does not tell them by options or gold answer.
TYPED = {"vsi_bench", "intentbench", "video_mmmu", "av_counting_clues"}
OPEN = {"micro", "micro_vision", "micro_audio_visual", "micro_localise", "jsonl"}  # options or none
NO_OPTIONS = {"av_counting", "av_counting_clues", "video_tt_open", "mmvu"}  # where the type is left out


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_a_row_without_a_type_is_refused_where_another_rule_would_grade_it(name):
    benchmark, row = BENCHMARKS[name](), {"id": "c", "gold": "A", "options": ["red", "green"]}
    if name not in TYPED:
        assert benchmark.question_of_row(row).qtype == ""
        return
    with pytest.raises(DataError, match=f"field 'qtype' is missing: .* one of {benchmark.qtypes[0]}, "):
        benchmark.question_of_row(row)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if BENCHMARKS[name].qtypes])
def test_an_unknown_type_is_refused_with_the_nearest_one(name):
    benchmark = BENCHMARKS[name]()
    nearest = benchmark.qtypes[0]
    with pytest.raises(DataError, match=f"no type of {benchmark.title}. Did you mean '{nearest}'. Known: {nearest}, "):
        benchmark.question_of_row({"id": "c", "gold": "A", "options": ["red", "green"], "qtype": f"{nearest}x"})


@pytest.mark.parametrize("name", sorted(set(BENCHMARKS) - OPEN - NO_OPTIONS))
def test_a_choice_without_its_options_is_graded_by_no_other_rule(name):
    benchmark = BENCHMARKS[name]()
    choices = {"vsi_bench": "route_planning", "video_mmmu": "multiple-choice", "intentbench": "emer_ov_mc"}
    row = {"id": "c", "gold": "A", "options": None, "qtype": choices.get(name, "")}
    with pytest.raises(DataError, match=r"field 'options' is missing: .* asks for (one|some) of them"):
        benchmark.grade("A", benchmark.question_of_row(row))


def test_a_letter_is_enough_for_a_rule_that_reads_letters_alone():
    benchmark = BENCHMARKS["vsi_bench"]()
    question = benchmark.question_of_row({"id": "c", "gold": "B", "qtype": "route_planning"})
    assert [benchmark.grade(reply, question, "official").score for reply in ("B.", "A")] == [1.0, 0.0]


def test_types_that_options_or_gold_answer_tell_may_be_left_out():
    mmvu, counting = BENCHMARKS["mmvu"](), BENCHMARKS["av_counting"]()
    assert mmvu.question_of_row({"id": 1, "gold": "A", "options": ["red", "green"]}).problem_type == "choice"
    assert mmvu.question_of_row({"id": 1, "gold": "red"}).problem_type == "free"
    assert counting.question_of_row({"id": 1, "gold": 3}).problem_type == "number"
    with pytest.raises(DataError, match="field 'options' is missing"):
        mmvu.question_of_row({"id": 1, "gold": "A", "qtype": "multiple-choice"})


def test_the_micro_benchmark_reads_its_split(micro):
    benchmark = BENCHMARKS["micro"]()
    dataset = benchmark.prompts(micro / "test", benchmark.recipe)
    assert len(dataset) == 20
    assert "/" in dataset[1].messages[-1]["content"][-1]["text"]  # options on one line, without letters
