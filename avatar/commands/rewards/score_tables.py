"""What ``avatar rewards score`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

BARS = " ▁▂▃▄▅▆▇█"
HEAD, TAIL = 90, 110  # characters of a completion that are shown
ASKED_WIDTH = 24  # columns of the terminal


def print_figures(console: Console, path: str, figures: dict[str, Any]) -> None:
    """All tables, one below the other."""
    flat, groups = figures["zero_spread_groups"], figures["groups"]
    title = f"{path}: {figures['completions']} completions in {groups} groups, scored by {figures['mix']}"
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(distribution_table(figures["rewards"]))
    console.print(
        Text(f"{flat / groups:.1%} of the groups ({flat}) have no spread: under this mix they teach nothing.")
    )
    if figures["pairs"]:
        _head(console, "Do the rewards agree on what is good? (high: in its upper half, low: in its lower half)")
        console.print(pair_table(figures["pairs"]))
    if figures["stored"]:
        _head(console, "Against the rewards in the file")
        console.print(change_table(figures["stored"]))
    for name, cases in figures["worst"].items():
        if cases:
            _head(console, name.capitalize())
            console.print(case_table(cases))


def _head(console: Console, title: str) -> None:
    console.print(Text(f"\n{title}", "bold"))


def distribution_table(rewards: dict[str, dict[str, Any]]) -> Table:
    """A row a reward: how many are valid, moments, quartiles, shares of 0 and 1, and a histogram."""
    table = _table("reward", gap=0)
    for name in ("valid", "mean", "sd", "min", "quartiles", "max", "=0", "=1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("spread", no_wrap=True)
    for name, figures in rewards.items():
        if not figures["valid"]:
            table.add_row(Text(name), "0")
            continue
        moments = [_short(figures[key]) for key in ("mean", "sd", "min")]
        quartiles = " ".join(_short(figures[key]) for key in ("q25", "median", "q75"))
        shares = [f"{figures[key]:.0%}" for key in ("share_0", "share_1")]
        cells = [str(figures["valid"]), *moments, quartiles, _short(figures["max"]), *shares]
        style = "bold" if name == "reward" else "dim" if "/" in name else None
        table.add_row(Text(name), *cells, bars(figures["histogram"]["counts"]), style=style)
    return table


def bars(counts: Sequence[int]) -> str:
    """A character a bin, the fullest bin full; what is not empty is seen."""
    top = max(counts)
    return "".join(BARS[-(-count * 8 // top)] for count in counts)


def pair_table(pairs: Sequence[dict[str, Any]]) -> Table:
    """How far each two rewards agree on what is good."""
    table = _table("pair")
    for name in ("rank\ncorrelation", "first high,\nsecond low", "first low,\nsecond high"):
        table.add_column(name, justify="right")
    for pair in pairs:
        rho = pair["rank_correlation"]
        counts = (str(pair["one_high_other_low"]), str(pair["one_low_other_high"]))
        table.add_row(Text(f"{pair['one']}, {pair['other']}"), "-" if rho is None else f"{rho:.2f}", *counts)
    return table


def change_table(changes: Sequence[dict[str, Any]]) -> Table:
    """How far the stored rewards were others."""
    table = _table("reward")
    for name in ("stored", "changed"):
        table.add_column(name, justify="right")
    table.add_column("biggest change")
    for change in changes:
        case, most = change["case"], "none"
        if change["changed"]:
            most = f"{change['before']:.3f} -> {change['now']:.3f}, line {case['line']} ({case['prompt']})"
        table.add_row(Text(change["reward"]), str(change["stored"]), str(change["changed"]), _plain(most))
    return table


def case_table(cases: Sequence[dict[str, Any]]) -> Table:
    """Completions with their gold answers and all parts."""
    table = _table("line")
    table.add_column("prompt, gold", overflow="fold", max_width=ASKED_WIDTH)
    table.add_column("completion", overflow="fold")
    table.add_column("reward and parts", no_wrap=True)
    for case in cases:
        parts = {"reward": case["reward"], **{name: v for name, v in case["parts"].items() if "/" not in name}}
        width = max(map(len, parts))
        lines = [f"{key:<{width}} {'-' if value is None else f'{value:.2f}':>5}" for key, value in parts.items()]
        asked = _plain(f"{case['prompt']}\n{middle_cut(case['gold'], 30, 30)}")
        table.add_row(str(case["line"]), asked, _plain(middle_cut(case["completion"])), "\n".join(lines))
    return table


def middle_cut(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """On one line; of a long text its beginning and its end, where the answer is."""
    line = " ".join(text.split())
    return line if len(line) <= head + tail + 5 else f"{line[:head]} ... {line[-tail:]}"


def _table(first: str, gap: int = 1) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold")
    return table


def _short(value: float) -> str:
    return f"{value:.2f}"


def _plain(text: str) -> Text:
    """As it is: brackets would be markup, and a terminal obeys what a hostile text may hold."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text))
