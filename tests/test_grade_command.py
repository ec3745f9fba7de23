import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from avatar import cli
from avatar.benchmarks.figures.results import read_results

PAGE = Path(__file__).parent.parent / "docs" / "grading.md"


def row(key="q1", output="<answer>B</answer>", **more):
    return {"id": key, "output": output, "options": ["one", "two"], "gold": "B", **more}


def lines(*rows):
    return b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in rows)


@pytest.fixture
def grade(monkeypatch, capsys):
    """Runs ``avatar grade`` on rows: exit status, rows that came out, error stream."""

    def run(*rows, args=("--benchmark", "micro")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines(*rows))))
        code = cli.main(["grade", *args])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def test_the_example_of_the_page_comes_out_as_it_says(grade):
    page = PAGE.read_text()
    given, expected = (block.encode() for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    arguments = re.search(r"avatar grade (.*?) <", page)[1].split()
    code, found, err = grade(given, args=arguments)
    assert (code, err) == (0, "")
    assert found == [json.loads(line) for line in expected.splitlines()]
    # as the page says of the other rule
    _, official, _ = grade(given, args=("--benchmark", "omnibench", "--scoring", "official"))
    assert "With `--scoring official` the first earns 0" in page
    assert (official[0]["score"], official[0]["parsed"]) == (0.0, None)


def test_rows_come_out_in_order_with_the_ids_that_they_had(grade):
    code, found, _ = grade(
        row(7),
        row("q", "maybe"),
        b" \n",
        row("q", "It is two."),
        row("n", "about 12", options=None, gold=12, problem_type="number"),
    )
    assert code == 0
    assert [(r["id"], r["score"], r["how"]) for r in found] == [
        (7, 1.0, "strict"),
        ("q", 0.0, "unparsed"),
        ("q", 1.0, "lenient"),
        ("n", 1.0, "lenient"),
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"{broken\n", "line 2: it is no JSON: .* at character 2"),
        (b"[1]\n", "line 2: must be an object"),
        (b'"\xff"\n', "line 2: byte 2 of the line is not in UTF-8"),
        (b'{"id": "q", "output": "B", "gold": NaN}\n', "NaN is no number"),
        ({"output": "B", "gold": "B"}, "line 2: field 'id' is missing; the row has 'output', 'gold'"),
        ({"id": "q", "gold": "B"}, "line 2: field 'output' is missing"),
        ({"id": "q", "output": "B"}, "line 2: field 'gold' is missing"),
        (row(output=3), "line 2: field 'output' must be a text, got 3"),
        (row(key=1.5), "line 2: field 'id' must be a text or a whole number, got 1.5"),
        (row(key=True), "line 2: field 'id' must be"),
        (row(qtype=3), "line 2: field 'qtype' must be a text, got 3"),
        (row(options="A. one"), "line 2: field 'options' must be a list of texts, or letters with texts, got 'A. one'"),
        (row(options=[1, 2]), "line 2: .*'options' must be"),
        (row(groups=["a"]), "line 2: field 'groups' must be"),
        (row(groups={"kind": 3}), "line 2: field 'groups' must be"),
        (row(gold=1), "line 2: field 'gold' must be a text, for a question of type 'choice', got 1"),
        (row(gold=["A"]), "line 2: field 'gold' must be a text"),
        (
            row(gold={"a": 1}, problem_type="number"),
            "line 2: field 'gold' must be a text, for a question of type 'number', got {'a': 1}",
        ),
        (row(gold=True, problem_type="number"), "line 2: field 'gold' must be a text.*got True"),
        (row(gold="C"), "line 2: gold answer 'C'"),
        (row(problem_type="mood"), "line 2: unknown problem_type 'mood'"),
    ],
    ids=lambda value: None if isinstance(value, str) else "row",
)
def test_a_bad_row_is_named_by_line_and_field_and_what_came_before_is_there(grade, bad, message):
    code, found, err = grade(row("q1"), bad, row("q3"))
    assert code == 2
    assert [r["id"] for r in found] == ["q1"]
    assert re.search(f"^error: .*{message}", err)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--benchmark", "micro", "--scoring", "mine"), "--scoring must be avatar for micro-world, got 'mine'"),
        (("--benchmark", "micro", "--scoring", "authors"), "the authors of AVATAR published no script"),
        (("--benchmark", "omnibenhc"), "unknown benchmark 'omnibenhc'. Did you mean 'omnibench'"),
        (("--benchmark", "micro", "--input", "none.jsonl"), "--input none.jsonl: there is no such file"),
        (("--benchmark", "micro", "--summary", "no/folder.json"), "--summary no/folder.json: there is no folder no"),
        (("--benchmark", "micro", "--summary", "."), "--summary .: is a folder"),
        (("--benchmark", "micro", "--sumary", "x"), "Did you mean '--summary'"),
    ],
)
def test_what_was_asked_wrongly_is_said_before_a_row_is_read(monkeypatch, capsys, args, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{broken")))
    assert cli.main(["grade", *args]) == 2
    assert message in capsys.readouterr().err


def test_other_spellings_of_a_benchmark_are_taken(grade):
    for name in ("cg_av_counting", "CG-AV-Counting", "av_counting"):
        _, found, _ = grade(row(output="3", options=None, gold=3), args=("--benchmark", name))
        assert found[0]["score"] == 1.0


def test_the_summary_is_a_result_and_the_table_goes_to_the_error_stream(grade, tmp_path):
    path = tmp_path / "s.json"
    code, found, err = grade(row("q1"), row("q2", "no"), args=("--benchmark", "micro", "--summary", str(path)))
    assert (code, len(found)) == (0, 2)
    results = read_results(path)
    assert (results["benchmark"], results["accuracy"], results["num_questions"]) == ("micro", 0.5, 2)
    assert err.startswith("micro-world: accuracy 50.0 % [0.0, 100.0] (scoring avatar, recipe not known)")
    grade(row("q1"), args=("--benchmark", "micro", "--summary", str(tmp_path / "s.md")))
    assert (tmp_path / "s.md").read_text().startswith("## micro-world: accuracy 100.0 %")


def test_a_question_that_could_not_be_asked_is_wrong_and_counted_as_missing(grade, tmp_path):
    path = tmp_path / "s.json"
    args = ("--benchmark", "omnibench", "--summary", str(path))
    code, found, _ = grade(row("q1"), row("q2", None, missing="a.mp4 is not in data"), args=args)
    assert code == 0
    assert found[1] == {"id": "q2", "score": 0.0, "parsed": None, "how": "missing", "counted": True, "parts": {}}
    results = read_results(path)
    assert (results["accuracy"], results["num_scored"], results["num_missing"]) == (0.5, 2, 1)


def test_groups_of_rows_are_reported_also_where_the_benchmark_has_others(grade, tmp_path):
    path = tmp_path / "s.json"
    rows = [row("q1", groups={"room": "hall"}), row("q2", "no", groups={"room": "yard", "task_type": "Count"})]
    grade(*rows, args=("--benchmark", "omnibench", "--summary", str(path)))
    assert list(read_results(path)["groups"]) == ["task_type", "room"]


def test_no_rows_are_told_and_no_error(grade):
    assert grade(b"\n") == (0, [], "there are no rows in the standard input: nothing was graded\n")


def test_a_summary_that_cannot_be_written_is_found_before_anything_is_graded(grade, tmp_path):
    path = tmp_path / ("x" * 250 + ".json")  # no file system takes a name so long with the ending of a part
    code, found, err = grade(row(), args=("--benchmark", "micro", "--summary", str(path)))
    assert (code, found) == (2, [])
    assert ".json: cannot be written (" in err
    assert not list(tmp_path.iterdir())


def test_an_id_twice_is_graded_but_makes_no_result(grade, tmp_path):
    path = tmp_path / "s.json"
    code, found, err = grade(row(), row(), args=("--benchmark", "micro", "--summary", str(path)))
    assert (code, len(found), path.exists()) == (2, 2, False)
    assert "id 'q1' occurs more than once" in err


def test_a_file_is_graded_as_the_standard_input_is(grade, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines(row("q1"), row("q2", "no")))
    _, found, _ = grade(args=("--benchmark", "micro", "--input", str(path)))
    assert [r["score"] for r in found] == [1.0, 0.0]


def test_rows_are_graded_as_they_come_and_no_framework_for_training_is_loaded():
    code = "import sys; from avatar import cli; cli.main(sys.argv[1:]); print('lightning.pytorch' in sys.modules)"
    command = [sys.executable, "-c", code, "grade", "--benchmark", "micro"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(lines(row("q1")))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == "q1"  # while the input is still open
        out, _ = process.communicate()
    assert out.split() == [b"False"]
