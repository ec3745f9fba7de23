import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import psutil
import pytest
import torch
from tests_work import do

from avatar.data import workers
from avatar.data.workers import WorkerPool
from avatar.errors import ConfigError, DataError

TESTS = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", autouse=True)
def forked_from_one_that_has_imported_torch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
        yield


@pytest.fixture
def pool_of():
    """Make a pool; it is closed when the test is over."""
    made = []

    def make(num_workers=1, time_limit=30.0, memory_mb=1024, **options):
        made.append(WorkerPool(do, num_workers, time_limit, memory_mb, **options))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def failure(pool, *task):
    """(cause, message) of a task that fails."""
    with pytest.raises(DataError) as error:
        pool.collect(pool.submit(task))
    return error.value.cause, str(error.value)


def is_gone(pid):
    """Whether there is no such process, not even a zombie."""
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


def descendants():
    return {p.pid for p in psutil.Process().children(recursive=True) if "forkserver" in " ".join(p.cmdline())}


def num_handles():
    return len(os.listdir("/proc/self/fd"))


def num_maps():
    return Path("/proc/self/maps").read_text().count("avatar-clip")


# -- results -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_to_the_ticket_of_their_task_whatever_order_they_are_collected_in(pool_of, num_workers):
    pool = pool_of(num_workers)
    tickets = [pool.submit(("sleep", 0.01 * (i % 3), i)) for i in range(30)]
    order = Random(0).sample(range(30), 30)
    assert [pool.collect(tickets[i]) for i in order] == [(i,) for i in order]


def test_workers_work_side_by_side(pool_of):
    pool = pool_of(2)
    for ticket in [pool.submit(("echo",)) for _ in range(2)]:
        pool.collect(ticket)  # both have started
    start = time.monotonic()
    for ticket in [pool.submit(("sleep", 1.0)) for _ in range(2)]:
        pool.collect(ticket)
    assert time.monotonic() - start < 1.8  # one after the other takes 2


def test_a_slow_task_holds_up_none_on_another_worker(pool_of):
    pool = pool_of(2, time_limit=5.0)
    for ticket in [pool.submit(("echo",)) for _ in range(2)]:
        pool.collect(ticket)
    slow, start = pool.submit(("sleep", 3.0, "slow")), time.monotonic()
    assert pool.collect(pool.submit(("echo", "quick"))) == ("quick",)
    assert time.monotonic() - start < 2.5
    assert pool.collect(slow) == ("slow",)


def test_each_worker_computes_on_one_thread(pool_of):
    pool = pool_of()
    assert pool.collect(pool.submit(("threads",))) == 1


def test_no_process_starts_before_the_first_task(pool_of):
    before = descendants()
    pool = pool_of(3)
    assert pool.pids == []
    assert descendants() == before
    pool.collect(pool.submit(("echo",)))
    assert len(pool.pids) == 3


@pytest.mark.parametrize("num_workers", [0, -1])
def test_a_pool_without_workers_is_refused(num_workers):
    with pytest.raises(ConfigError, match=rf"data\.num_workers must be at least 1, got {num_workers}"):
        WorkerPool(do, num_workers)


def test_a_thousand_tasks_may_be_given_before_any_result_is_taken(pool_of):
    # 2 x 200 KB of socket lie between: if each side only wrote, both would wait for the other for ever.
    pool = pool_of(time_limit=5.0)
    tickets = [pool.submit(("full", (500,), float(i))) for i in range(1000)]
    for i, ticket in enumerate(tickets):
        assert pool.collect(ticket).tolist() == [float(i)] * 500


def test_large_tasks_and_large_results_go_both_ways_at_once(pool_of):
    pool, text = pool_of(time_limit=10.0), "x" * 10**5
    tickets = [pool.submit(("echo", i, text)) for i in range(6)]
    assert [pool.collect(ticket) == (i, text) for i, ticket in enumerate(tickets)] == [True] * 6


def test_a_text_may_be_larger_than_what_lies_between_the_processes(pool_of):
    pool = pool_of(time_limit=10.0)
    tickets = [pool.submit(("text", 10**7 + i)) for i in range(6)]
    assert [len(pool.collect(ticket)) for ticket in tickets] == [10**7 + i for i in range(6)]


def test_what_a_task_prints_does_not_come_between(pool_of, capfd):
    pool = pool_of()
    assert pool.collect(pool.submit(("print", "words"))) is None
    assert pool.collect(pool.submit(("echo", 1))) == (1,)


