"""Cells on Ray: what they ask for, and how the loop hands them out, ends them and tells of those that died."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests_sweep import a_record, level

from avatar.commands.sweep import ray as launcher
from avatar.commands.sweep.order import Order
from avatar.commands.sweep.record import read_record
from avatar.errors import ConfigError


def orders_in(folder, *seeds, **settings):
    return [Order(s, {"seed": s}, str(folder / "cells" / s), [], settings, {}, "{}", True) for s in seeds]


@pytest.mark.parametrize(
    ("accelerator", "devices", "num"),
    [("cpu", 4, 0), ("gpu", 1, 1), ("cuda", 2, 2), ("gpu", [3, 5], 2), ("gpu", "2", 2)],
)
def test_a_cell_asks_for_the_gpus_of_its_trainer(accelerator, devices, num):
    assert launcher.num_gpus({"trainer.accelerator": accelerator, "trainer.devices": devices}) == num


def test_an_accelerator_of_any_kind_is_a_gpu_where_there_is_one(monkeypatch):
    for there, num in ((False, 0), (True, 1)):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert launcher.num_gpus({"trainer.accelerator": "auto", "trainer.devices": 1}) == num
        assert launcher.num_gpus({"trainer.devices": 1}) == num


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--launcher ray needs Ray: pip install 'avatar-rl\[ray\]'"):
        launcher.run_ray(orders_in(tmp_path, "0"), 1, print)


class FakeRay(SimpleNamespace):
    """Runs a task when it is first waited for."""

    class RayError(Exception):
        pass

    def __init__(self, dies=()):
        super().__init__(exceptions=SimpleNamespace(RayError=self.RayError))
        self.dies, self.placed, self.cancelled, self.most = dies, [], [], 0
        self.open = self.closed = 0

    def init(self, **options):
        self.open += 1

    def shutdown(self):
        self.closed += 1

    def remote(self, function):
        def options(**wanted):
            def place(order, folder):
                self.placed.append((order.name, wanted["num_gpus"]))
                return order

            return SimpleNamespace(remote=place)

        return SimpleNamespace(options=options)

    def wait(self, refs, **options):
        self.most = max(self.most, len(refs))
        return [refs[0]], refs[1:]

    def get(self, order):
        if order.name in self.dies:
            raise self.RayError("The worker died unexpectedly.\nlong story")
        a_record(level(0.5), **order.point).save(Path(order.folder))

    def cancel(self, ref):
        self.cancelled.append(ref.name)


@pytest.fixture(autouse=True)
def _orders_are_hashable(monkeypatch):
    monkeypatch.setattr(Order, "__hash__", lambda self: hash(self.name))  # references are; orders stand for them


def test_cells_are_handed_out_in_order_and_so_many_at_a_time(monkeypatch, tmp_path):
    ray, ticks = FakeRay(), []
    monkeypatch.setitem(sys.modules, "ray", ray)
    orders = orders_in(tmp_path, "0", "1", "2", **{"trainer.accelerator": "gpu", "trainer.devices": 1})
    assert launcher.run_ray(orders, 2, ticks.append) is False
    assert ray.placed == [("0", 1), ("1", 1), ("2", 1)]
    assert ray.most == 2
    assert ticks == [["0", "1"], ["1", "2"], ["2"]]
    assert (ray.open, ray.closed) == (1, 1)
    assert launcher.run_ray([], 2, ticks.append) is False
    assert ray.open == 1  # nothing to do starts nothing


def test_a_process_that_dies_fails_its_cell_and_no_other(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(dies=("0",)))
    assert launcher.run_ray(orders_in(tmp_path, "0", "1"), 1, lambda names: None) is False
    record = read_record(tmp_path / "cells" / "0")
    assert (record.status, record.error) == ("failed", "Ray could not run it to its end: The worker died unexpectedly.")
    assert read_record(tmp_path / "cells" / "1").status == "finished"


def test_ctrl_c_asks_the_cells_under_way_to_stop_and_waits_for_them(monkeypatch, tmp_path):
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)

    def interrupt(names):
        raise KeyboardInterrupt

    assert launcher.run_ray(orders_in(tmp_path, "0", "1", "2"), 2, interrupt) is True
    assert ray.cancelled == ["0", "1"]
    assert ray.closed == 1
