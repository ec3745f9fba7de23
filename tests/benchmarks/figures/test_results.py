import json
from typing import get_args, get_type_hints

import pytest
from tests_graded import Macro, Plain, replies, reply

from avatar.benchmarks import Grade
from avatar.benchmarks.figures.results import make_results, read_results, write_result, write_results
from avatar.benchmarks.figures.rows import HOWS, graded_of_row, row_of
from avatar.benchmarks.figures.summary import figures_of, summarize
from avatar.benchmarks.recipe import Recipe
from avatar.errors import DataError

GRADED = [
    reply("q2", 0.1 + 0.2, "film.mp4", "b", ("x", "y"), qtype="easy", ident="7"),
    reply("q1", None, how="undecided"),
    reply("q3", 1.0, "film.mp4", counted=False, how="lenient", qtype="hard"),
    reply("q4", 0.0, how="missing"),
]


def result(graded=GRADED, benchmark=Plain, **facts):
    return make_results("plain", benchmark(), graded, "avatar", **facts)


def test_a_result_says_what_was_asked_how_and_of_whom():
    found = result(recipe=Recipe(max_frames=8), stamp="ab12cd34", model="best.ckpt", swap="audio")
    assert {name: found[name] for name in ("benchmark", "title", "version", "scoring", "metric", "num_records")} == {
        "benchmark": "plain", "title": "Plain", "version": 1, "scoring": "avatar", "metric": "accuracy",
        "num_records": 4,
    }  # fmt: skip
    assert (found["recipe"]["max_frames"], found["stamp"], found["model"], found["swap"]) == (
        8,
        "ab12cd34",
        "best.ckpt",
        "audio",
    )
    assert summarize(Plain(), GRADED, "avatar").items() <= found.items()
    assert [row["id"] for row in found["rows"]] == ["q1", "q2", "q3", "q4"]


@pytest.mark.parametrize("benchmark", [Plain, Macro])
def test_figures_can_be_made_again_from_the_rows_alone(benchmark):
    graded = [reply(f"q{i}", i % 3 / 2, f"c{i // 2}", "ab"[i % 2], qtype=f"t{i % 2}") for i in range(12)]
    found = json.loads(json.dumps(result(graded, benchmark)))
    again = figures_of(benchmark(), [graded_of_row(row, "row") for row in found["rows"]])
    assert again == {name: found[name] for name in again}


def test_a_row_gives_back_what_figures_need_to_the_last_digit():
    for one in GRADED:
        back = graded_of_row(json.loads(json.dumps(row_of(one))), "row")
        assert row_of(back) == {**row_of(one), "gold_hash": row_of(back)["gold_hash"]}
        assert (back.question.clip, back.question.groups, back.grade) == (
            one.question.clip,
            one.question.groups,
            one.grade,
        )


def test_a_row_may_say_all_that_a_grade_may_say_of_how_it_was_read():
    kinds = get_args(get_type_hints(Grade)["how"])
    assert set(HOWS) == {name for kind in kinds for name in (get_args(kind) or (kind,))}


def test_the_hash_of_a_row_differs_where_gold_answer_or_options_do():
    hashes = {row_of(reply("q", 1.0, gold=gold))["gold_hash"] for gold in ("A", "B", 1, {"start": 1})}
    assert len(hashes) == 4
    assert row_of(reply("q", 1.0))["gold_hash"] == row_of(reply("q", 0.0, kind="b"))["gold_hash"]


def test_what_is_written_is_read_again_one_question_a_line(tmp_path):
    found = result([*GRADED, reply('né\n"\ud83d', 1.0)])
    write_results(tmp_path / "new" / "plain", found)
    path = tmp_path / "new" / "plain.results.json"
    assert read_results(path) == found
    assert sum(line.startswith('    {"id": ') for line in path.read_text().splitlines()) == 5
    assert (tmp_path / "new" / "plain.results.md").read_text().startswith("## Plain: accuracy")
    assert len(list(path.parent.iterdir())) == 2


def test_no_rows_are_a_result_too(tmp_path):
    write_result(tmp_path / "none.json", result([]))
    assert read_results(tmp_path / "none.json")["rows"] == []


def test_a_result_that_cannot_be_written_leaves_the_former_one(tmp_path):
    write_results(tmp_path / "plain", result())
    before = (tmp_path / "plain.results.json").read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path / "plain", result(broken=float("nan")))
    assert (tmp_path / "plain.results.json").read_text() == before


def test_the_same_question_twice_is_refused():
    with pytest.raises(DataError, match="id 'q0' occurs more than once"):
        result([*replies([1.0]), *replies([0.0])])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{broken", "is no JSON"),
        ("[1, 2]", "no result of ours"),
        ('{"accuracy": 1}', "no result of ours"),
        ('{"id": "q1", "output": "B"}\n{"id": "q2", "output": "C"}\n', r"holds predictions.*--regrade"),
        ('{"id": "q1", "output": "B"}\n', "holds predictions"),
        ('{"id": "q1", "score": 1.0}\n{"id": "q2", "score": 0.0}\n', "holds single rows"),
        (json.dumps({**result(), "rows": None}), "'rows' is missing or of the wrong type, wanted list"),
        (json.dumps({**result(), "scoring": "mine"}), "scoring 'mine' is none of avatar, official, authors"),
        (json.dumps({**result(), "rows": [{**result()["rows"][0], "score": 2}]}), "row 1: .*'score' 0 to 1"),
        (json.dumps({**result(), "rows": [{**result()["rows"][0], "how": "guess"}]}), "row 1: .*'how' must be"),
        (json.dumps({**result(), "rows": [{"id": "q1"}]}), "row 1: field 'score' is missing"),
    ],
)  # fmt: skip
def test_what_is_no_result_is_named_with_the_way_out(tmp_path, text, message):
    path = tmp_path / "x.predictions.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_results(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        read_results(tmp_path / "none.json")
