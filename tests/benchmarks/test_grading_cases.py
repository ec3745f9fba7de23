"""Every grading case that was collected, as the benchmark's own code and the AVATAR authors' scripts grade it.

The cases quote annotation data whose licences differ, so they lie beside the project and not in it.
"""

import json
from pathlib import Path

import pytest

from avatar.benchmarks import find_benchmark
from avatar.errors import ConfigError

CASES = Path(__file__).parents[3] / "shared/data/benchmarks/answers.jsonl"
ABSENT = "" if CASES.exists() else f"{CASES} is not there: grading cases are not in the repository"
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()] if CASES.exists() else []
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)


def official(row):
    return row.get("expected_official", row["expected"])


def authors(row):
    """Their verdict on the reply alone; None where they have none."""
    for name in ("expected_authors_if_prompt_stripped", "expected_authors"):
        if name in row:
            return row[name]
    return row["expected"] if row.get("authors_agree") else None


def check(grade, expected):
    if isinstance(expected, dict):
        assert {name: grade.parts[name] for name in expected} == pytest.approx(expected, abs=1e-5)
        assert grade.score == pytest.approx(expected.get("acc", expected.get("wcs")), abs=1e-5)
    elif expected is None:
        assert grade.score is None
    else:
        assert grade.score == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_the_benchmarks_own_rule(row):
    benchmark = find_benchmark(row["benchmark"])()
    grade = benchmark.grade(row["output"], benchmark.question_of_row(row), "official")
    check(grade, official(row))
    assert grade.counted == row.get("counted", True)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if authors(r) is not None], ids=[r["id"] for r in ROWS if authors(r) is not None]
)
def test_the_authors_rule(row):
    benchmark = find_benchmark(row["benchmark"])()
    check(benchmark.grade(row["output"], benchmark.question_of_row(row), "authors"), authors(row))


@pytest.mark.parametrize("name", ["video_mmmu", "vsi_bench", "video_tt"])
def test_no_rule_is_made_up_for_the_authors(name):
    row = next(row for row in ROWS if row["benchmark"] == name)
    benchmark = find_benchmark(name)()
    with pytest.raises(ConfigError, match="published no script"):
        benchmark.grade(row["output"], benchmark.question_of_row(row), "authors")


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_our_rule_gives_every_case_a_score_or_says_that_a_judge_is_needed(row):
    benchmark = find_benchmark(row["benchmark"])()
    grade = benchmark.grade(row["output"], benchmark.question_of_row(row), "avatar")
    assert grade.score is None or 0 <= grade.score <= 1
    assert grade.score is not None or row["benchmark"] == "mmvu"
    if not row["output"].strip():
        assert grade.how == "unparsed"
        assert not grade.score
