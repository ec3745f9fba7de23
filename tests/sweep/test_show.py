"""The tables of a sweep as text: what stands in a cell, for the screen, for Markdown and for LaTeX."""

import io
import re

import pytest
from rich.console import Console
from tests_sweep import a_record, a_result, a_sweep, level

from avatar.commands.sweep.show import (
    DAGGER,
    accuracy_grid,
    difference,
    grids_of,
    latex_tables,
    markdown_tables,
    number,
    ratio,
    rich_tables,
    target_grid,
)
from avatar.commands.sweep.table import Estimate, summarize

ARMS = ("GRPO_8", "TAS", "AVATAR")
SWEEP = a_sweep(
    f"arm:model.advantage={','.join(ARMS)}", "seed_everything=0,1,2", baseline={"arm": "GRPO_8"}, targets=(0.5, 0.8)
)


def ramp(top, end=1600):
    return a_result([[0, 0.1], [end / 2, 0.1 + top / 2], [end, top]])


@pytest.fixture(scope="module")
def entries():
    """The baseline reaches 0.5 and not 0.8; one run of TAS is missing."""
    tops = {"GRPO_8": (0.6, 0.62, 0.61), "TAS": (0.65, 0.9), "AVATAR": (0.9, 0.95, 0.93)}
    return summarize(
        SWEEP, [a_record(ramp(y), arm=arm, seed=str(i)) for arm, ys in tops.items() for i, y in enumerate(ys)]
    )


def printed(entries, width, title="A title"):
    file = io.StringIO()
    Console(file=file, width=width).print(rich_tables(title, entries))
    return file.getvalue()


def test_a_number_has_its_interval_behind_it():
    assert number(Estimate(0.5, (0.4, 0.6)), ".3f") == "0.500 [0.400, 0.600]"
    assert number(Estimate(0.5), ".3f") == "0.500"
    assert number(Estimate(1234.5), ",.0f") == "1,234"
    assert number(Estimate(None), ".3f") == "-"


def test_a_difference_has_its_sign_and_a_dagger_where_it_may_be_none():
    assert difference(Estimate(0.1, (0.05, 0.2))) == "+0.100 [+0.050, +0.200]"
    assert difference(Estimate(-0.1, (-0.2, -0.05))) == "-0.100 [-0.200, -0.050]"
    assert difference(Estimate(0.1, (-0.05, 0.2))) == f"+0.100 [-0.050, +0.200]{DAGGER}"
    assert difference(Estimate(0.1)) == f"+0.100{DAGGER}"  # of one run nobody knows
    assert difference(Estimate(None)) == difference(None) == ""


def test_a_ratio_has_a_dagger_where_it_may_be_one():
    assert ratio(Estimate(0.5, (0.4, 0.6))) == "0.50 [0.40, 0.60]"
    assert ratio(Estimate(0.9, (0.7, 1.1))) == f"0.90 [0.70, 1.10]{DAGGER}"
    assert ratio(Estimate(0.5)) == f"0.50{DAGGER}"
    assert ratio(None) == ""


def test_every_row_of_every_grid_has_as_many_cells_as_the_head(entries):
    for some in (
        entries,
        entries[:1],
        [],
        summarize(SWEEP | {"baseline": None}, [a_record(ramp(1), arm="TAS", seed="0")]),
    ):
        for grid in grids_of(some):
            assert {len(row) for row in grid.rows} <= {len(grid.head)}


def test_the_first_grid_has_a_row_an_arm_and_the_second_one_an_arm_and_target(entries):
    first, second = accuracy_grid(entries), target_grid(entries)
    assert [row[0] for row in first.rows] == list(ARMS)
    assert [(row[0], row[1]) for row in second.rows] == [(t, arm) for t in ("0.50", "0.80") for arm in ARMS]
    assert second.sections == (0, 3)


def test_missing_runs_and_targets_out_of_reach_are_told(entries):
    first, second = accuracy_grid(entries), target_grid(entries)
    assert [row[first.head.index("runs")] for row in first.rows] == ["3", "2 of 3", "3"]
    reached = [row[second.head.index("reached")] for row in second.rows]
    assert reached == ["3 of 3", "2 of 2", "3 of 3", "0 of 3", "1 of 2", "3 of 3"]
    completions = [row[second.head.index("completions")] for row in second.rows]
    assert [text.startswith("\u2265") for text in completions] == [False, False, False, True, True, False]
    assert completions[3].startswith("\u22651,600")  # all that the baseline was given


def test_markdown_has_as_many_cells_a_row_as_the_header(entries):
    tables = markdown_tables(entries).strip().split("\n\n")
    assert len(tables) == 2
    for table, grid in zip(tables, grids_of(entries), strict=True):
        head, rule, *rows = table.splitlines()
        assert len(rows) == len(grid.rows)
        assert {line.count("|") for line in (head, rule, *rows)} == {len(grid.head) + 1}
        assert set(rule) == set("|- ")


def test_latex_has_as_many_cells_a_row_as_columns_and_nothing_unescaped(entries):
    tables = latex_tables(entries).split("\\begin{tabular}")[1:]
    assert len(tables) == 2
    for table, grid in zip(tables, grids_of(entries), strict=True):
        assert re.match(r"\{l+r+\}", table)[0].count("l") == grid.num_names
        rows = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(grid.head)}
        assert len(rows) == len(grid.rows) + 1
        assert "GRPO\\_8" in table
        assert not re.search(r"(?<!\\)[%#_]", table)
        assert not set(table) & {DAGGER, "\u2265"}
    assert r"$\geq$1,600" in tables[1]
    assert r"$^\dagger$" in tables[1]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_screen_loses_nothing_however_narrow(entries, width):
    text = printed(entries, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\u2026" not in text
    for arm in ARMS:
        assert arm in text
    for grid in grids_of(entries):
        for row in grid.rows:
            for cell in row:
                for part in cell.split(" [")[:1]:
                    assert part in text


def test_brackets_are_no_markup(entries):
    assert "[0." in printed(entries, 160)


def test_a_sweep_without_baseline_has_no_columns_for_it():
    entries = summarize(SWEEP | {"baseline": None}, [a_record(level(0.5), arm="TAS", seed="0")])
    assert not any("baseline" in name for grid in grids_of(entries) for name in grid.head)


def test_a_row_of_which_nothing_has_finished_has_dashes():
    entries = summarize(SWEEP, [a_record(None, status="failed", arm="TAS", seed="0")])
    (row,) = accuracy_grid(entries).rows
    assert row[:3] == ["TAS", "0 of 3", "-"]
