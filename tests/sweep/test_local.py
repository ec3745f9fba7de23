"""Cells in processes of this machine, played by a small script: who gets what, who dies, and what Ctrl-C does."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avatar.commands.sweep import local
from avatar.commands.sweep.local import run_local
from avatar.commands.sweep.order import Order
from avatar.commands.sweep.record import read_record

# Answers as the worker does. What a cell does stands in its settings.
SCRIPT = """
import json, os, pathlib, signal, sys, time
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(True))
for line in iter(sys.stdin.readline, ""):
    order = json.loads(line)
    folder, do = pathlib.Path(order["folder"]), order["settings"]["do"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pid").write_text(str(os.getpid()))
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "leave":
        sys.exit(3)
    while do == "wait" and not asked:
        time.sleep(0.01)
    time.sleep(0.05)
    (folder / "done").write_text("stopped" if asked else "finished")
    print(json.dumps({"name": order["name"], "status": "finished"}), flush=True)
"""


@pytest.fixture(autouse=True)
def processes(monkeypatch, tmp_path):
    """All that were started."""
    (tmp_path / "script.py").write_text(SCRIPT)
    started, popen = [], subprocess.Popen

    def start(command, **options):
        assert command[1:] == ["-m", "avatar.commands.sweep.worker"]
        started.append(popen([sys.executable, str(tmp_path / "script.py")], **options))
        return started[-1]

    monkeypatch.setattr(local.subprocess, "Popen", start)
    yield started
    for process in started:
        process.kill() if process.poll() is None else None


@pytest.fixture
def lock(tmp_path):
    with (tmp_path / ".lock").open("w") as file:
        yield file.fileno()


def orders_in(folder, **what):
    """A cell for each name, and what it does."""
    return [Order(n, {"n": n}, str(folder / n), [], {"do": do}, {}, "{}", True) for n, do in what.items()]


def pid(folder, name):
    return int((folder / name / "pid").read_text())


def wait_for(path: Path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_few_processes_run_all_cells_and_end(tmp_path, lock, processes):
    names = "abcdef"
    ticks = []
    assert run_local(orders_in(tmp_path, **dict.fromkeys(names, "run")), 2, lock, ticks.append) is False
    assert all((tmp_path / name / "done").exists() for name in names)
    assert len(processes) == len({pid(tmp_path, name) for name in names}) == 2
    assert all(process.poll() is not None for process in processes)
    assert max(map(len, ticks)) == 2
    assert {name for tick in ticks for name in tick} <= set(names)


def test_there_are_no_more_processes_than_cells(tmp_path, lock, processes):
    run_local(orders_in(tmp_path, a="run"), 8, lock, lambda names: None)
    assert len(processes) == 1
    assert run_local([], 8, lock, lambda names: None) is False
    assert len(processes) == 1


@pytest.mark.parametrize(("do", "said"), [("die", "signal 9 (out of memory?)"), ("leave", "status 3")])
def test_a_process_that_dies_fails_its_cell_and_another_goes_on_with_the_rest(tmp_path, lock, processes, do, said):
    run_local(orders_in(tmp_path, a="run", b=do, c="run", d="run"), 1, lock, lambda names: None)
    record = read_record(tmp_path / "b")
    assert (record.status, record.name, record.point, record.settings) == ("failed", "b", {"n": "b"}, {"do": do})
    assert record.error.startswith(f"its process ended with {said}")
    assert f"{tmp_path}/b/log.txt" in record.error
    assert [(tmp_path / name / "done").exists() for name in "abcd"] == [True, False, True, True]
    assert pid(tmp_path, "a") == pid(tmp_path, "b") != pid(tmp_path, "c") == pid(tmp_path, "d")


def test_all_may_die(tmp_path, lock):
    run_local(orders_in(tmp_path, a="die", b="die", c="die"), 2, lock, lambda names: None)
    assert [read_record(tmp_path / name).status for name in "abc"] == ["failed"] * 3


def test_ctrl_c_has_those_under_way_finish_and_starts_no_other(tmp_path, lock, processes):
    def interrupt(names):
        for name in names:
            wait_for(tmp_path / name / "pid")
        raise KeyboardInterrupt

    orders = orders_in(tmp_path, a="wait", b="wait", c="run")
    assert run_local(orders, 2, lock, interrupt) is True
    assert [(tmp_path / name / "done").exists() for name in "abc"] == [True, True, False]
    assert (tmp_path / "a" / "done").read_text() == "stopped"
    assert all(process.poll() is not None for process in processes)


def test_an_order_is_one_line():
    (order,) = orders_in(Path("x"), a="two\nlines")
    assert order.line().count("\n") == 1
    assert Order(**json.loads(order.line())) == order
