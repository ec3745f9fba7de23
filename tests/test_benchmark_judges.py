"""`avatar test` with a judge, on benchmarks whose rules leave replies open; mmvu is in test_benchmark_faults."""

import json
import shlex
from pathlib import Path

import pytest
from tests_benchmark_worlds import film
from tests_chat_server import ChatServer

from avatar.cli import main


@pytest.fixture(autouse=True)
def here(micro, tmp_path, monkeypatch):
    """A folder with the tiny model in ``model`` to run in."""
    (tmp_path / "model").symlink_to(micro / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(benchmark: str, more: str = "") -> int:
    given = f"--benchmark {benchmark} --benchmark_root files --trainer.default_root_dir run --batch_size 4"
    model = "--model.policy.path model --model.policy.dtype float32 --recipe.max_new_tokens 12"
    return main(shlex.split(f"test {given} {model} {more}"))


def results(ending: str = "") -> dict:
    (found,) = Path("run/test").glob(f"[!.]*tokens_12{ending}.results.json")
    return json.loads(found.read_text())


def judge(server: ChatServer) -> str:
    return f"--judge_endpoint {server.endpoint} --judge_model judge"


def write_tomato(root: Path) -> None:
    (root / "videos/object").mkdir(parents=True)
    (root / "data").mkdir()
    records = {}
    for i in range(3):
        (root / f"videos/object/{i}.mp4").write_bytes(film(i))
        records[str(i)] = {
            "question": f"How often does wheel {i} turn?",
            "options": [f"{i} times", "ten times", "never"],
            "answer": i,
            "key": str(i),
            "motion_type": "count",
            "variation": {"zoom": 1},
            "demonstration_type": "object",
        }
    (root / "data/count.json").write_text(json.dumps(records))


def write_video_tt_open(root: Path) -> None:
    table = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    (root / "data").mkdir(parents=True)
    (root / "Benchmark-AllVideos-LQ").mkdir()
    rows = []
    for i in range(3):
        (root / f"Benchmark-AllVideos-LQ/film{i}.mp4").write_bytes(film(i))
        rows.append(
            {
                "qid": f"{i}-1",
                "video_id": f"film{i}",
                "question": f"What is the colour of wall {i}?",
                "question_prompt": "Answer in a few words.",
                "answer": f"paint {i}",
                "capability": "Colour",
            }
        )
    table.write_table(pyarrow.Table.from_pylist(rows), root / "data/test_no_leading_oe-00000-of-00001.parquet")


def test_what_the_rule_of_tomato_cannot_read_is_for_the_judge_and_never_for_chance(here):
    write_tomato(here / "files")
    assert ask("tomato", "--scoring official") == 0
    alone = results("-official")
    unread = alone["num_not_judged"]
    assert unread > 0, "the tiny model writes no lone letters"
    assert (alone["num_questions"], alone["num_scored"], alone["judge"]) == (3, 3 - unread, None)

    def says_b(request):
        return '{"option": "B"}'

    with ChatServer(says_b) as server:
        assert ask("tomato", f"--scoring official {judge(server)}") == 0
    found = results("-official")
    assert found["judge"] == {"num_asked": unread, "num_failed": 0}
    assert (found["num_not_judged"], found["num_scored"]) == (0, 3)
    judged = [row for row, before in zip(found["rows"], alone["rows"], strict=True) if before["score"] is None]
    # the gold letters are A, B and C: B is right for the second film alone
    assert [row["score"] for row in judged] == [float(row["id"] == "count/1") for row in judged]
    with ChatServer(says_b) as server:
        assert ask("tomato", judge(server)) == 0  # our own rule leaves nothing open
    assert server.requests == []
    assert results()["num_not_judged"] == 0


@pytest.mark.parametrize(("scoring", "ending"), [("avatar", ""), ("official", "-official")])
def test_words_about_a_video_are_compared_by_the_judge_point_by_point(here, scoring, ending):
    write_video_tt_open(here / "files")

    def points(request):
        said = json.dumps(request)
        return json.dumps({"score": next(i + 2 for i in range(3) if f"paint {i}" in said)})  # 2, 3 and 4 points of 5

    assert ask("video_tt_open", f"--scoring {scoring}") == 0
    alone = results(ending)
    open_ones = [row["id"] for row in alone["rows"] if row["score"] is None]
    assert open_ones
    with ChatServer(points) as server:
        assert ask("video_tt_open", f"--scoring {scoring} {judge(server)}") == 0
    found = results(ending)
    assert found["judge"] == {"num_asked": len(open_ones), "num_failed": 0}
    scores = {row["id"]: row["score"] for row in found["rows"]}
    wanted = {f"no_leading/{i}-1": float(i + 2 >= 3) for i in range(3)}  # three points make it right
    assert {key: scores[key] for key in open_ones} == {key: wanted[key] for key in open_ones}
    assert found["accuracy"] == pytest.approx(sum(scores.values()) / 3)
