import json

import pytest
from tests_graded import replies

from avatar import cli
from avatar.benchmarks import Micro
from avatar.benchmarks.figures.results import make_results, write_result


@pytest.fixture
def results(tmp_path):
    """Two results of the micro-world: 1 of 4 right, and 4 of 4."""
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, scores in zip(paths, ([1.0, 0.0, 0.0, 0.0], [1.0] * 4), strict=True):
        write_result(path, make_results("micro", Micro(), replies(scores), "avatar", model=path.stem))
    return list(map(str, paths))


def test_the_table_says_which_is_better_and_by_how_much(results, capsys):
    assert cli.main(["compare", *results]) == 0
    out = capsys.readouterr().out
    assert out.startswith("micro-world: accuracy 25.0 % and 100.0 %, B - A +75.0 [")
    assert "A: a (recipe not known)" in out
    assert "kind" in out


def test_the_comparison_is_written_as_json_or_markdown(results, tmp_path, capsys):
    for name in ("c.json", "c.md"):
        assert cli.main(["compare", *results, "--output", str(tmp_path / name)]) == 0
    assert json.loads((tmp_path / "c.json").read_text())["difference"] == 0.75
    assert "| all questions | 25.0 | 100.0 | +75.0 |" in (tmp_path / "c.md").read_text()


def test_what_cannot_be_compared_or_written_is_an_error_of_the_user(results, tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text('{"id": "q1", "output": "B"}\n')
    cases = {
        (results[0], str(tmp_path / "x.jsonl")): "holds predictions",
        (results[0], "none.json"): "none.json: cannot be read, there is no such file.\n",
        (
            results[0],
            str(tmp_path / "bb.json"),
        ): "bb.json: cannot be read, there is no such file. Did you mean 'b.json'",
        (str(tmp_path / "no/b.json"), results[1]): f"there is no folder {tmp_path / 'no'}",
        (*results, "--output", "c.txt"): "must end in .json or .md",
        (*results, "--output", "no/c.md"): "there is no folder no",
        (*results, "--output", results[1]): "is one of the files that are read",
    }
    for args, message in cases.items():
        assert cli.main(["compare", *args]) == 2
        assert message in capsys.readouterr().err
