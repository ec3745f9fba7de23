"""What has been done, as files that are whole or not there: ``stage.json`` in each stage's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avatar.commands.curriculum.plan import Planned
from avatar.commands.folders import data_fingerprint, differences, fingerprint, set_folder_aside
from avatar.errors import ConfigError
from avatar.modules.logs import replace_text


@dataclass
class Record:
    """What ``stage.json`` holds of a stage.

    Attributes:
        settings: Arguments that it was run with.
        start: The model that it started from, by content.
        data: What it trained and validated on, by content.
        began: When the sitting began that is not over, in seconds since 1970.
        seconds: Of the sittings before, up to their last checkpoints.
        finished: Whether the training is over and the model exported.
        model: The exported model, by content.
        steps: Optimizer steps taken.
        completions: New completions generated; None for a stage that generates none.
        tests: Results by the test's name.
    """

    settings: dict[str, Any]
    start: str
    data: dict[str, str]
    began: float = 0.0
    seconds: float = 0.0
    finished: bool = False
    model: str | None = None
    steps: int = 0
    completions: int | None = None
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def save(self, stage: Planned) -> None:
        """Write it, in one piece."""
        stage.folder.mkdir(parents=True, exist_ok=True)
        replace_text(stage.folder / "stage.json", json.dumps(asdict(self), indent=1) + "\n")


def read_record(stage: Planned) -> Record | None:
    """What was written of a stage; None if it was never begun."""
    path = stage.folder / "stage.json"
    return Record(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def new_record(stage: Planned) -> Record:
    """Of a stage that begins now; the folders that it reads are looked at."""
    data = {folder: data_fingerprint(folder) for folder in stage.data}
    return Record(stage.settings, fingerprint(stage.start), data)


def check_records(stages: Sequence[Planned], contents: bool = True) -> dict[str, Record | None]:
    """What has been done of each stage, refused where it would not be done so now.

    Args:
        stages: Those that are to be run, in order.
        contents: Look into data and models, too; not before the data are made.

    Raises:
        ConfigError: The config, the data or the model that a stage was run from has changed; its exported model is not
            the one that it wrote; or its folder holds a run of another command.
    """
    records = {stage.name: read_record(stage) for stage in stages}
    for i, stage in enumerate(stages):
        record = records[stage.name]
        if record is None:
            _check_empty(stage)
            continue
        if i and not (before := records[stages[i - 1].name] or Record({}, "", {})).finished:
            raise ConfigError(
                f"stage {stage.name} was run from a model of stage {stages[i - 1].name} that is not there any more: "
                f"{stages[i - 1].name} is {'half done' if before.began else 'to be done'}. {_way_out(stage)}"
            )
        check_settings(stage, record)
        if contents:
            check_contents(stage, record)
    return records


def check_settings(stage: Planned, record: Record) -> None:
    """Refuse a stage that would be run with other arguments now; see :func:`check_records`."""
    if changes := differences(record.settings, stage.settings):
        lines = "".join(f"\n  {change}" for change in changes[:8])
        raise ConfigError(
            f"stage {stage.name} was {_done(record)} with other settings; then -> now:{lines}\n{_way_out(stage)}"
        )


def check_contents(stage: Planned, record: Record) -> None:
    """Refuse a stage whose start, data or exported model is not what it was; see :func:`check_records`."""
    now = new_record(stage)
    if record.start != now.start:
        raise ConfigError(
            f"stage {stage.name} was {_done(record)} from another model than the one that lies in {stage.start} now. "
            f"{_way_out(stage)}"
        )
    if changed := [folder for folder, was in record.data.items() if now.data.get(folder) != was]:
        raise ConfigError(f"stage {stage.name}: the data in {changed[0]} have changed since. {_way_out(stage)}")
    if record.finished and fingerprint(stage.exported) != record.model:
        raise ConfigError(f"stage {stage.name}: {stage.exported} is not the model that it wrote. {_way_out(stage)}")


def restart(stages: Sequence[Planned], name: str) -> list[Path]:
    """Set aside the folder of a stage and of all after it; returns where they lie now."""
    after = list(stages)[[stage.name for stage in stages].index(name) :]
    return [set_folder_aside(stage.folder) for stage in after if stage.folder.exists()]


def _check_empty(stage: Planned) -> None:
    if stage.folder.exists() and any(stage.folder.iterdir()):
        raise ConfigError(
            f"stage {stage.name}: {stage.folder} holds a run that `avatar curriculum` did not begin. {_way_out(stage)}"
        )


def _done(record: Record) -> str:
    return "run" if record.finished else "begun"


def _way_out(stage: Planned) -> str:
    return (
        f"Give another --out; or pass --restart {stage.name}, which sets {stage.folder} and the stages after it aside "
        "and runs them anew"
    )
