"""Running stages and tests, each in the place where an earlier call has left off."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from avatar.commands.curriculum.plan import Planned
from avatar.commands.curriculum.recipe import StageTest
from avatar.commands.curriculum.state import Record, new_record
from avatar.commands.folders import data_fingerprint, fingerprint
from avatar.commands.parsed import as_arguments, naming
from avatar.commands.train import AvatarCLI
from avatar.errors import AvatarError, ConfigError

KEPT = ("accuracy", "num_scored", "num_skipped", "unparsed_share", "truncated_share", "completion_length")


class _TestCLI(AvatarCLI):
    """``avatar test`` whose files go to a name of their own: two tests may be of one benchmark."""

    def __init__(self, args: Sequence[str], stem: Path) -> None:
        self.stem = stem
        super().__init__(args)

    def after_instantiate_classes(self) -> None:
        """As ever, and the place."""
        super().after_instantiate_classes()
        for data in self.several:
            data.exam.stem = self.stem


def run_stage(stage: Planned, record: Record | None, lock: int) -> Record:
    """Train a stage to its end, from its last checkpoint if it has one.

    Args:
        stage: What to run.
        record: Of it, if it was begun.
        lock: Held by the processes of a stage on several devices, too.

    Raises:
        KeyboardInterrupt: Ctrl-C; the step was finished and saved.
        AvatarError: It could not be run.
    """
    resumed = record is not None and stage.checkpoint.is_file()
    if record is None or not resumed:
        record = new_record(stage)
    elif record.began:
        record.seconds += max(0.0, stage.checkpoint.stat().st_mtime - record.began)
    record.began = time.time()
    record.save(stage)
    args = [*stage.args, *(["--ckpt_path=last"] if resumed else [])]
    with naming(f"stage {stage.name}"):
        interrupted = _fit_apart(args, lock) if stage.devices > 1 else _fit_here(args)
    if interrupted:
        raise KeyboardInterrupt
    _finish(stage, record)
    return record


def _finish(stage: Planned, record: Record) -> None:
    for path in (stage.exported, stage.checkpoint):
        if not path.exists():
            raise ConfigError(
                f"stage {stage.name} has ended without {path}, which the next stage or the tests need: its config must "
                "leave trainer.fast_dev_run, enable_checkpointing and the checkpoints' folder as they are"
            )
    checkpoint = torch.load(stage.checkpoint, map_location="cpu", weights_only=True, mmap=True)
    record.steps, record.completions = checkpoint["global_step"], checkpoint.get("rl", {}).get("num_generated")
    record.model = fingerprint(stage.exported)
    record.seconds += time.time() - record.began
    record.began, record.finished = 0.0, True
    record.save(stage)


def _fit_here(args: list[str]) -> bool:
    """In this process; True if Ctrl-C stopped it."""
    interrupted = AvatarCLI(args).graceful.interrupted
    gc.collect()  # a model and its optimizer are held in circles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return interrupted


def _fit_apart(args: list[str], lock: int) -> bool:
    """In processes of its own: those of several devices are started by calling the command of the first again."""
    command = [sys.executable, "-m", "avatar.cli", *args]
    child = subprocess.Popen(command, pass_fds=[lock], start_new_session=True)  # noqa: S603
    before = signal.signal(signal.SIGINT, lambda *_: os.killpg(child.pid, signal.SIGINT))
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    if status not in (0, 130):
        raise AvatarError(f"`avatar fit` ended with status {status}; what it said stands above")
    return status == 130


def run_test(stage: Planned, record: Record, test: StageTest) -> None:
    """Ask one test of a finished stage, unless that has been done on the same questions."""
    asked = {"benchmark": test.benchmark, "swap": test.swap, "overrides": test.overrides or {}}
    asked["questions"] = data_fingerprint(test.folder)
    if (record.tests.get(test.label) or {}).get("asked") == asked:
        return
    Console().rule(f"{stage.title}: test {test.label}")
    began = time.time()
    with naming(f"stage {stage.name}, test {test.label}"):
        cli = _TestCLI(test_arguments(stage, test), stage.folder / "test" / test.label)
    results: dict[str, Any] = cli.model.results
    by_kind = {k.removeprefix("accuracy/"): v for k, v in results.items() if k.startswith("accuracy/")}
    kept = {key: results[key] for key in KEPT if key in results}
    record.tests[test.label] = {"asked": asked, **kept, "by_kind": by_kind, "seconds": round(time.time() - began, 1)}
    record.save(stage)


def test_arguments(stage: Planned, test: StageTest) -> list[str]:
    """Of ``avatar test``: the last checkpoint, on the kind of device that it was trained on, one of them."""
    args = [
        "test",
        f"--benchmark={test.benchmark}",
        f"--benchmark_root={test.folder}",
        f"--ckpt_path={stage.checkpoint}",
    ]
    args += [f"--trainer.accelerator={stage.trainer.accelerator}", "--trainer.devices=1"]
    args += [f"--num_threads={json.dumps(stage.num_threads)}", *([f"--swap={test.swap}"] if test.swap else [])]
    return args + as_arguments(test.overrides or {})