# -- what goes wrong ---------------------------------------------------------------------------------------------------

HANGS = [("pause in C",), ("sleep in C", 600), ("spin",), ("sleep", 600)]
CRASHES = [
    (("segfault",), "signal 11 (SIGSEGV)"),
    (("abort",), "signal 6 (SIGABRT)"),
    (("be killed",), "signal 9 (SIGKILL)"),
    (("leave", 3), "exit status 3"),
    (("leave", 0), "exit status 0"),
    (("exit", 5), "exit status 5"),
    (("exit",), "exit status 0"),
    (("nested", 100_000), "exit status 1"),  # a result that cannot be sent
]


@pytest.mark.parametrize("task", HANGS, ids=[task[0] for task in HANGS])
def test_a_task_that_hangs_ends_at_its_limit_wherever_it_hangs(pool_of, task):
    pool = pool_of(time_limit=1.0)
    pool.collect(pool.submit(("echo",)))
    start = time.monotonic()
    cause, message = failure(pool, *task)
    assert 0.9 < time.monotonic() - start < 3.0
    assert cause == "time limit"
    assert message.startswith("decoding took longer than data.time_limit (1 s) and was stopped.")
    assert pool.collect(pool.submit(("echo", "next"))) == ("next",)


def test_the_limit_is_called_by_the_name_that_the_user_sets_it_by(pool_of):
    assert "--time_limit (0.5 s)" in failure(pool_of(time_limit=0.5, time_limit_name="--time_limit"), "sleep", 9)[1]


def test_a_worker_that_even_its_alarm_cannot_end_is_given_up(pool_of, monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 1.0)
    pool = pool_of(time_limit=1.0)
    pool.collect(pool.submit(("echo",)))
    [pid], start = pool.pids, time.monotonic()
    assert failure(pool, "deaf", 600)[0] == "time limit"
    assert 1.9 < time.monotonic() - start < 4.0  # the limit, and the grace
    assert is_gone(pid)
    assert pool.collect(pool.submit(("echo", "next"))) == ("next",)


def test_a_stopped_worker_is_given_up_too(pool_of, monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 1.0)
    pool = pool_of(time_limit=1.0)
    pool.collect(pool.submit(("echo",)))
    [pid] = pool.pids
    os.kill(pid, signal.SIGSTOP)
    assert failure(pool, "echo", 1)[0] == "time limit"
    assert is_gone(pid)


def test_each_task_has_the_whole_limit_however_many_wait_before_it(pool_of):
    pool = pool_of(time_limit=1.0)
    tickets = [pool.submit(("sleep", 0.5, i)) for i in range(5)]  # 2.5 seconds in all
    assert [pool.collect(ticket) for ticket in tickets] == [(i,) for i in range(5)]


@pytest.mark.parametrize("limit", [float("inf"), 1e15, 1e6])
def test_a_limit_may_be_none_at_all(pool_of, limit):
    pool = pool_of(time_limit=limit)
    tickets = [pool.submit(("sleep", 0.1, i)) for i in range(5)]
    assert [pool.collect(ticket) for ticket in tickets] == [(i,) for i in range(5)]


def test_idle_time_counts_against_no_limit(pool_of):
    pool = pool_of(time_limit=0.5)
    [before] = [pool.collect(pool.submit(("pid",)))]
    time.sleep(1.2)
    assert pool.collect(pool.submit(("pid",))) == before


@pytest.mark.parametrize(("task", "how"), CRASHES, ids=[" ".join(map(str, task)) for task, _ in CRASHES])
def test_a_task_that_kills_its_worker_is_named_with_how_it_died(pool_of, task, how):
    pool = pool_of()
    cause, message = failure(pool, *task)
    assert cause == "decoder crashed"
    assert message.startswith(f"the decoder crashed on it ({how}; its process alone has died).")
    assert pool.collect(pool.submit(("echo", "next"))) == ("next",)


@pytest.mark.parametrize("task", [("eat bytes",), ("eat tensors",), ("claim", 4096)])
def test_a_task_that_eats_memory_is_refused_it_and_the_next_has_all_of_it_again(pool_of, task):
    pool = pool_of(memory_mb=512)
    cause, message = failure(pool, *task)
    assert cause == "too large"
    assert "data.max_decoded_mb" in message
    assert pool.collect(pool.submit(("touch", 400))) == 400


def test_memory_that_is_granted_can_be_used_and_no_more(pool_of):
    pool = pool_of(memory_mb=512)
    assert pool.collect(pool.submit(("touch", 480))) == 480
    assert failure(pool, "touch", 520)[0] == "too large"


