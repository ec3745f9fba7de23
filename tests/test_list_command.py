import re

import pytest

from avatar import cli
from avatar.benchmarks import BENCHMARKS
from avatar.commands.listing import BENCHMARK_COLUMNS, benchmark_rows


def test_every_benchmark_has_a_row_with_all_that_it_says_of_itself():
    rows = {row[0]: dict(zip(BENCHMARK_COLUMNS, row, strict=True)) for row in benchmark_rows()}
    assert list(rows) == list(BENCHMARKS)
    assert rows["omnibench"]["title"] == "OmniBench"
    assert rows["omnibench"]["questions"] == "1,142"
    assert rows["omnibench"]["media"] == "image, audio"
    assert rows["omnibench"]["gradings"] == "avatar, official, authors"
    assert rows["jsonl"]["questions"] == "any"
    assert "OmniBench" in rows["omnibench"]["source"]


@pytest.mark.parametrize("columns", [80, 200])
def test_the_list_fits_the_terminal_and_leaves_nothing_out(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli.main(["list", "benchmarks"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert set(BENCHMARK_COLUMNS) <= set(re.split(r"\s\s+|\n", out))
    for name, title, questions, *_ in benchmark_rows():
        assert re.search(rf"^{name} +{re.escape(title)} +{questions} ", out, re.M)
