"""Writes a report: the page, its figures, and the numbers behind them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avatar.benchmarks.writing import naming_file, write_whole
from avatar.errors import ConfigError
from avatar.report.arms import Arm, Runs
from avatar.report.figures import FIGURES, Figure
from avatar.report.look import numbers, save, style
from avatar.report.page import Shown, listing, page_of, section, table
from avatar.report.runs import ACCURACY
from avatar.report.table import cells, rows_of

KIND, VERSION = "avatar report", 1
READING = (
    "Intervals are of the mean over runs: 2,000 times as many runs are drawn with replacement, and the middle 95 % of "
    "their means is shown. Of two or three runs such an interval is too narrow, and it knows nothing of what all runs "
    "share, such as the questions. Nothing here is corrected for looking at several figures."
)


@dataclass(frozen=True)
class Written:
    """What a report came to.

    Attributes:
        page: The page.
        drawn: Names of the figures on it.
        missing: What was needed for each of the others, by title.
    """

    page: Path
    drawn: tuple[str, ...]
    missing: Mapping[str, str]


def check_out(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier report.

    Raises:
        ConfigError: It does, or it is a file.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; give a folder that is new or holds an earlier report")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out / "report.json"):
        raise ConfigError(
            f"--out {out} has files in it that no `avatar report` has written (there is no report.json of ours); "
            "give another folder, so that nothing is lost"
        )


def write_report(
    runs: Runs, out: Path, left_out: Mapping[str, str], title: str, summaries: Mapping[Path, str] | None = None
) -> Written:
    """Draw all figures and write ``index.html``, ``report.json``, ``figures/*.png`` and ``*.svg``.

    The same runs give the same bytes.

    Args:
        runs: At least one.
        out: Folder; see :func:`check_out`.
        left_out: Why a run was left out, by its folder.
        title: Of the page.
        summaries: HTML of a sweep's own table, by its folder; its arms are not in ours then.

    Raises:
        ConfigError: See :func:`check_out`.
        AvatarError: A file cannot be written.
    """
    check_out(out)
    started = {"kind": KIND, "version": VERSION, "finished": False}  # so that what a crash leaves is known as ours
    write_whole(out / "report.json", json.dumps(started) + "\n")
    drawn = _draw_all(runs, out / "figures")
    missing = {kind.title: f"needs {kind.needs}" for kind in FIGURES if kind.name not in drawn}
    shown = [Shown(k.name, k.title, drawn[k.name].caption, drawn[k.name].alt) for k in FIGURES if k.name in drawn]
    tables = _tables(runs, summaries or {})
    closing = [_left_out(runs, left_out, missing), section("How to read it", f"<p>{READING}</p>"), _all_runs(runs)]
    page = page_of(title, _intro(runs, left_out), tables, shown, closing, out / "figures")
    write_whole(out / "index.html", page)
    report = _report(runs, drawn, left_out, missing, title)
    write_whole(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    return Written(out / "index.html", tuple(drawn), missing)


def _draw_all(runs: Runs, folder: Path) -> dict[str, Figure]:
    """Draw and save; files of figures that an earlier report had and this one has not are removed."""
    drawn = {}
    for kind in FIGURES:
        with style(), naming_file(folder):
            if (figure := kind.draw(runs)) is not None:
                save(figure.picture, folder, kind.name)
                drawn[kind.name] = figure
                continue
            for ending in ("png", "svg"):
                (folder / f"{kind.name}.{ending}").unlink(missing_ok=True)
    return drawn


def _report(
    runs: Runs, drawn: Mapping[str, Figure], left_out: Mapping[str, str], missing: Mapping[str, str], title: str
) -> dict[str, Any]:
    return {
        "kind": KIND,
        "version": VERSION,
        "finished": True,
        "title": title,
        "targets": list(runs.targets),
        "arms": [
            {"label": arm.label, "baseline": arm.baseline, "runs": [str(run.place.folder) for run in arm.runs]}
            for arm in runs.arms
        ],
        "table": numbers(rows_of(runs)),
        "figures": {name: {"caption": figure.caption, "numbers": figure.numbers} for name, figure in drawn.items()},
        "not_drawn": dict(missing),
        "left_out": dict(left_out),
    }


def _intro(runs: Runs, left_out: Mapping[str, str]) -> list[str]:
    used = _counted(runs.runs, "run")
    rest = f" {_counted(left_out, 'run')} could not be used; the end of the page says why." if left_out else ""
    sweeps = {run.place.sweep.folder: run.place.sweep for run in runs.runs if run.place.sweep}
    made = [f"{sweep.title}: made by {sweep.command}" for sweep in sweeps.values() if sweep.command]
    return [f"{used} in {_counted(runs.arms, 'arm')}.{rest}", *made]


def _counted(things: Iterable[Any], word: str) -> str:
    number = len(list(things))
    return f"{number} {word}{'' if number == 1 else 's'}"


def _tables(runs: Runs, summaries: Mapping[Path, str]) -> list[str]:
    """Those of sweeps, and ours for all other arms."""
    sweeps = {run.place.sweep.folder: run.place.sweep.title for run in runs.runs if run.place.sweep}
    others = tuple(arm for arm in runs.arms if _sweep_folder(arm) not in summaries)
    found = [section(sweeps[folder], html) for folder, html in summaries.items()]
    if others:
        body = table(*cells(replace(runs, arms=others))) + f'<p class="note">{_about_table(runs)}</p>'
        found.append(section("Arms", body))
    return found


def _sweep_folder(arm: Arm) -> Path | None:
    sweep = arm.runs[0].place.sweep
    return sweep.folder if sweep else None


def _about_table(runs: Runs) -> str:
    alone = all(len(arm.runs) == 1 for arm in runs.arms)
    means = "" if alone else "Means over the runs of an arm, of a target over those that reached it. "
    targets = " and ".join(f"{target:.2f}" for target in runs.targets)
    return (
        f"{means}Last and best accuracy are of validation; to {targets}: completions generated at the first validation "
        "that was as good. Seconds are of training, validation not counted, in all and a step."
    )


def _left_out(runs: Runs, left_out: Mapping[str, str], missing: Mapping[str, str]) -> str:
    unseen = [run.place.folder for run in runs.runs if run.last_accuracy is None]
    notes = {str(folder): f"no validation ({ACCURACY}), so it is in no figure of accuracy" for folder in unseen}
    parts = [("Runs", {**left_out, **notes}), ("Figures", missing)]
    body = "\n".join(f"<p>{name}:</p>\n{listing(items)}" for name, items in parts if items)
    return section("What is left out, and why", body or "<p>Nothing.</p>")


def _all_runs(runs: Runs) -> str:
    rows: Sequence[Sequence[str]] = [(arm.label, str(run.place.folder)) for arm in runs.arms for run in arm.runs]
    return section("Runs", table(("arm", "folder"), rows, 2))


def _is_ours(file: Path) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND
