"""Cells as SLURM jobs: their parameters, which cells get a new job, and how a job that is lost is told."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests_sweep import a_record, level

from avatar.commands.sweep import slurm
from avatar.commands.sweep.options import Options
from avatar.commands.sweep.order import Order
from avatar.commands.sweep.record import read_record
from avatar.errors import ConfigError


def test_parameters_are_those_of_submitit_with_values_as_in_yaml():
    options = Options(
        out="runs/pool", jobs=8, slurm=["partition=gpu", "timeout_min=600", "gpus_per_node=1", "slurm_qos=low"]
    )
    assert slurm.parameters_of(options) == {
        "name": "avatar-pool",
        "timeout_min": 600,
        "cpus_per_task": 1,
        "gpus_per_node": 1,
        "slurm_partition": "gpu",
        "slurm_qos": "low",
        "slurm_array_parallelism": 8,
    }
    more = slurm.parameters_of(
        Options(slurm=["additional_parameters={account: a, requeue: true}", "setup=[module load x]"])
    )
    assert more["slurm_additional_parameters"] == {"account": "a", "requeue": True}
    assert more["slurm_setup"] == ["module load x"]
    assert more["timeout_min"] == 1440  # submitit's own five minutes would cut every cell off


@pytest.mark.parametrize("text", ["partition", "=gpu", ""])
def test_a_parameter_without_key_or_value_is_refused(text):
    with pytest.raises(ConfigError, match="wanted KEY=VALUE, as in partition=gpu"):
        slurm.parameters_of(Options(slurm=[text]))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"--launcher slurm needs submitit: pip install 'avatar-rl\[slurm\]'"):
        slurm.run_slurm([], Options(out="x"), print)


class Cluster:
    """Stands in the place of submitit: jobs that are called when somebody asks for them a second time."""

    def __init__(self, fate=None):
        self.fate = fate or (lambda name: "finished")
        self.submitted, self.parameters, self.states = [], {}, {}
        cluster = self

        class Job:
            def __init__(self, folder, job_id):
                self.job_id, self.paths = job_id, SimpleNamespace(stderr=Path(folder) / f"{job_id}_log.err")
                self.order, self.looks = None, 0

            @property
            def state(self):
                return cluster.states.get(self.job_id, "UNKNOWN")

            def done(self, force_check=False):
                self.looks += 1
                if self.order and self.looks == 2:
                    cluster.end(self)
                return self.state not in ("PENDING", "RUNNING", "UNKNOWN")

        class AutoExecutor:
            def __init__(self, folder, cluster):
                self.folder = folder

            def update_parameters(self, **parameters):
                if "slurm_partitoin" in parameters:
                    raise NameError("Unknown argument 'partitoin'")
                cluster.parameters = parameters

            def map_array(self, function, orders):
                jobs = [Job(self.folder, f"7_{i}") for i in range(len(orders))]
                for job, order in zip(jobs, orders, strict=True):
                    job.order, cluster.states[job.job_id] = order, "PENDING"
                    cluster.submitted.append(order.name)
                return jobs

        self.SlurmJob = self.LocalJob = Job
        self.AutoExecutor, self.helpers = AutoExecutor, None
        self.core = SimpleNamespace(utils=SimpleNamespace(FailedJobError=OSError))

    def end(self, job):
        fate = self.fate(job.order.name)
        if fate != "lost":
            a_record(level(0.5), status=fate, **job.order.point).save(Path(job.order.folder))
        self.states[job.job_id] = "TIMEOUT" if fate == "lost" else "COMPLETED"


@pytest.fixture
def use(monkeypatch):
    def use(cluster):
        monkeypatch.setitem(sys.modules, "submitit", cluster)
        monkeypatch.setitem(sys.modules, "submitit.helpers", SimpleNamespace())
        monkeypatch.setattr(slurm, "POLL", 0)
        return cluster

    return use


def orders_in(folder, *seeds):
    return [Order(s, {"seed": s}, str(folder / "cells" / s), [], {}, {}, "{}", True) for s in seeds]


def test_each_cell_gets_a_job_and_all_are_watched_to_their_end(use, tmp_path):
    cluster, ticks = use(Cluster()), []
    options = Options(out=str(tmp_path), jobs=2, slurm=["partition=gpu"])
    assert slurm.run_slurm(orders_in(tmp_path, "0", "1"), options, ticks.append) is False
    assert cluster.submitted == ["0", "1"]
    assert (cluster.parameters["slurm_partition"], cluster.parameters["slurm_array_parallelism"]) == ("gpu", 2)
    assert ["0", "1"] in ticks  # seen before they are gone, so that the board tells how they ended
    assert json.loads((tmp_path / "slurm" / "jobs.json").read_text()) == {"0": "7_0", "1": "7_1"}


def test_a_job_that_ends_without_a_word_leaves_a_failed_cell_and_the_others_count(use, tmp_path):
    use(Cluster(lambda name: "lost" if name == "0" else "finished"))
    slurm.run_slurm(orders_in(tmp_path, "0", "1"), Options(out=str(tmp_path)), lambda names: None)
    record = read_record(tmp_path / "cells" / "0")
    assert record.status == "failed"
    assert record.error == f"its SLURM job 7_0 ended as TIMEOUT before the cell did; see {tmp_path}/slurm/7_0_log.err"
    assert read_record(tmp_path / "cells" / "1").status == "finished"


def test_ctrl_c_leaves_the_jobs_and_the_next_command_takes_them_up(use, tmp_path, capsys):
    cluster = use(Cluster())

    def interrupt(names):
        raise KeyboardInterrupt

    orders, options = orders_in(tmp_path, "0", "1"), Options(out=str(tmp_path))
    assert slurm.run_slurm(orders, options, interrupt) is True
    assert "2 jobs go on without this command; to end them: scancel 7" in capsys.readouterr().err
    cluster.states["7_1"] = "CANCELLED"  # one of them was ended by hand

    def end_the_other(names):
        a_record(level(0.5), seed="0").save(tmp_path / "cells" / "0")
        cluster.states["7_0"] = "COMPLETED"

    assert slurm.run_slurm(orders, options, end_the_other) is False
    assert cluster.submitted == ["0", "1", "1"]
    assert read_record(tmp_path / "cells" / "0").status == "finished"


def test_a_job_that_slurm_has_forgotten_is_handed_in_again(use, tmp_path):
    cluster = use(Cluster())
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "jobs.json").write_text('{"0": "3_0", "gone": "3_1"}')
    slurm.run_slurm(orders_in(tmp_path, "0"), Options(out=str(tmp_path)), lambda names: None)
    assert cluster.submitted == ["0"]
    assert json.loads((tmp_path / "slurm" / "jobs.json").read_text()) == {"0": "7_0", "gone": "3_1"}


def test_an_unknown_parameter_is_told_in_submitits_words(use, tmp_path):
    use(Cluster())
    with pytest.raises(ConfigError, match="--launcher slurm: Unknown argument 'partitoin'"):
        slurm.run_slurm(orders_in(tmp_path, "0"), Options(out=str(tmp_path), slurm=["partitoin=x"]), print)


def test_a_finished_cell_is_not_run_again_by_a_job_that_was_queued_again(tmp_path):
    (order,) = orders_in(tmp_path, "0")
    a_record(level(0.5), seed="0").save(tmp_path / "cells" / "0")
    before = (tmp_path / "cells" / "0" / "cell.json").stat().st_mtime_ns
    assert slurm.RunCell(str(tmp_path / "slurm"))(order) == "finished"
    assert (tmp_path / "cells" / "0" / "cell.json").stat().st_mtime_ns == before


def test_a_cell_that_is_cut_off_has_not_failed_and_its_job_leaves_no_result(tmp_path, monkeypatch):
    from avatar.commands.sweep import worker

    (order,) = orders_in(tmp_path, "0")
    job = slurm.RunCell(str(tmp_path / "slurm"))

    def cut_off(order, stores):
        job.cut_off = True  # what submitit's signal does, by RunCell.checkpoint
        return a_record(status="failed", **order.point)

    monkeypatch.setattr(worker, "run_order", cut_off)
    with pytest.raises(SystemExit):
        job(order)
    assert read_record(Path(order.folder)).status == "stopped"


@pytest.mark.slow
def test_real_jobs_of_submitits_stand_in_for_a_cluster(tmp_path):
    orders = orders_in(tmp_path, "0", "1")
    options = Options(out=str(tmp_path), jobs=2, slurm=["partition=gpu", "timeout_min=5"])
    assert slurm.run_slurm(orders, options, lambda names: None, cluster="local") is False
    for order in orders:  # their arguments are empty, so they fail, and say so in their logs
        assert read_record(Path(order.folder)).status == "failed"
        assert (Path(order.folder) / "log.txt").read_text()


@pytest.mark.parametrize("key", ["array_parallelism", "partition", "qos", "account", "setup", "additional_parameters"])
def test_slurm_parameters_that_the_docs_name_are_known_to_submitit(key):
    from submitit.slurm import slurm as from_slurm

    assert key in from_slurm.SlurmExecutor._valid_parameters()
