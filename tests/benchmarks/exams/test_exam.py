"""The model of these tests is a dictionary: what it says to which question."""

import json

import pytest
import torch

from avatar.benchmarks.data import BenchmarkData
from avatar.benchmarks.exams.exam import Exam
from avatar.benchmarks.exams.grading import note_counts, results_stem, writing
from avatar.benchmarks.exams.sheet import read_predictions
from avatar.benchmarks.recipe import Recipe
from avatar.errors import ConfigError, DataError
from avatar.types import Completion, Prompt

NUM = 6
RIGHT = {str(i): f"<answer>{i}</answer>" for i in range(NUM)}


def write(root, num=NUM, media=False):
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(num):
        shown = [{"video": f"{i}.mp4"}] if media else []
        lines.append({"id": i, "question": f"how many are {i} ?", "answer": i, "media": shown})
        (root / f"{i}.mp4").write_bytes(b"x" * (i + 1))
    (root / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.fixture
def asked():
    """Makes what is asked; all are closed in the end."""
    made = []

    def make(root, **kwargs):
        data = BenchmarkData("jsonl", str(root), **kwargs)
        data.setup("test")
        made.append(data)
        return data

    yield make
    for data in made:
        data.teardown("test")


exams = []


@pytest.fixture(autouse=True)
def closed():
    yield
    while exams:
        exams.pop().close()


def alone(rows):
    """One process: what it has is what all have."""
    return rows


def begun(data, stem, weights="w", rank=0, **kwargs):
    exam = Exam(stem, **kwargs)
    exams.append(exam)
    exam.begin(data, weights, rank, alone)
    return exam


def done(data, stem, said=RIGHT, **kwargs):
    """The results of a whole run."""
    exam = begun(data, stem, **kwargs)
    answer(exam, said)
    return exam.finish(alone, first=True)


def answer(exam, said, notes=()):
    prompts = [Prompt(key, [], (), "", metadata={"notes": list(notes)}) for key in said]
    exam.add(prompts, [Completion(torch.tensor([1, 2]), torch.zeros(2), text, True) for text in said.values()])


def finished(exam):
    return exam.finish(alone, first=True)


def predictions(stem):
    path = stem.with_name(f"{stem.name}.predictions.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- asking ------------------------------------------------------------------------------------------------------------


def test_all_that_was_answered_is_graded_in_the_order_of_the_questions(asked, tmp_path):
    exam = begun(asked(write(tmp_path / "q")), tmp_path / "run", model="dictionary")
    answer(exam, {"5": "5", "0": "wrong"})
    answer(exam, {key: RIGHT[key] for key in "4213"})
    results = finished(exam)
    assert (results["num_questions"], results["num_scored"], results["model"]) == (6, 6, "dictionary")
    assert results["accuracy"] == pytest.approx(5 / 6)
    rows = predictions(tmp_path / "run")
    assert [row["id"] for row in rows] == list(RIGHT)
    assert [row["score"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert json.loads((tmp_path / "run.results.json").read_text())["accuracy"] == results["accuracy"]


def test_after_a_kill_only_what_is_left_is_asked_and_the_result_is_that_of_one_run(asked, tmp_path, capsys):
    data = asked(write(tmp_path / "q"))
    expected = done(data, tmp_path / "whole")
    killed = begun(data, tmp_path / "run")
    answer(killed, {key: RIGHT[key] for key in "301"})
    killed.close()  # the lock goes with a process that is killed
    again = begun(data, tmp_path / "run")
    assert sorted(again.before) == ["0", "1", "3"]
    assert "3 questions were answered before, 3 are left" in capsys.readouterr().err
    answer(again, {key: RIGHT[key] for key in "245"})
    assert finished(again) == expected
    assert predictions(tmp_path / "run") == predictions(tmp_path / "whole")
    assert sorted(begun(data, tmp_path / "run").before) == list(RIGHT)


@pytest.mark.parametrize(
    "other",
    [
        {"weights": "v"},
        {"recipe": Recipe(max_frames=3)},
        {"recipe": Recipe(max_new_tokens=5)},
        {"swap": "audio"},
        {"restart": True},
    ],
    ids=lambda other: next(iter(other)),
)
def test_replies_of_another_model_or_recipe_or_before_a_restart_are_asked_anew(asked, tmp_path, other):
    root = write(tmp_path / "q")
    done(asked(root), tmp_path / "run")
    of_data = {name: value for name, value in other.items() if name in ("recipe", "swap")}
    of_exam = {name: value for name, value in other.items() if name not in of_data}
    assert begun(asked(root, **of_data), tmp_path / "run", **of_exam).before == {}


def test_of_another_recipe_the_results_have_another_stamp_and_of_another_model_the_same(asked, tmp_path):
    root = write(tmp_path / "q")
    stamps = [begun(asked(root), None).stamp, begun(asked(root), None, weights="v").stamp]
    stamps += [
        begun(asked(root, recipe=Recipe(max_frames=3)), None).stamp,
        begun(asked(root, swap="audio"), None).stamp,
    ]
    assert len(set(stamps)) == 3
    assert stamps[0] == stamps[1]


def test_a_question_that_was_changed_or_whose_film_was_is_asked_anew_and_no_other(asked, tmp_path):
    root = write(tmp_path / "q", media=True)
    done(asked(root), tmp_path / "run")
    text = (root / "questions.jsonl").read_text()
    (root / "questions.jsonl").write_text(text.replace("how many are 2 ?", "how many are two ?"))
    (root / "4.mp4").write_bytes(b"another film")
    assert sorted(begun(asked(root), tmp_path / "run").before) == ["0", "1", "3", "5"]


def test_a_gold_answer_that_was_mended_counts_and_the_question_is_not_asked_again(asked, tmp_path):
    root = write(tmp_path / "q")
    assert done(asked(root), tmp_path / "run")["accuracy"] == 1.0
    text = (root / "questions.jsonl").read_text()
    (root / "questions.jsonl").write_text(text.replace('"answer": 2', '"answer": 7'))
    again = begun(asked(root), tmp_path / "run")
    assert len(again.before) == NUM
    assert again.finish(alone, first=True)["accuracy"] == pytest.approx(5 / 6, abs=1e-6)
    assert read_predictions(tmp_path / "run.predictions.jsonl")[2]["gold"] in (7, "7")


def test_of_a_larger_limit_the_replies_of_a_smaller_one_stand(asked, tmp_path):
    root = write(tmp_path / "q")
    few = begun(asked(root, limit=2), tmp_path / "run")
    assert list(few.asked) == ["1", "5"]
    answer(few, {key: RIGHT[key] for key in "15"})
    assert finished(few)["num_questions"] == 2
    assert sorted(begun(asked(root), tmp_path / "run").before) == ["1", "5"]


def test_an_exam_without_a_place_writes_nothing(asked, tmp_path):
    exam = begun(asked(write(tmp_path / "q")), None)
    before = sorted(tmp_path.rglob("*"))
    answer(exam, RIGHT)
    assert finished(exam)["accuracy"] == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_rule_that_the_benchmark_does_not_have_is_told_before_anything_is_asked(asked, tmp_path):
    with pytest.raises(ConfigError, match="--scoring must be avatar"):
        begun(asked(write(tmp_path / "q")), tmp_path / "run", scoring="official")
    assert not list(tmp_path.glob("*run*"))


def test_a_restart_that_cannot_remove_what_was_answered_is_told_by_all_processes(asked, tmp_path):
    data = asked(write(tmp_path / "q"))
    (tmp_path / "run.predictions.jsonl").mkdir()
    said = []
    exam = Exam(tmp_path / "run", restart=True)
    exams.append(exam)
    with pytest.raises(ConfigError, match=r"run\.predictions\.jsonl cannot be written"):
        exam.begin(data, "w", 0, lambda value: said.append(value) or value)
    assert len(said) == 1  # the other processes wait for it


# -- several processes -------------------------------------------------------------------------------------------------


def test_what_keeps_the_first_process_out_is_told_by_all(asked, tmp_path):
    data = asked(write(tmp_path / "q"))
    holder = begun(data, tmp_path / "run")
    said = []
    with pytest.raises(ConfigError, match="another run is answering run"):
        Exam(tmp_path / "run").begin(data, "w", 0, lambda refusal: said.append(refusal) or refusal)
    with pytest.raises(ConfigError, match="another run is answering run"):
        Exam(tmp_path / "run").begin(data, "w", 1, lambda refusal: said[0])
    holder.close()


def test_two_processes_come_to_what_one_comes_to_and_no_question_counts_twice(asked, tmp_path):
    data = asked(write(tmp_path / "q"))
    expected = done(data, tmp_path / "one")
    agreed = []
    first, second = (Exam(tmp_path / "two") for _ in range(2))
    exams.append(first)
    first.begin(data, "w", 0, lambda value: agreed.append(value) or value)
    second.begin(data, "w", 1, lambda value: agreed.pop(0))
    answer(first, {key: RIGHT[key] for key in "0123"})
    answer(second, {key: RIGHT[key] for key in "3450"})  # 0 and 3 twice, as where a share is filled up
    assert {path.name for path in tmp_path.glob("two*")} == {"two.partial-0.jsonl", "two.partial-1.jsonl"}
    others = iter([list(second.new.values()), [], []])  # replies, what could not be read, results
    assert first.finish(lambda mine: mine + next(others), first=True) == expected
    assert predictions(tmp_path / "two") == predictions(tmp_path / "one")
    assert not list(tmp_path.glob("two.partial*"))


# -- what could not be asked -------------------------------------------------------------------------------------------


def test_what_could_not_be_read_is_refused_and_no_reply_is_lost(asked, tmp_path):
    data = asked(write(tmp_path / "q", media=True))
    exam = begun(data, tmp_path / "run")
    answer(exam, {key: RIGHT[key] for key in "0123"})
    data.missing = {"4": "4.mp4 is torn", "5": "5.mp4 is torn"}
    with pytest.raises(DataError, match=r"2 questions could not be asked.*4: 4\.mp4 is torn.*the 4 replies are kept"):
        finished(exam)
    assert not list(tmp_path.glob("*.results.*"))
    exam.close()
    again = begun(data, tmp_path / "run")
    assert sorted(again.before) == ["0", "1", "2", "3"]


def test_what_could_not_be_read_counts_as_wrong_where_that_is_allowed(asked, tmp_path):
    data = asked(write(tmp_path / "q"), allow_missing=True)
    exam = begun(data, tmp_path / "run")
    answer(exam, {key: RIGHT[key] for key in "01235"})
    data.missing = {"4": "4.mp4 is torn", "5": "of no account: it was answered in the end"}
    results = finished(exam)
    assert (results["num_questions"], results["num_scored"], results["num_missing"]) == (6, 6, 1)
    assert results["accuracy"] == pytest.approx(5 / 6)  # the torn one counts
    row = predictions(tmp_path / "run")[4]
    assert (row["id"], row["output"], row["missing"], row["how"]) == ("4", None, "4.mp4 is torn", "missing")


def test_what_a_process_failed_to_read_is_known_to_all(asked, tmp_path):
    data = asked(write(tmp_path / "q"), allow_missing=True)
    exam = begun(data, None)
    answer(exam, {key: RIGHT[key] for key in "01234"})
    assert data.failures == {}
    others = iter([[], [("5", "torn in another process")], []])
    results = exam.finish(lambda mine: mine + next(others), first=True)
    assert (results["num_questions"], results["num_missing"]) == (6, 1)


# -- figures beside the score ------------------------------------------------------------------------------------------


def test_how_replies_were_written_is_told_of_those_that_were_written():
    rows = [{"length": 3, "finished": True}, {"length": 8, "finished": False}, {"length": 1, "finished": True}, {}]
    # one of three was cut off; (3 + 8 + 1) / 3
    assert writing(rows) == {"truncated_share": round(1 / 3, 6), "completion_length": 4.0}
    assert writing([{}]) == writing([]) == {}


def test_a_note_counts_once_a_question():
    rows = [{"notes": ["cut", "silent", "cut"]}, {"notes": ["cut"]}, {"notes": []}, {}]
    assert note_counts(rows) == {"cut": 2, "silent": 1}


def test_results_of_another_rule_lie_beside_ours(tmp_path):
    stem = tmp_path / "mmvu-qwen2.5"
    assert results_stem(stem, "avatar") == stem
    assert results_stem(stem, "official") == tmp_path / "mmvu-qwen2.5-official"
