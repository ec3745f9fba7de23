"""What many replies come to, as the benchmarks' own code and the AVATAR authors' scripts have it."""

import json
from pathlib import Path

import pytest
import torch

from avatar.benchmarks.av_counting import AVCounting
from avatar.benchmarks.av_odyssey import AVOdyssey
from avatar.benchmarks.grades import Graded, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.vsi_bench import VSIBench

CASES = Path(__file__).parents[3] / "shared/data/benchmarks/aggregates.jsonl"
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()] if CASES.exists() else []
pytestmark = pytest.mark.skipif(not ROWS, reason=f"{CASES} is not there: grading cases are not in the repository")


def case(name):
    (row,) = [row for row in ROWS if row["benchmark"] == name]
    return row


def graded(benchmark, inputs, scoring, **more):
    asked = [benchmark.question_of_row({"id": str(i), **row, **more}) for i, row in enumerate(inputs)]
    return [Graded(q, benchmark.grade(row["output"], q, scoring)) for q, row in zip(asked, inputs, strict=True)]


def headline(benchmark, replies):
    return 100 * benchmark.overall(replies, torch.ones(len(replies), dtype=torch.float64)).item()


def test_vsi_bench_is_a_mean_over_tasks():
    row = case("vsi_bench")
    replies = graded(VSIBench(), row["inputs"], "official")
    assert VSIBench().figures(replies) == pytest.approx(row["expected"], abs=1e-5)
    assert headline(VSIBench(), replies) == pytest.approx(row["expected"]["overall"], abs=1e-5)


@pytest.mark.parametrize(("scoring", "expected"), [("official", "expected"), ("authors", "expected_authors")])
def test_av_counting_caps_errors_and_the_authors_do_not(scoring, expected):
    row = case("cg_av_counting")
    replies = graded(AVCounting(), row["inputs"], scoring, qtype="count")
    assert AVCounting().figures(replies) == pytest.approx(row[expected])
    assert headline(AVCounting(), replies) == pytest.approx(100 * row[expected]["acc"])


def test_av_odyssey_counts_an_id_once_in_a_subfield():
    row = case("av_odyssey")
    replies = [
        Graded(
            Question(str(i), "", "A", ident=one["question_id"], groups={"subfield": one["category"]}),
            read(one["score"], "A"),
        )
        for i, one in enumerate(row["inputs"])
    ]
    # as they lie there no id comes twice
    settled = [one for one in AVOdyssey().settle(replies, "official") if one.grade.scored]
    assert headline(AVOdyssey(), settled) == pytest.approx(row["expected"])
    again = AVOdyssey().settle([*replies, replies[1], replies[4]], "official")
    assert [one.grade.counted for one in again] == [True] * 5 + [False] * 2
