import re

import pytest
from rich.console import Console
from tests_graded import Once, Plain, replies, reply

from avatar.benchmarks import BENCHMARKS
from avatar.benchmarks.figures.paired import compare
from avatar.benchmarks.figures.results import make_results
from avatar.benchmarks.figures.show import (
    compare_markdown,
    compare_table,
    overview_markdown,
    overview_table,
    results_markdown,
    results_table,
)

LONG = "Contextual and Environmental [bold] Reasoning about | People"


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The small benchmarks, by name."""
    len(BENCHMARKS)
    monkeypatch.setitem(BENCHMARKS._entries, "plain", Plain)


def result(graded, benchmark=Plain, **facts):
    return make_results("plain", benchmark(), graded, "avatar", **facts)


def screen(shown):
    console = Console(width=80, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def cells(text):
    """Rows of cells, blanks and rules of either form left out: what both forms must have in common."""
    lines = (re.split(r"\s\s+|(?<!\\)\|", line.strip().strip("|")) for line in text.splitlines())
    return [[cell.strip().replace("\\|", "|") for cell in line if cell.strip()] for line in lines]


SAMPLE = [
    reply("q1", 1.0, kind=LONG),
    reply("q2", 0.0, kind=LONG),
    reply("q3", 1.0, kind="short", how="unparsed"),
    reply("q4", None),
    reply("q5", 0.0, counted=False),
]


def test_the_headline_says_figure_interval_grading_and_recipe():
    found = result(replies([0.0, 1.0]), stamp="ab12cd34", model="best.ckpt")
    first, second, *_ = screen(results_table(found)).splitlines()
    assert first == "Plain: accuracy 50.0 % [0.0, 100.0] (scoring avatar, recipe ab12cd34)"
    assert second == "model: best.ckpt"
    assert results_markdown(found).startswith(f"## {first}\n")


def test_groups_and_counts_stand_on_the_screen_as_in_markdown():
    found = result(SAMPLE)
    shown, written = cells(screen(results_table(found))), cells(results_markdown(found))
    rows = [["short", "100.0", "-", "1"], ["scored", "3 of 5"], ["asked, of all that the benchmark has", "5 of 4"]]
    rows += [["replies that cannot be read (unparsed)", "20.0 %"], ["not judged: only a judge can tell", "1"]]
    rows += [["left out by the rule (uncounted)", "1"], ["AVATAR paper: + AVATAR", "49.1"]]
    rows += [["Qwen2.5-Omni-7B (its makers)", "56.1"], ["this result, scoring avatar", "66.7"]]
    for row in rows:
        assert row in shown
        assert row in written
    assert [LONG, "50.0", "[0.0, 100.0]", "2"] in written


def test_nothing_is_wider_than_80_columns_and_no_label_is_cut_or_read_as_markup():
    text = screen(results_table(result(SAMPLE)))
    assert max(map(len, text.splitlines())) <= 80
    first, second = re.search(r"^(Context.*?)  +50\.0 +\[0\.0, 100\.0\] +2\n(.*?) *\n", text, re.M).groups()
    assert f"{first} {second}" == LONG


def test_without_a_scored_reply_it_says_so():
    first = screen(results_table(result([reply("q", None)]))).splitlines()[0]
    assert first == "Plain: no accuracy, nothing was scored (scoring avatar, recipe not known)"


def test_where_nobody_says_how_many_questions_there_should_be_none_are_said_to_lack():
    found = {**result(replies([1.0, 0.0])), "num_records": 0}
    assert "asked" not in screen(results_table(found))
    assert ["Plain", "50.0", "[0.0, 100.0]", "2", "0.0", "44.2", "45.4", "49.1"] in cells(
        screen(overview_table([found]))
    )


def test_further_figures_other_gradings_and_notes_are_shown_where_there_are_any():
    more = {"other_scorings": {"official": {"accuracy": 0.41, "num_scored": 2}}, "truncated_share": 0.5}
    more |= {"notes": {"sound cut off": 3}, "judge": {"num_asked": 4, "num_failed": 1}}
    found = cells(screen(results_table(result(replies([1.0, 0.0], ident="i"), Once, **more))))
    for row in (["right", "1"], ["the same replies, scoring official", "41.0"], ["sound cut off", "3"]):
        assert row in found
    assert ["replies cut off by the length limit", "50.0 %"] in found
    assert ["shown to a judge, without a verdict", "4, 1"] in found
    assert ["further figures"] not in cells(screen(results_table(result(replies([1.0])))))


def test_the_overview_has_a_line_for_each_benchmark_beside_the_papers_figures():
    found = [result(replies([1.0, 0.0])), result(replies([1.0] * 4))]
    text = screen(overview_table(found, ["micro"]))
    rows = cells(text)
    assert ["Plain", "50.0", "[0.0, 100.0]", "2/4", "0.0", "44.2", "45.4", "49.1"] in rows
    assert ["Plain", "100.0", "[100.0, 100.0]", "4", "0.0", "44.2", "45.4", "49.1"] in rows
    assert ["micro-world", "absent", "-", "-", "-", "-", "-", "-"] in rows
    assert max(map(len, text.splitlines())) <= 80
    assert "| Plain | 50.0 | [0.0, 100.0] | 2/4 | 0.0 | 44.2 | 45.4 | 49.1 |" in overview_markdown(found, ["micro"])


def test_every_title_fits_into_the_overview():
    for name in BENCHMARKS:
        found = {**result(replies([0.5, 1.0])), "benchmark": name, "title": BENCHMARKS[name].title}
        assert any(
            line.startswith(f"{BENCHMARKS[name].title} ") for line in screen(overview_table([found])).splitlines()
        )


def test_only_what_is_not_significant_has_a_dagger():
    a = result([reply(i, float(i < 20), kind="same" if i < 30 else "other") for i in range(60)])
    b = result([reply(i, float(i < 20 or i >= 30), kind="same" if i < 30 else "other") for i in range(60)])
    comparison = compare(a, b)
    text, written = screen(compare_table(comparison)), compare_markdown(comparison)
    for rows in (cells(text), cells(written)):
        assert ["same", "66.7", "66.7", "+0.0", "†", "[+0.0, +0.0]", "30"] in rows
        assert ["other", "0.0", "100.0", "+100.0", "[+100.0, +100.0]", "30"] in rows
        (line,) = (row for row in rows if row[:1] == ["all questions"])
        assert line[:4] == ["all questions", "33.3", "83.3", "+50.0"]
        assert "†" not in line
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Plain: accuracy 33.3 % and 83.3 %, B - A +50.0 [")


def test_what_to_beware_of_stands_above_a_comparison():
    text = screen(compare_table(compare(result(replies([1.0, 0.0])), result(replies([1.0])))))
    assert "note: 1 question is only in A and left out" in text


def test_many_labels_are_cut_short_on_the_screen_and_not_in_the_file():
    labels = {f"label{i}": {"score": 0.5, "interval": None, "n": 2} for i in range(30)}
    results = {**result(replies([1, 0])), "groups": {"kind": labels}}
    text = screen(results_table(results))
    assert "label19" in text
    assert "label20" not in text
    assert "... and 10 more, in the files of the result." in text
    assert "label29" in results_markdown(results)
