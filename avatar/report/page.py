"""The page: one HTML file that holds its figures, and needs nothing else to be shown or printed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 46rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0.5rem; }
figure { margin: 0; break-inside: avoid; } img { width: 100%; height: auto; }
figcaption, .note { font-size: 0.92rem; color: #333; }
.wide { overflow-x: auto; margin: 1rem 0; } table { border-collapse: collapse; font-size: 0.9rem; width: 100%; }
th, td { text-align: right; padding: 0.25rem 0.6rem; border-bottom: 1px solid #ccc; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 1.5px solid #111; }
td.text, th.text { text-align: left; overflow-wrap: break-word; }
h2 { break-after: avoid; } a { color: inherit; }
@media print { body { max-width: none; margin: 0; font-size: 10.5pt; } a.file { display: none; } }
"""


@dataclass(frozen=True)
class Shown:
    """A figure on the page.

    Attributes:
        name: Of its files, in ``figures/`` beside the page.
        title: Its heading.
        caption: What is said under it.
        alt: What it looks like.
    """

    name: str
    title: str
    caption: str
    alt: str


def page_of(
    title: str,
    intro: Sequence[str],
    tables: Sequence[str],
    figures: Sequence[Shown],
    closing: Sequence[str],
    folder: Path,
) -> str:
    """The whole page.

    Args:
        title: Plain text.
        intro: Paragraphs, plain text.
        tables: HTML.
        figures: In order; their SVG lies in ``folder``.
        closing: HTML of what follows the figures.
        folder: Of the figures.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(text)}</p>" for text in intro),
        *tables,
        *(_figure(number, shown, folder) for number, shown in enumerate(figures, 1)),
        *closing,
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts) + "\n</body>\n</html>\n"
    )  # fmt: skip


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """A table of plain text, its first columns to the left."""
    lines = [_row("th", header, text_columns), *(_row("td", row, text_columns) for row in rows)]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def section(title: str, body: str) -> str:
    """A heading, and HTML under it."""
    return f"<h2>{escape(title)}</h2>\n{body}"


def listing(items: Mapping[str, str]) -> str:
    """A list of names and what is said of each, plain text."""
    lines = (f"<li><b>{escape(name)}</b>: {escape(text)}</li>" for name, text in items.items())
    return "<ul>\n" + "\n".join(lines) + "\n</ul>"


def _figure(number: int, shown: Shown, folder: Path) -> str:
    picture = base64.b64encode((folder / f"{shown.name}.svg").read_bytes()).decode()
    links = " ".join(
        f'<a class="file" href="figures/{shown.name}.{ending}">{ending.upper()}</a>' for ending in ("png", "svg")
    )
    return (
        f'<h2 id="{shown.name}">{number}. {escape(shown.title)}</h2>\n<figure>\n'
        f'<img alt="{escape(shown.alt)}" src="data:image/svg+xml;base64,{picture}">\n'
        f"<figcaption>{escape(shown.caption)} {links}</figcaption>\n</figure>"
    )


def _row(cell: str, values: Sequence[str], text_columns: int) -> str:
    marks = [' class="text"' if i < text_columns else "" for i in range(len(values))]
    inner = "".join(f"<{cell}{mark}>{escape(v)}</{cell}>" for mark, v in zip(marks, values, strict=True))
    return f"<tr>{inner}</tr>"