def test_an_error_of_the_data_comes_through_with_its_cause(pool_of):
    pool = pool_of()
    assert failure(pool, "data error", "00000.tar: a: no good", "cut short") == ("cut short", "00000.tar: a: no good")
    assert failure(pool, "data error", "", "no sound") == ("no sound", "")


@pytest.mark.parametrize("name", ["ValueError", "RuntimeError", "KeyError"])
def test_any_other_error_is_raised_with_the_traceback_of_the_worker(pool_of, name):
    pool = pool_of()
    with pytest.raises(RuntimeError, match=rf"(?s)tests_work\.py.*in _error.*{name}: .*all wrong"):
        pool.collect(pool.submit(("error", name, "all wrong")))
    assert pool.collect(pool.submit(("echo", "next"))) == ("next",)


def test_an_error_of_the_data_keeps_its_worker(pool_of):
    pool = pool_of()
    before = pool.collect(pool.submit(("pid",)))
    failure(pool, "data error", "x", "cut short")
    assert pool.collect(pool.submit(("pid",))) == before


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("backwards", [False, True])
def test_among_bad_tasks_of_every_kind_each_good_one_has_its_result(pool_of, num_workers, backwards):
    bad = {
        3: ("segfault", "decoder crashed"),
        4: ("spin", "time limit"),
        9: ("eat bytes", "too large"),
        12: ("exit", "decoder crashed"),
        13: ("path", "decoder crashed"),
    }
    pool, found = pool_of(num_workers, time_limit=1.0, memory_mb=300), {}
    tasks = [(bad[i][0], *(["x"] if bad[i][0] == "path" else [])) if i in bad else ("echo", i) for i in range(16)]
    tickets = [pool.submit(task) for task in tasks]
    for i in reversed(range(16)) if backwards else range(16):
        try:
            found[i] = pool.collect(tickets[i])
        except DataError as error:
            found[i] = error.cause
    assert found == {i: bad[i][1] if i in bad else (i,) for i in range(16)}
    assert len(pool.pids) == num_workers


@pytest.mark.parametrize("task", [("segfault",), ("spin",)])
def test_a_worker_dies_again_and_again_and_the_pool_goes_on(pool_of, task):
    pool = pool_of(2, time_limit=0.3)
    tickets = [pool.submit(task if i % 2 else ("echo", i)) for i in range(12)]
    results = []
    for ticket in tickets:
        try:
            results.append(pool.collect(ticket))
        except DataError as error:
            results.append(error.cause)
    cause = {"segfault": "decoder crashed", "spin": "time limit"}[task[0]]
    assert results == [cause if i % 2 else (i,) for i in range(12)]


# -- killed from outside -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_tasks", [1, 5])
def test_a_worker_killed_while_idle_costs_no_task(pool_of, num_tasks):
    pool = pool_of()
    pool.collect(pool.submit(("echo",)))
    [pid] = pool.pids
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid)
    tickets = [pool.submit(("echo", i)) for i in range(num_tasks)]
    assert [pool.collect(ticket) for ticket in tickets] == [(i,) for i in range(num_tasks)]


def test_a_worker_killed_while_busy_costs_its_task_alone(pool_of):
    pool = pool_of()
    tickets = [pool.submit(("sleep", 1.0, i)) for i in range(3)]
    pool.collect(tickets[0])
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(DataError, match=re.escape("signal 9 (SIGKILL)")):
        pool.collect(tickets[1])
    assert pool.collect(tickets[2]) == (2,)


def test_results_that_lay_ready_when_a_worker_was_killed_are_not_lost(pool_of):
    pool = pool_of()
    tickets = [pool.submit(("full", (100,), float(i))) for i in range(4)]
    blocked = pool.submit(("sleep", 60))
    time.sleep(1.5)
    os.kill(pool.pids[0], signal.SIGKILL)
    assert [float(pool.collect(ticket)[0]) for ticket in tickets] == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(DataError, match="SIGKILL"):
        pool.collect(blocked)


def test_ctrl_c_is_for_who_started_the_workers(pool_of):
    pool = pool_of()
    before = pool.collect(pool.submit(("pid",)))
    ticket = pool.submit(("sleep", 0.5, "done"))
    time.sleep(0.2)
    os.kill(before, signal.SIGINT)
    assert pool.collect(ticket) == ("done",)
    assert pool.collect(pool.submit(("interrupt",))) is None
    assert pool.collect(pool.submit(("pid",))) == before


