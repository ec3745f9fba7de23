import pytest

from avatar.benchmarks.grades import Grade, read


@pytest.mark.parametrize(
    ("score", "parsed", "how"),
    [
        (True, "B", "strict"),
        (False, "B", "strict"),
        (0.5, 0, "strict"),  # a count of 0 is an answer
        (False, "", "unparsed"),
        (0.0, None, "unparsed"),
        (None, "something", "undecided"),
        (None, "", "undecided"),
    ],
)
def test_a_rule_that_reads_nothing_is_told_from_one_that_reads_a_wrong_answer(score, parsed, how):
    grade = read(score, parsed)
    assert grade.how == how
    assert grade.score == score
    assert score is None or type(grade.score) is float
    assert grade.parsed == ("" if parsed is None else str(parsed))


@pytest.mark.parametrize(
    ("grade", "scored"),
    [
        (Grade(0.0, "", "unparsed"), True),  # wrong, not absent
        (Grade(1.0, "A", "strict"), True),
        (Grade(0.0, "", "missing"), True),
        (Grade(None, "A", "undecided"), False),
        (Grade(1.0, "A", "strict", counted=False), False),
    ],
)
def test_the_mean_is_over_what_has_a_score_and_counts(grade, scored):
    assert grade.scored is scored


def test_further_figures_come_along():
    assert read(0.5, "3", counted=False, error=1.0) == Grade(0.5, "3", "strict", False, {"error": 1.0})
    assert read(None, "3", points=2.0).parts == {"points": 2.0}
