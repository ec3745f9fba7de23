"""`avatar test --regrade` on predictions written here; on those of a run see test_benchmark_runs."""

import json

import pytest
from tests_chat_server import ChatServer

from avatar.benchmarks.exams.sheet import AnswerSheet
from avatar.cli import main

PET = {
    "question": "Which one?",
    "options": ["dog", "cat"],
    "gold": "B",
    "problem_type": "choice",
    "qtype": "",
    "groups": {"motion": "count"},
    "ident": "",
}


def row(key, output="<answer>B</answer>", **changes):
    return {"id": key, "output": output, "clip": f"{key}.mp4", "stamp": "s", **PET, **changes}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*rows, name="run"):
    with open(f"{name}.predictions.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return f"{name}.predictions.jsonl"


def regrade(path, *more):
    return main(["test", "--regrade", path, *more])


def results(stem="run"):
    with open(f"{stem}.results.json", encoding="utf-8") as file:
        return json.load(file)


def test_replies_are_graded_by_a_rule_of_choice_and_the_replies_stay_as_they_are(here):
    path = write(row("a"), row("b", "A"), row("c", None, missing="gone"))
    before = (here / path).read_bytes()
    assert regrade(path, "--benchmark", "tomato") == 0
    found = results()
    assert (found["benchmark"], found["scoring"], found["num_questions"], found["num_missing"]) == (
        "tomato",
        "avatar",
        3,
        1,
    )
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert regrade(path, "--scoring", "official") == 0  # the benchmark stands in the results beside it now
    assert results("run-official")["scoring"] == "official"
    assert (here / path).read_bytes() == before
    assert results() == found


def test_a_name_may_be_written_otherwise_but_must_be_that_of_the_results(here, capsys):
    path = write(row("a"))
    assert regrade(path, "--benchmark", "TOMATO") == 0
    assert results()["benchmark"] == "tomato"
    assert regrade(path, "--benchmark", "mmvu") == 2
    assert "--benchmark mmvu: run.results.json says that the predictions are of tomato" in capsys.readouterr().err


def test_a_file_that_went_through_windows_is_graded_the_same(here):
    path = write(row("a", "the answer is (B)\r\n\u2028"), row("b", "é"))
    assert regrade(path, "--benchmark", "tomato") == 0
    found = results()
    content = (here / path).read_bytes()
    (here / path).write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert regrade(path) == 0
    assert results() == found


def test_what_a_run_says_of_itself_is_carried_along(here):
    path = write(row("a"))
    assert regrade(path, "--benchmark", "tomato") == 0
    told = {**results(), "model": "qwen", "stamp": "12345678", "limit": 7}
    (here / "run.results.json").write_text(json.dumps(told))
    assert regrade(path, "--scoring", "authors") == 0
    found = results("run-authors")
    assert [found[name] for name in ("model", "stamp", "limit")] == ["qwen", "12345678", 7]


def test_a_judge_decides_about_saved_replies(here):
    path = write(row("a", "I mean the second"), row("b", "no idea"), row("c", "B"))
    assert regrade(path, "--benchmark", "tomato", "--scoring", "official") == 0
    assert results("run-official")["num_not_judged"] == 2
    says = lambda request: json.dumps({"option": "B" if "second" in json.dumps(request) else "none"})  # noqa: E731
    with ChatServer(says) as server:
        judge = ("--judge_endpoint", server.endpoint, "--judge_model", "judge")
        assert regrade(path, "--scoring", "official", *judge) == 0
        found = results("run-official")
        assert (found["num_not_judged"], found["accuracy"]) == (0, pytest.approx(2 / 3))
        assert found["judge"] == {"num_asked": 2, "num_failed": 0}
        assert regrade(path, *judge) == 0  # by our rule there is nothing to judge
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        ([], "", "there are no replies in it"),
        ([row("a")], "", "give --benchmark NAME"),
        ([row("a")], "--benchmark tomatoe", "Did you mean 'tomato'"),
        ([row("a")], "--benchmark tomato --scoring nonsense", "--scoring must be"),
        ([row("a")], "--benchmark tomato --limit 3", "unknown argument --limit: --regrade takes"),
        ([row("a")], "--benchmark tomato --judge_model j", "a judge needs --judge_endpoint and --judge_model"),
        ([row("a"), row("a", "A")], "--benchmark tomato", "run.predictions.jsonl:2: a second reply to 'a'"),
        ([row("a", gold="C")], "--benchmark tomato", "row 'a' cannot be one of TOMATO: gold answer 'C'"),
        ([row("a", gold=2)], "--benchmark tomato", "row 'a' cannot be one of TOMATO"),
        ([row("a", gold=[1, 2], problem_type="clue")], "--benchmark omnibench", "row 'a' cannot be one of OmniBench"),
        (
            [row("a", "A", gold=[[1, 2]], options=[], problem_type="clue")],
            "--benchmark video_mmmu",
            "row 'a' cannot be one of Video-MMMU",
        ),
        ([row("a", groups=["motion"])], "--benchmark tomato", "field 'groups' must be an object"),
        ([row("a", options="no")], "--benchmark tomato", "'options' must be a list of texts"),
    ],
)
def test_what_cannot_be_graded_is_told_and_nothing_is_written(here, rows, more, said, capsys):
    assert regrade(write(*rows), *more.split()) == 2
    assert said in capsys.readouterr().err
    assert not list(here.glob("*.results.*"))


@pytest.mark.parametrize("path", ["run.jsonl", "run.results.json", "run.partial-0.jsonl"])
def test_a_file_of_another_name_is_refused(here, path, capsys):
    (here / path).write_text(json.dumps(row("a")))
    assert regrade(path) == 2
    assert "predictions of avatar test are called NAME.predictions.jsonl" in capsys.readouterr().err


def test_numbers_for_gold_are_graded_as_their_texts(here):
    golds = {"a": 3, "b": 3.0, "c": "3", "d": 4}
    kind = {"options": [], "problem_type": "number", "qtype": "object_counting"}
    path = write(*(row(key, "3", gold=gold, **kind) for key, gold in golds.items()))
    assert regrade(path, "--benchmark", "vsi_bench") == 0
    # 3 for 4 is a quarter off: no more than 0.5, 0.45, 0.4, 0.35, 0.3 and 0.25, six of the ten bounds
    assert [one["score"] for one in results()["rows"]] == pytest.approx([1.0, 1.0, 1.0, 0.6])


def test_a_finished_sheet_is_a_file_of_predictions(here):
    AnswerSheet(here / "sheet", "s").finish([row("a")])
    assert regrade("sheet.predictions.jsonl", "--benchmark", "tomato") == 0
    assert results("sheet")["accuracy"] == 1