# -- what is left ------------------------------------------------------------------------------------------------------


def test_close_ends_every_worker_busy_or_not_and_leaves_no_zombie(pool_of):
    pool = pool_of(3)
    pool.collect(pool.submit(("echo",)))
    for task in [("spin",), ("pause in C",)]:
        pool.submit(task)
    pids, start = pool.pids, time.monotonic()
    assert len(pids) == 3
    pool.close()
    assert time.monotonic() - start < 3
    assert pool.pids == []
    assert all(is_gone(pid) for pid in pids)


def test_a_closed_pool_starts_anew_when_it_is_asked(pool_of):
    pool = pool_of()
    pool.submit(("sleep", 60))
    pool.close()
    assert pool.collect(pool.submit(("echo", 1))) == (1,)
    pool.close()
    pool.close()
    assert pool.collect(pool.submit(("echo", 2))) == (2,)


def test_a_pool_that_nobody_holds_any_more_takes_its_workers_along():
    pool = WorkerPool(do, 2)
    pool.collect(pool.submit(("echo",)))
    pool.submit(("spin",))
    pids = pool.pids
    del pool
    gc.collect()
    assert all(is_gone(pid) for pid in pids)


MASTER = """
import signal, sys, time
from tests_work import do
from avatar.data.workers import WorkerPool

if __name__ == "__main__":
    pool = WorkerPool(do, 2, 3.0)
    for ticket in [pool.submit(("echo",)) for _ in range(2)]:
        pool.collect(ticket)
    busy = pool.submit(("sleep in C", 2))
    print(*pool.pids, flush=True)
    {then}
"""


@pytest.fixture
def master_of(tmp_path):
    """Start a process with a pool of two workers, one of them busy for two seconds: (process, their ids)."""
    started = []

    def start(then):
        (tmp_path / "master.py").write_text(MASTER.format(then=then))
        paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        process = subprocess.Popen(
            [sys.executable, "master.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": paths}, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(psutil.pid_exists, pids))
        return process, pids

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("then", "returncode"),
    [
        pytest.param("time.sleep(60)", -9, id="killed"),
        pytest.param("sys.exit(3)", 3, id="exits", marks=pytest.mark.slow),
        pytest.param("raise ValueError", 1, id="fails", marks=pytest.mark.slow),
        pytest.param("", 0, id="ends", marks=pytest.mark.slow),
    ],
)
def test_no_worker_outlives_its_master_however_that_ends(master_of, then, returncode):
    master, pids = master_of(then)
    if returncode == -9:
        master.kill()
    assert master.wait(20) == returncode
    assert all(is_gone(pid) for pid in pids)


def test_ctrl_c_to_the_whole_group_leaves_the_workers_to_their_master(master_of):
    caught = (
        "try: time.sleep(30)\n    except KeyboardInterrupt: print(pool.collect(pool.submit(('echo', 7))), pool.pids)"
    )
    master, pids = master_of(caught)
    time.sleep(0.5)  # it has told its workers' ids; now it is within the try
    os.killpg(master.pid, signal.SIGINT)
    out, err = master.communicate(timeout=20)
    assert out.strip() == f"(7,) {pids}"
    assert err == ""


def test_three_hundred_tasks_leave_no_handle_and_no_memory_behind(pool_of):
    pool = pool_of(2)
    for _ in range(20):
        pool.collect(pool.submit(("zeros", (1000, 1000))))
    gc.collect()
    handles, maps = num_handles(), num_maps()
    for i in range(300):
        task = ("segfault",) if i % 60 == 0 else ("zeros", (1000, 1000))
        try:
            assert pool.collect(pool.submit(task)).shape == (1000, 1000)
        except DataError:
            assert i % 60 == 0
    gc.collect()
    assert num_handles() <= handles
    assert maps == num_maps() == 0
    pool.close()
    gc.collect()
    assert num_handles() < handles


def test_the_memory_of_a_dropped_tensor_is_given_back(pool_of):
    pool = pool_of()
    kept = pool.collect(pool.submit(("full", (1000, 1000, 25), 1.0)))  # 100 MB
    shared = psutil.Process().memory_info().shared
    others = [pool.collect(pool.submit(("full", (1000, 1000, 25), 2.0))) for _ in range(3)]
    assert all(float(other.sum()) == 5e7 for other in others)  # touched, and so counted
    assert psutil.Process().memory_info().shared - shared > 250e6
    del others
    assert psutil.Process().memory_info().shared - shared < 110e6  # what is kept was not touched before
    assert float(kept.sum()) == 2.5e7


