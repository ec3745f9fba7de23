"""The table of attacks x rewards, on as many screens as the terminal is narrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avatar.rewards.attacks.trials import RIGHT, WRONG, Trial

NAME_WIDTH, GAP, LEAST_CELL = 26, 2, 5  # columns of the terminal
ANY = "any"


@dataclass(frozen=True)
class Column:
    """Scores of one reward, on one problem type or, where it makes no difference, on any."""

    reward: str
    kinds: tuple[str, ...]

    @property
    def title(self) -> str:
        """What stands over it."""
        return self.kinds[0] if len(self.kinds) == 1 else ANY

    @property
    def width(self) -> int:
        """In columns of the terminal, with the gap before it."""
        return max(LEAST_CELL, len(self.title)) + GAP


def columns_of(trial: Trial) -> list[Column]:
    """One column a reward whose scores are the same on all types, else one a type."""
    columns: list[Column] = []
    for reward in trial.rewards:
        if _depends(trial, reward):
            columns += [Column(reward, (kind,)) for kind in trial.types]
        else:
            columns.append(Column(reward, tuple(trial.types)))
    return columns


def _depends(trial: Trial, reward: str) -> bool:
    """Whether any row has two scores that look different."""
    tables = [trial.scores[reward, kind] for kind in trial.types]
    rows = {row for table in tables for row in table}
    return any(len({_number(table[row]) for table in tables if row in table}) > 1 for row in rows)


def pages(columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """Columns that fit beside the names, the types of a reward together where they fit on a page of their own."""
    rewards = dict.fromkeys(column.reward for column in columns)
    page: list[Column] = []
    for reward in rewards:
        block = [column for column in columns if column.reward == reward]
        if page and _width([*page, *block]) > width:
            yield page
            page = []
        for column in block:
            if page and _width([*page, column]) > width:
                yield page
                page = []
            page.append(column)
    if page:
        yield page


def _width(columns: Sequence[Column]) -> int:
    return NAME_WIDTH + sum(column.width for column in columns)


def print_trial(console: Console, trial: Trial, notes: Sequence[str]) -> None:
    """The table, then what it means, then each attack that earns too much."""
    for page in pages(columns_of(trial), console.width):
        console.print(attack_table(trial, page))
    for note in notes:
        console.print(Text(note, "dim"))
    for name in trial.blind:
        said = "pays a right answer no more than a wrong one. If it is not meant to look at the answer: earns = False"
        console.print(Text(f"{name} {said}", "bold red"))
    if not trial.wins:
        console.print(
            Text(f"None of {len(trial.attacks)} attacks earns more than an honest wrong answer.", "bold green")
        )
        return
    names = list(dict.fromkeys(win.attack for win in trial.wins))
    console.print(
        Text(f"{len(names)} of {len(trial.attacks)} attacks earn more than an honest wrong answer:", "bold red")
    )
    for name in names:
        console.print(Text(name, "red"))
        for reward in trial.rewards:
            if here := [win for win in trial.wins if (win.attack, win.reward) == (name, reward)]:
                said = ", ".join(f"{w.problem_type} {w.score:.2f} ({w.allowed:.2f} allowed)" for w in here)
                console.print(Text(f"  {reward}: {said}"))


def attack_table(trial: Trial, columns: Sequence[Column]) -> Table:
    """Rows are completions, the honest ones first; columns are rewards, by problem type where they depend on it."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("completion", width=NAME_WIDTH - GAP, no_wrap=True)
    before = ""
    for column in columns:
        head = column.reward if column.reward != before else ""
        table.add_column(Text(f"{head}\n{column.title}"), justify="right", no_wrap=True, min_width=LEAST_CELL)
        before = column.reward
    won = {(win.attack, win.reward, win.problem_type) for win in trial.wins}
    for name in (RIGHT, WRONG, *trial.attacks):
        cells = [_cell(trial, name, column, won) for column in columns]
        red = any(cell.style == "bold red" for cell in cells)
        style = "bold" if name in (RIGHT, WRONG) else ""
        table.add_row(Text(name, "red" if red else style), *cells, end_section=name == WRONG)
    return table


def _cell(trial: Trial, name: str, column: Column, won: set[tuple[str, str, str]]) -> Text:
    kinds = [kind for kind in column.kinds if name in trial.scores[column.reward, kind]]
    if not kinds:
        return Text("")
    red = any((name, column.reward, kind) in won for kind in kinds)
    number = _number(trial.scores[column.reward, kinds[0]][name])
    return Text(f"{number}!" if red else number, "bold red" if red else "dim" if number in ("0", "-") else "")


def _number(score: float) -> str:
    if score != score:
        return "-"
    return "0" if abs(score) < 0.005 else f"{score:.2f}"
