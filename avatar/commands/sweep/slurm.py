"""Cells as SLURM jobs: an array with a job for each, handed in by submitit (the extra ``slurm``).

A job is one process on one node. Cut off by its time limit or preempted, it is queued again and goes on from its last
checkpoint. Ctrl-C ends the watching and not the jobs: the same command, given again, finds them and watches on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from avatar.commands.folders import locked
from avatar.commands.sweep.options import Options
from avatar.commands.sweep.order import Order, mark_failed
from avatar.commands.sweep.record import Record, read_record
from avatar.errors import ConfigError
from avatar.modules.logs import replace_text

POLL = 2.0  # seconds between two looks at the jobs
QUEUED_AGAIN = 144  # status by which submitit's stand-in for a cluster knows a job that goes on; SLURM does not ask
DEFAULTS = {"timeout_min": 24 * 60, "cpus_per_task": 1}
# Parameters that submitit knows for any cluster; all others are SLURM's and carry its name.
GENERAL = (
    "name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout",
)  # fmt: skip
_ENDED = "its SLURM job {} ended as {} before the cell did; see {}"


class RunCell:
    """What a job does.

    Args:
        home: Where locks lie, one a cell: a job that SLURM has started twice does nothing the second time.
    """

    def __init__(self, home: str) -> None:
        self.home, self.cut_off = home, False

    def __call__(self, order: Order) -> str:
        """Run the cell, from its last checkpoint if it has one; returns how it ended."""
        from avatar.commands.sweep.worker import run_order

        with locked(Path(self.home) / "locks" / order.name, "another job"):
            before = read_record(Path(order.folder))
            if before is not None and before.status == "finished":  # and then cut off before the job could say so
                return before.status
            record = run_order(order, {})
            if self.cut_off and record.status != "finished":
                self._leave(order, record)
            return record.status

    def _leave(self, order: Order, record: Record) -> NoReturn:
        """SLURM takes the machine away, which is no failure of the cell; no result is left, as the job is not done."""
        record.status, record.error = "stopped", None
        record.save(Path(order.folder))
        sys.exit(QUEUED_AGAIN)

    def checkpoint(self, order: Order) -> Any:
        """What submitit queues in the place of a job that is cut off: the same again."""
        self.cut_off = True
        return _submitit().helpers.DelayedSubmission(RunCell(self.home), order)


def run_slurm(
    orders: Sequence[Order], options: Options, tick: Callable[[list[str]], None], cluster: str = "slurm"
) -> bool:
    """Hand in a job for each cell that has none yet, and watch them until all have ended.

    Args:
        orders: What is to be run.
        options: ``jobs`` is how many run at a time; ``slurm`` parameters of the jobs.
        tick: Called with the names of the cells under way.
        cluster: As submitit names it; ``local`` runs them here, for tests.

    Returns:
        Whether Ctrl-C stopped it. The jobs go on.

    Raises:
        ConfigError: submitit is not installed, a parameter is unknown, or SLURM has refused the jobs.
    """
    by_name = {order.name: order for order in orders}
    jobs = _jobs_of(orders, options, cluster)
    try:
        while jobs:
            ended = [name for name, job in jobs.items() if job.done()]
            tick([name for name in jobs if name in ended or _is_running(by_name[name])])
            for name in ended:
                _close(by_name[name], jobs.pop(name))
            time.sleep(POLL if jobs else 0)
    except KeyboardInterrupt:
        ids = sorted({str(job.job_id).split("_")[0] for job in jobs.values()})
        print(f"{len(jobs)} jobs go on without this command; to end them: scancel {' '.join(ids)}", file=sys.stderr)
        return True
    return False


def parameters_of(options: Options) -> dict[str, Any]:
    """What submitit is told of the jobs: ``--slurm KEY=VALUE`` over our defaults, values as in YAML.

    Raises:
        ConfigError: One is not of the form ``KEY=VALUE``.
    """
    parameters: dict[str, Any] = {**DEFAULTS, "name": f"avatar-{options.folder.name}"}
    parameters["slurm_array_parallelism"] = options.jobs
    for text in options.slurm:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--slurm {text!r}: wanted KEY=VALUE, as in partition=gpu or timeout_min=600")
        key = key.strip()
        known = key in GENERAL or key.startswith("slurm_")
        parameters[key if known else f"slurm_{key}"] = yaml.safe_load(value)
    return parameters


def _jobs_of(orders: Sequence[Order], options: Options, cluster: str) -> dict[str, Any]:
    """The job of each cell: one that an earlier command has handed in and that still waits or runs, or a new one."""
    submitit, home = _submitit(), options.folder / "slurm"
    home.mkdir(parents=True, exist_ok=True)
    path = home / "jobs.json"
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    of_kind = submitit.SlurmJob if cluster == "slurm" else submitit.LocalJob
    jobs = {}
    for order in orders:
        if order.name in known and _is_alive(job := of_kind(folder=home, job_id=known[order.name])):
            jobs[order.name] = job
    if new := [order for order in orders if order.name not in jobs]:
        jobs |= dict(zip([order.name for order in new], _submit(new, options, home, cluster), strict=True))
        replace_text(path, json.dumps(known | {name: str(job.job_id) for name, job in jobs.items()}, indent=1) + "\n")
    return jobs


def _submit(orders: Sequence[Order], options: Options, home: Path, cluster: str) -> Sequence[Any]:
    submitit, parameters = _submitit(), parameters_of(options)
    try:
        executor = submitit.AutoExecutor(folder=home, cluster=cluster)
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, ValueError, AssertionError, TypeError) as error:
        raise ConfigError(f"--launcher slurm: {error}") from None
    try:
        jobs: Sequence[Any] = executor.map_array(RunCell(str(home)), orders)
    except submitit.core.utils.FailedJobError as error:
        raise ConfigError(f"--launcher slurm: the jobs were refused: {error}") from None
    return jobs


def _is_alive(job: Any) -> bool:
    """Whether a job still waits or runs; one that SLURM knows nothing of does not."""
    return not job.done(force_check=True) and str(job.state).upper() != "UNKNOWN"


def _is_running(order: Order) -> bool:
    record = read_record(Path(order.folder))
    return record is not None and record.status == "running"


def _close(order: Order, job: Any) -> None:
    """A job that has ended without a word about its cell has failed."""
    record = read_record(Path(order.folder))
    if record is None or record.status == "running":
        mark_failed(order, _ENDED.format(job.job_id, job.state, job.paths.stderr))


def _submitit() -> Any:
    try:
        import submitit
        import submitit.helpers
    except ImportError:
        raise ConfigError("--launcher slurm needs submitit: pip install 'avatar-rl[slurm]'") from None
    return submitit
