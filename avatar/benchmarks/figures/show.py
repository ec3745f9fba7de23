"""Results on a screen of 80 columns and in Markdown: the headline, by group, what was not scored, the paper's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from avatar.benchmarks.figures.blocks import (
    Block,
    Results,
    asked,
    compare_blocks,
    headline,
    overview_block,
    result_blocks,
)
from avatar.benchmarks.figures.paired import compare_lines

WIDTH, GAP = 80, 2  # columns of the terminal that a table is laid out for; between columns of the table
MOST = 20  # rows of a table on the screen


def results_table(results: Results) -> Group:
    """All that a result says, of many labels the first; the files have all."""
    model = [Text(f"model: {results['model']}")] if results.get("model") else []
    model += [Text(f"asked: {how}")] if (how := asked(results)) else []
    return Group(Text(headline(results), "bold"), *model, *_tables([*map(_short, result_blocks(results))]))


def results_markdown(results: Results) -> str:
    """The same as :func:`results_table`."""
    model = [f"Model: `{results['model']}`"] if results.get("model") else []
    model += [f"Asked: {how}"] if (how := asked(results)) else []
    return "\n\n".join([f"## {headline(results)}", *model, *map(block_markdown, result_blocks(results))]) + "\n"


def overview_table(results: Sequence[Results], absent: Sequence[str] = ()) -> Group:
    """One line a benchmark, with the paper's figures beside it.

    Args:
        results: Of each benchmark that was run.
        absent: Keys of those whose files are not there.
    """
    return Group(*_tables([overview_block(results, absent)]))


def overview_markdown(results: Sequence[Results], absent: Sequence[str] = ()) -> str:
    """The same as :func:`overview_table`."""
    return block_markdown(overview_block(results, absent)) + "\n"


def compare_table(comparison: Results) -> Group:
    """What :func:`avatar.benchmarks.figures.paired.compare` found."""
    first, *lines = compare_lines(comparison)
    return Group(Text(first, "bold"), *map(Text, lines), *_tables(compare_blocks(comparison)))


def compare_markdown(comparison: Results) -> str:
    """The same as :func:`compare_table`."""
    first, *lines = compare_lines(comparison)
    return "\n\n".join([f"## {first}", *lines, *map(block_markdown, compare_blocks(comparison))]) + "\n"


def block_markdown(block: Block) -> str:
    """A table in Markdown, figures to the right, its note below."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rules = "|---|" + "---:|" * (len(block.columns) - 1)
    table = "\n".join([line(block.columns), rules, *map(line, block.rows)])
    return f"{table}\n\n{block.note}" if block.note else table


def _short(block: Block) -> Block:
    """The first rows of a table that would fill the screen."""
    if len(block.rows) <= MOST:
        return block
    note = f"... and {len(block.rows) - MOST} more, in the files of the result."
    return replace(block, rows=block.rows[:MOST], note=note)


def _tables(blocks: Sequence[Block]) -> list[RenderableType]:
    """With names of the same width, so that figures stand below each other."""
    widths = [[max(map(len, column)) for column in zip(block.columns, *block.rows, strict=True)] for block in blocks]
    names = max(width[0] for width in widths)
    figures = max(sum(width[1:]) + GAP * len(width[1:]) for width in widths)
    shown: list[RenderableType] = []
    for block in blocks:
        shown += [Text(), _table(block, min(names, WIDTH - figures))]
        if block.note:
            shown.append(Text(block.note))
    return shown


def _table(block: Block, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(Text(block.columns[0]), min_width=width, overflow="fold")
    for name in block.columns[1:]:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for cells in block.rows:
        table.add_row(*map(Text, cells))
    return table
