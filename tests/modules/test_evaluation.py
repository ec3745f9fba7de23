import pytest

from avatar.modules.evaluation import summarize


def row(kind, score, how="strict", finished=True, length=10):
    return {"kind": kind, "score": score, "how": how, "finished": finished, "length": length}


def test_accuracy_is_the_mean_over_questions_and_not_over_kinds():
    # 3 of kind a (2 right), 1 of kind b (0 right): 2 / 4, while the mean of the kinds would be 1 / 3
    summary = summarize([row("a", 1.0), row("b", 0.0, "unparsed"), row("a", 1.0), row("a", 0.0, finished=False)])
    assert summary["accuracy"] == pytest.approx(0.5)
    assert summary["accuracy/a"] == pytest.approx(2 / 3)
    assert summary["accuracy/b"] == 0
    assert summary["unparsed_share"] == pytest.approx(0.25)
    assert summary["truncated_share"] == pytest.approx(0.25)


def test_the_order_of_rows_changes_nothing_not_even_the_order_of_columns():
    rows = [row("b", 1.0), row("a", 0.0), row("c", 1.0)]
    assert list(summarize(rows).items()) == list(summarize(rows[::-1]).items())


def test_nothing_to_grade_gives_nothing():
    assert summarize([]) == {}