def test_a_slice_keeps_the_memory_that_it_lies_in(pool_of):
    pool = pool_of()
    whole = pool.collect(pool.submit(("full", (1000, 1000), 3.0)))
    part = whole[500, :10]
    del whole
    gc.collect()
    assert num_maps() == 1
    assert part.tolist() == [3.0] * 10
    del part
    assert num_maps() == 0


def test_what_is_forgotten_is_thrown_away_and_the_rest_is_not(pool_of):
    pool = pool_of()
    tickets = [pool.submit(("full", (1000, 1000), float(i))) for i in range(6)]
    assert float(pool.collect(tickets[2])[0, 0]) == 2.0  # 0 and 1 are here now as well
    for i in (0, 3, 4):
        pool.forget(tickets[i])
    assert [float(pool.collect(tickets[i])[0, 0]) for i in (5, 1)] == [5.0, 1.0]
    gc.collect()
    assert num_maps() == 0


def test_to_forget_twice_or_what_was_collected_does_no_harm(pool_of):
    pool = pool_of()
    first, second = pool.submit(("echo", 1)), pool.submit(("sleep", 0.2, 2))
    assert pool.collect(first) == (1,)
    pool.forget(first)
    pool.forget(second)
    pool.forget(second)
    assert pool.collect(pool.submit(("echo", 3))) == (3,)


def test_a_forgotten_task_that_kills_its_worker_costs_nobody_else(pool_of):
    pool = pool_of(time_limit=1.0)
    for task in [("segfault",), ("spin",), ("eat bytes",)]:
        pool.forget(pool.submit(task))
    assert pool.collect(pool.submit(("echo", "next"))) == ("next",)


# -- tensors outlive ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["crash", "kill", "close"])
def test_tensors_can_be_read_and_written_after_their_worker_and_pool_are_gone(pool_of, end):
    pool = pool_of()
    prompt = pool.collect(pool.submit(("prompt", "k", 5)))
    if end == "crash":
        failure(pool, "segfault")
    elif end == "kill":
        os.kill(pool.pids[0], signal.SIGKILL)
    else:
        pool.close()
    frames = prompt.clips[0].frames
    assert frames.flatten().tolist() == list(range(60))
    frames += 1
    assert int(frames[0, 0, 0, 0]) == 1
    assert prompt.clips[0].audio.tolist() == [1.0] * 7


def test_two_results_share_no_memory(pool_of):
    pool = pool_of()
    a, b = (pool.collect(pool.submit(("zeros", (100,)))) for _ in range(2))
    a += 1
    assert b.sum() == 0


def test_a_prompt_comes_whole(pool_of):
    pool = pool_of()
    prompt = pool.collect(pool.submit(("prompt", "k", 2)))
    assert (prompt.key, prompt.messages, prompt.answer) == ("k", [{"role": "user", "content": "q"}], "a")
    assert prompt.metadata == {"n": [1, {"x": None}]}
    [clip] = prompt.clips
    assert (clip.key, clip.fps, clip.kind, clip.times) == ("k", 2.0, "video", None)
    assert torch.equal(clip.frames, torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2))


# -- what may not be sent ----------------------------------------------------------------------------------------------


def test_an_answer_that_is_no_reply_is_a_failure_of_its_task_alone(pool_of):
    pool = pool_of()
    tickets = [pool.submit(("forge",)), pool.submit(("echo", 1)), pool.submit(("echo", 2))]
    with pytest.raises(DataError, match=r"the decoder sent back what cannot be read .*Clip") as error:
        pool.collect(tickets[0])
    assert error.value.cause == "decoder crashed"
    assert [pool.collect(ticket) for ticket in tickets[1:]] == [(1,), (2,)]


def test_a_worker_cannot_make_its_master_call_anything(pool_of, tmp_path):
    pool, marker = pool_of(), tmp_path / "marker"
    cause, message = failure(pool, "trap", "os", "system", f"touch {marker}")
    assert cause == "decoder crashed"
    assert "which is no class of avatar" in message
    assert not marker.exists()
    assert pool.collect(pool.submit(("echo", "next"))) == ("next",)


def test_a_script_that_new_processes_cannot_import_is_told_of_its_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import math\nfrom avatar.data.workers import WorkerPool\n"
        "pool = WorkerPool(math.sqrt)\nprint(pool.collect(pool.submit(4)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "a decoder process could not be started" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr
