"""What goes wrong in `avatar test --benchmark`: memory, Ctrl-C, the disk, two runs at once, the judge."""

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests_benchmark_worlds import film
from tests_chat_server import ChatServer, hang_up, ok, says

from avatar.benchmarks.exams.sheet import AnswerSheet
from avatar.benchmarks.recipe import Recipe
from avatar.benchmarks.writing import write_whole
from avatar.cli import main
from avatar.errors import AvatarError, ConfigError
from avatar.models.omni import OmniAdapter
from avatar.modules import EvaluationModule
from avatar.modules.memory import naming_what_fits

ROOT = Path(__file__).parent.parent
RIGHT, WRONG = (json.dumps({"extracted_answer": "x", "correct": correct}) for correct in (True, False))


@pytest.fixture
def here(micro, tmp_path, monkeypatch):
    """A folder with the tiny model in ``model`` to run in."""
    (tmp_path / "model").symlink_to(micro / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_questions(folder: Path, num: int = 12) -> Path:
    """``num`` questions of our own kind, without media."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"id": i, "question": f"how many beeps in clip {i} ?", "answer": i % 4, "media": []} for i in range(num)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_mmvu(root: Path) -> Path:
    """Two multiple-choice questions and two open-ended ones, each about a film of its own."""
    records = []
    (root / "videos/Art").mkdir(parents=True)
    for i in range(4):
        (root / f"videos/Art/{i}.mp4").write_bytes(film(i))
        choices = {letter: f"colour {letter}" if i < 2 else "" for letter in "ABCDE"}
        records.append(
            {
                "id": f"validation_Art_{i}",
                "video": f"https://hub.example/datasets/x/resolve/main/videos/Art/{i}.mp4",
                "question_type": "multiple-choice" if i < 2 else "open-ended",
                "question": f"What is the colour of wall {i}?",
                "choices": choices,
                "answer": "A" if i < 2 else f"paint {i}",
                "metadata": {"subject": "Art"},
            }
        )
    (root / "validation.json").write_text(json.dumps(records))
    return root


def command(benchmark: str, more: str = "") -> list[str]:
    given = f"--benchmark {benchmark} --benchmark_root {benchmark} --trainer.default_root_dir run"
    model = "--model.policy.path model --model.policy.dtype float32 --recipe.max_new_tokens 12"
    return shlex.split(f"test {given} {model} {more}")


def ask(benchmark: str, more: str = "") -> int:
    return main(command(benchmark, more))


def start(benchmark: str, more: str = "") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "avatar.cli", *command(benchmark, more)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def file(ending: str) -> Path:
    (found,) = Path("run/test").glob(f"[!.]*{ending}")
    return found


def results() -> dict:
    return json.loads(file(".results.json").read_text())


def num_lines() -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path("run/test").glob("*.partial-0.jsonl"))


def wait_for_replies(process: subprocess.Popen, num: int) -> None:
    deadline = time.monotonic() + 120
    while num_lines() < num:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no replies in two minutes"
        time.sleep(0.01)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_where_memory_runs_out_the_replies_are_kept_and_a_smaller_batch_goes_on(here, monkeypatch, capsys):
    write_questions(here / "jsonl")
    generate, calls = OmniAdapter.generate, []

    def too_much(self, prefixes, *args):
        calls.append(len(prefixes))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return generate(self, prefixes, *args)

    monkeypatch.setattr(OmniAdapter, "generate", too_much)
    assert ask("jsonl", "--batch_size 4") == 2
    said = capsys.readouterr().err
    for word in ("out of memory with 4 questions", "--batch_size 2", "--recipe.max_frames", "--recipe.max_pixels"):
        assert word in said
    assert "Traceback" not in said
    assert num_lines() == 8  # two batches of four
    assert ask("jsonl", "--batch_size 2") == 0
    assert calls == [4, 4, 4, 2, 2]
    assert results()["num_scored"] == 12


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_every_kind_of_full_memory_is_told_with_what_takes_less(error):
    with pytest.raises(AvatarError, match="--batch_size 8"), naming_what_fits(16, Recipe()):
        raise error
    with pytest.raises(AvatarError, match=r"--recipe\.max_frames below 16") as found, naming_what_fits(1, Recipe()):
        raise error
    assert "--batch_size" not in str(found.value)  # of one question there is no half
    with pytest.raises(AvatarError, match=r"data\.eval_batch_size"), naming_what_fits(16, None):
        raise error


def test_any_other_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes differ"), naming_what_fits(16, Recipe()):
        raise RuntimeError("shapes differ")


# -- Ctrl-C and two runs at once ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_after_ctrl_c_the_replies_are_kept_and_the_same_command_goes_on(here, capsys):
    write_questions(here / "jsonl", 150)
    process = start("jsonl", "--batch_size 1")
    wait_for_replies(process, 5)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 130, said
    assert "Traceback" not in said
    kept = num_lines()
    assert 5 <= kept < 150
    assert f"{kept} replies are kept; the same command goes on" in said
    assert ask("jsonl", "--batch_size 16") == 0
    assert f"{kept} questions were answered before, {150 - kept} are left" in capsys.readouterr().err
    assert results()["num_scored"] == 150


@pytest.mark.slow
def test_a_second_run_of_the_same_command_is_refused_while_the_first_goes_on(here, capsys):
    write_questions(here / "jsonl", 100)
    process = start("jsonl", "--batch_size 1")
    wait_for_replies(process, 1)
    assert ask("jsonl", "--batch_size 16") == 2
    busy = f"jsonl-{Path.cwd().name}-model-max_new_tokens_12"
    assert f"another run is answering {busy} into run/test" in capsys.readouterr().err
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert results()["num_scored"] == 100
    assert ask("jsonl") == 0  # the lock has gone with it


def test_runs_into_different_files_do_not_shut_each_other_out(tmp_path):
    one, same, other = (AnswerSheet(tmp_path / name, "stamp") for name in ("a", "a", "b"))
    one.lock()
    other.lock()
    with pytest.raises(ConfigError, match=r"--trainer\.default_root_dir"):
        same.lock()
    one.unlock()
    same.lock()
    same.unlock()
    other.unlock()


# -- the disk ----------------------------------------------------------------------------------------------------------


@contextmanager
def small_files():
    """No file may grow beyond 1,000 bytes: what a full disk answers, answered by the kernel. Pytest's own may."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_batch_that_finds_no_room_leaves_those_before_it_and_no_part_of_itself(tmp_path):
    sheet = AnswerSheet(tmp_path / "run", "stamp")
    sheet.add([{"id": "0", "asked": "a", "output": "x" * 500}])
    before = sheet.mine.read_bytes()
    full = pytest.raises(AvatarError, match=r"run\.partial-0\.jsonl cannot be written \(File too large\)")
    with full, small_files():
        sheet.add([{"id": "1", "asked": "a", "output": "x" * 500}])
    assert sheet.mine.read_bytes() == before
    assert list(sheet.answered({"0": "a", "1": "a"})) == ["0"]


def test_a_file_that_finds_no_room_leaves_the_old_one_and_nothing_else(tmp_path):
    write_whole(tmp_path / "a.json", "old")
    with pytest.raises(AvatarError, match=r"a\.json cannot be written"), small_files():
        write_whole(tmp_path / "a.json", "x" * 2000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_told_before_a_question_is_asked(here, monkeypatch, capsys):
    write_questions(here / "jsonl")
    (here / "run").mkdir()
    (here / "run/test").write_text("a file where the folder should be")
    monkeypatch.setattr(EvaluationModule, "complete", None)  # would fail if it were called
    assert ask("jsonl") == 2
    assert f"run/test/.jsonl-{here.name}-model-max_new_tokens_12.lock cannot be written" in capsys.readouterr().err


def test_results_that_cannot_be_written_cost_no_reply(here, monkeypatch, capsys):
    write_questions(here / "jsonl")
    in_the_way = here / f"run/test/jsonl-{here.name}-model-max_new_tokens_12.results.json"
    in_the_way.mkdir(parents=True)
    assert ask("jsonl") == 2
    assert f"{in_the_way.name} cannot be written (Is a directory)" in capsys.readouterr().err
    in_the_way.rmdir()
    monkeypatch.setattr(EvaluationModule, "complete", None)
    assert ask("jsonl") == 0
    assert results()["num_scored"] == 12


def test_an_id_that_comes_twice_is_named_with_both_places(here, capsys):
    lines = (write_questions(here / "jsonl") / "questions.jsonl").read_text().splitlines(keepends=True)
    (here / "jsonl/questions.jsonl").write_text("".join([*lines, lines[3]]))
    assert ask("jsonl") == 2
    said = capsys.readouterr().err
    assert "questions.jsonl:13: the id '3' stands at" in said
    assert "questions.jsonl:4 too" in said


# -- the judge ---------------------------------------------------------------------------------------------------------


def judge(server: ChatServer) -> str:
    return f"--judge_endpoint {server.endpoint} --judge_model judge"


def verdict(request: dict) -> str:
    """Right for film 3 alone."""
    return RIGHT if "paint 3" in json.dumps(request) else WRONG


def test_a_judge_decides_about_the_open_questions_alone(here):
    write_mmvu(here / "mmvu")
    assert ask("mmvu") == 0
    alone = results()
    assert (alone["num_questions"], alone["num_not_judged"], alone["judge"]) == (4, 2, None)
    with ChatServer(verdict) as server:
        assert ask("mmvu", judge(server)) == 0
    found = results()
    assert len(server.requests) == 2
    assert (found["num_not_judged"], found["num_scored"]) == (0, 4)
    assert found["judge"] == {"num_asked": 2, "num_failed": 0}
    scores = [row["score"] for row in found["rows"]]
    assert scores[:2] == [row["score"] for row in alone["rows"]][:2]
    assert scores[2:] == [0.0, 1.0]
    assert found["accuracy"] == pytest.approx(sum(scores) / 4)


def test_officially_the_judge_decides_about_all(here):
    write_mmvu(here / "mmvu")
    with ChatServer(lambda request: RIGHT) as server:
        assert ask("mmvu", f"--scoring official {judge(server)}") == 0
    assert len(server.requests) == 4
    found = json.loads(file("-official.results.json").read_text())
    assert (found["accuracy"], found["num_not_judged"]) == (1.0, 0)


def test_a_judge_that_dies_costs_verdicts_and_no_reply(here, monkeypatch, capsys):
    write_mmvu(here / "mmvu")
    with ChatServer(verdict, script=[ok], then=hang_up) as server, pytest.warns(UserWarning, match="on 1 of 2 replies"):
        assert ask("mmvu", judge(server)) == 0
    found = results()
    assert (found["num_not_judged"], found["num_scored"]) == (1, 3)
    assert found["judge"] == {"num_asked": 2, "num_failed": 1}
    monkeypatch.setattr(EvaluationModule, "complete", None)
    with ChatServer(verdict) as server:
        assert ask("mmvu", judge(server)) == 0
    assert "4 questions were answered before, 0 are left" in capsys.readouterr().err
    assert (results()["num_not_judged"], results()["num_scored"]) == (0, 4)


@pytest.mark.parametrize("how", ["down", "another"])
def test_a_judge_that_is_not_there_is_told_before_the_model_is_loaded(here, how, capsys):
    write_mmvu(here / "mmvu")
    with ChatServer(models=["another"], then=says("hello")) as server:
        if how == "down":
            server.stop()
        assert ask("mmvu", f"{judge(server)} --model.policy.path no/such/model") == 2
    said = capsys.readouterr().err
    assert "--judge_endpoint: " in said
    assert ("no server answers" if how == "down" else "another") in said
    assert not Path("run/test").exists()
