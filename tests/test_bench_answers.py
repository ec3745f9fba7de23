import json

import pytest

from avatar.benchmarks.jsonl import JsonLines
from avatar.commands.bench import main
from avatar.commands.bench.answers import summary
from avatar.commands.bench.quiz import write_quiz
from avatar.errors import ConfigError


def test_it_writes_the_figures_that_it_prints(tmp_path, capsys):
    file = tmp_path / "figures.json"
    given = ["--questions", "12", "--batch_sizes", "5,1", "--rounds", "2", "--json", str(file)]
    assert main(["bench", "answers", *given]) == 0
    figures = json.loads(file.read_text())
    batches, ones = figures["runs"]
    assert (batches["batch_size"], ones["batch_size"]) == (5, 1)
    assert all(run[name] > 0 for run in (batches, ones) for name in ("seconds", "cpu_seconds"))
    assert [len(run["rounds"]) for run in (batches, ones)] == [2, 2]
    assert ones["ratio_time"] == ones["ratio_cpu"] == 1.0
    assert batches["num_different"] == ones["num_different"] == 0
    assert 0 < figures["mean_length"] <= 32
    printed = capsys.readouterr().out
    assert "12 short questions of text" in printed
    assert "accuracy" not in printed  # the table of the benchmark itself


def test_ratios_are_of_medians_and_replies_that_differ_are_counted():
    seconds = {16: [1.0, 2.0, 9.0], 1: [8.0, 10.0, 12.0]}  # medians 2 and 10
    timed = {size: [{"seconds": s, "cpu_seconds": s / 2} for s in given] for size, given in seconds.items()}
    same, other, longer = ("a", 3, True), ("b", 3, True), ("a", 4, True)
    replies = {1: {"0": same, "1": same, "2": same, "3": same}, 16: {"0": same, "1": other, "2": longer}}
    found = summary(16, timed, replies, 1)
    assert (found["ratio_time"], found["ratio_cpu"]) == (5.0, 5.0)
    assert found["num_different"] == 3  # another text, another length, and none at all


@pytest.mark.parametrize("media", [False, True])
def test_what_it_asks_are_questions_of_the_benchmark_whose_answers_are_right(tmp_path, media):
    chains = write_quiz(tmp_path / "quiz", 12, media)
    questions = JsonLines().questions(tmp_path / "quiz")
    assert [question.key for question in questions] == list(chains)
    assert len(chains) == 12
    for question in questions:
        grade = JsonLines().grade(chains[question.key], question)
        assert (grade.score, grade.how) == (1.0, "strict")
    assert len(list((tmp_path / "quiz/clips").iterdir())) == (3 if media else 0)  # five questions about each
    lengths = {len(chain) for chain in chains.values()}
    assert len(lengths) > 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--questions", "0"], "--questions must be at least 1, got 0"),
        (["--batch_sizes", "16,0"], "--batch_sizes must be different whole numbers with commas"),
        (["--batch_sizes", "16,16"], "--batch_sizes must be different whole numbers with commas"),
        (["--batch_sizes", "many"], "like 16,1; got 'many'"),
        (["--json", "no/such/folder/figures.json"], "there is no folder no/such/folder"),
    ],
)
def test_what_cannot_be_measured_is_said_first(arguments, message):
    with pytest.raises(ConfigError, match=message):
        main(["bench", "answers", *arguments])
