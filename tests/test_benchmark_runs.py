"""`avatar test --benchmark` through the command line, on benchmarks in the official layout with real media."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tests_benchmark_worlds import WORLDS, write_omnibench, write_video_holmes

from avatar.cli import main

ROOT = Path(__file__).parent.parent
MODEL = "--model.policy.path data/micro/model --model.policy.dtype float32 --recipe.max_new_tokens 12"
TABLES = ("results.json", "results.md", "predictions.jsonl")


@pytest.fixture(scope="module")
def world(micro, tmp_path_factory):
    """A folder with the tiny model and three benchmarks under data/benchmarks."""
    folder = tmp_path_factory.mktemp("benchmarks")
    shutil.copytree(micro, folder / "data/micro")
    for name, write in WORLDS.items():
        write(folder / "data/benchmarks" / name)
    return folder


@pytest.fixture(autouse=True)
def here(world, monkeypatch):
    monkeypatch.chdir(world)


def run(command: str) -> int:
    return main(shlex.split(command))


def ask(benchmark: str, out: str, more: str = "") -> int:
    return run(f"test --benchmark {benchmark} --trainer.default_root_dir {out} {MODEL} {more}")


def test_folder(out: str) -> Path:
    return Path(out) / "test"


test_folder.__test__ = False


def file(out: str, ending: str, benchmark: str = "omnibench") -> Path:
    there = [p for p in test_folder(out).iterdir() if p.name.startswith(benchmark) and p.name.endswith(ending)]
    (found,) = [p for p in there if not re.search(r"\.\d\.", p.name)]  # and none that was put aside
    return found


def results(out: str, benchmark: str = "omnibench") -> dict:
    return json.loads(file(out, ".results.json", benchmark).read_text())


def predictions(out: str, benchmark: str = "omnibench") -> list[dict]:
    return [json.loads(line) for line in file(out, ".predictions.jsonl", benchmark).read_text().splitlines()]


def contents(out: str, benchmark: str) -> dict[str, bytes]:
    return {ending: file(out, ending, benchmark).read_bytes() for ending in TABLES}


def start(benchmark: str, out: str, more: str = "") -> subprocess.Popen:
    command = f"test --benchmark {benchmark} --trainer.default_root_dir {out} {MODEL} {more}"
    return subprocess.Popen(
        [sys.executable, "-m", "avatar.cli", *shlex.split(command)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("benchmark", "num", "media"), [("omnibench", 12, 2), ("video_holmes", 12, 1), ("vsi_bench", 8, 1)]
)
def test_every_question_is_asked_once_graded_and_written_in_the_order_of_the_file(benchmark, num, media, capsys):
    with pytest.warns(UserWarning, match=f"{benchmark}: {num} of"):
        assert ask(benchmark, "runs/once") == 0
    found, rows = results("runs/once", benchmark), predictions("runs/once", benchmark)
    assert found["num_questions"] == found["num_scored"] == len(rows) == num
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == num
    assert ids == [row["id"] for row in sorted(rows, key=lambda row: ids.index(row["id"]))]
    assert {len(row["clip"].split()) for row in rows} == {media}
    assert found["recipe"]["max_new_tokens"] == 12
    assert "recipe" in capsys.readouterr().out


def test_a_finished_run_is_not_asked_again_unless_told_to(capsys, monkeypatch):
    from avatar.modules import EvaluationModule

    asked = []
    complete = EvaluationModule.complete
    monkeypatch.setattr(
        EvaluationModule, "complete", lambda self, batch: asked.append(len(batch)) or complete(self, batch)
    )
    assert ask("omnibench", "runs/again") == 0
    first = contents("runs/again", "omnibench")
    assert sum(asked) == 12
    assert ask("omnibench", "runs/again") == 0
    assert sum(asked) == 12
    assert contents("runs/again", "omnibench") == first
    assert "12 questions were answered before, 0 are left" in capsys.readouterr().err
    assert ask("omnibench", "runs/again", "--restart true") == 0
    assert sum(asked) == 24
    assert contents("runs/again", "omnibench") == first


def test_replies_of_another_recipe_or_model_are_not_taken_over(capsys):
    assert ask("omnibench", "runs/other") == 0
    assert ask("omnibench", "runs/other", "--recipe.max_frames 4") == 0
    assert ask("omnibench", "runs/other", "--modalities audio") == 0
    assert "answered before" not in capsys.readouterr().err
    stamps = {json.loads(path.read_text())["stamp"] for path in test_folder("runs/other").glob("*.results.json")}
    assert len(stamps) == 3


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("video_holmes", "vsi_bench")]


@pytest.mark.parametrize("benchmark", ["omnibench", *SLOW])
def test_after_kill_9_the_same_command_asks_only_what_is_left(benchmark):
    assert ask(benchmark, "runs/whole", "--batch_size 1") == 0
    killed = Path("runs/killed")
    process = start(benchmark, str(killed), "--batch_size 1")
    wanted = results("runs/whole", benchmark)["num_questions"] // 2
    partial = lambda: next(iter((killed / "test").glob(f"{benchmark}*.partial-0.jsonl")), None)  # noqa: E731
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (path := partial()) and path.read_text().count("\n") >= wanted:
            break
        time.sleep(0.002)
    process.kill()
    process.communicate()
    half = partial()
    assert half is not None, "it was over before it could be killed"
    before = {json.loads(line)["id"]: line for line in half.read_text().splitlines()}
    assert 0 < len(before) < results("runs/whole", benchmark)["num_questions"]
    process = start(benchmark, str(killed), "--batch_size 1")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert f"{len(before)} questions were answered before" in said
    assert contents(str(killed), benchmark) == contents("runs/whole", benchmark)
    assert partial() is None


@pytest.mark.slow
def test_two_processes_give_what_one_gives_to_the_digit():
    one, two = (f"--batch_size 2 --trainer.accelerator cpu --trainer.devices {n}" for n in (1, 2))
    assert ask("video_holmes", "runs/one", one) == 0
    process = start("video_holmes", "runs/two", f"{two} --trainer.strategy ddp")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert contents("runs/two", "video_holmes") == contents("runs/one", "video_holmes")
    assert said.count("accuracy") >= 1


def test_a_torn_line_is_asked_again_and_no_other():
    assert ask("omnibench", "runs/torn") == 0
    whole = contents("runs/torn", "omnibench")
    lines = file("runs/torn", ".predictions.jsonl").read_text().splitlines(keepends=True)
    stem = file("runs/torn", ".predictions.jsonl").name.removesuffix(".predictions.jsonl")
    for path in test_folder("runs/torn").iterdir():
        path.unlink()
    (test_folder("runs/torn") / f"{stem}.partial-0.jsonl").write_text("".join(lines[:5]) + lines[5][:40])
    assert ask("omnibench", "runs/torn") == 0
    assert contents("runs/torn", "omnibench") == whole


def test_the_size_of_a_batch_does_not_change_the_replies():
    assert ask("vsi_bench", "runs/small", "--batch_size 1") == 0
    assert ask("vsi_bench", "runs/large", "--batch_size 16") == 0
    assert predictions("runs/small", "vsi_bench") == predictions("runs/large", "vsi_bench")


def test_a_run_goes_where_it_is_told_to_and_puts_aside_what_it_would_replace(tmp_path):
    assert ask("omnibench", "runs/aside", "--limit 3") == 0
    stem = file("runs/aside", ".predictions.jsonl").name.removesuffix(".predictions.jsonl")
    old = contents("runs/aside", "omnibench")
    root = write_omnibench(tmp_path / "other", 9)
    assert ask("omnibench", "runs/aside", f"--limit 3 --benchmark_root {root}") == 0
    folder = test_folder("runs/aside")
    assert {ending: (folder / f"{stem}.1.{ending}").read_bytes() for ending in TABLES} == old
    assert (folder / f"{stem}.predictions.jsonl").read_bytes() != old["predictions.jsonl"]
    before = sorted(folder.iterdir())
    assert ask("omnibench", "runs/aside", f"--limit 3 --benchmark_root {root}") == 0
    assert sorted(folder.iterdir()) == before


def test_a_set_without_questions_is_told_before_the_model_is_loaded(tmp_path, capsys):
    (tmp_path / "questions.jsonl").write_text("\n")
    assert run(f"test --benchmark jsonl --benchmark_root {tmp_path} --model.policy.path no/such/model") == 2
    assert "there are no questions in" in capsys.readouterr().err


def test_missing_media_are_refused_or_counted_as_wrong(tmp_path, capsys):
    root = write_video_holmes(tmp_path / "holmes")
    (root / "videos/film2.mp4").unlink()
    assert ask("video_holmes", "runs/missing", f"--benchmark_root {root}") == 2
    said = capsys.readouterr().err
    assert "1 of 4 media files are missing" in said
    assert "film2.mp4" in said
    assert "--allow_missing" in said
    assert ask("video_holmes", "runs/missing", f"--benchmark_root {root} --allow_missing true") == 0
    found = results("runs/missing", "video_holmes")
    assert (found["num_questions"], found["num_scored"], found["num_missing"]) == (12, 12, 3)
    assert [row["output"] for row in predictions("runs/missing", "video_holmes")[6:9]] == [None] * 3


def test_a_clip_that_cannot_be_read_stops_the_grading_and_loses_no_reply(tmp_path, capsys):
    root = write_video_holmes(tmp_path / "holmes")
    whole = (root / "videos/film1.mp4").read_bytes()
    (root / "videos/film1.mp4").write_bytes(whole[: len(whole) // 2])
    assert ask("video_holmes", "runs/broken", f"--benchmark_root {root}") == 2
    said = capsys.readouterr().err
    assert "3 questions could not be asked" in said
    assert "film1" in said
    (root / "videos/film1.mp4").write_bytes(whole)
    assert ask("video_holmes", "runs/broken", f"--benchmark_root {root}") == 0
    assert "9 questions were answered before" in capsys.readouterr().err


def test_where_nothing_but_broken_clips_is_left_they_can_be_counted_as_wrong(tmp_path):
    root = write_video_holmes(tmp_path / "holmes")
    whole = (root / "videos/film1.mp4").read_bytes()
    (root / "videos/film1.mp4").write_bytes(whole[: len(whole) // 2])
    assert ask("video_holmes", "runs/left", f"--benchmark_root {root}") == 2
    assert ask("video_holmes", "runs/left", f"--benchmark_root {root} --allow_missing true") == 0
    found = results("runs/left", "video_holmes")
    assert (found["num_questions"], found["num_scored"], found["num_missing"]) == (12, 12, 3)


def test_a_limit_asks_so_many_evenly_spread():
    assert ask("video_holmes", "runs/limit", "--limit 5") == 0
    # of 12 questions one each of 0-1, 2-3, 4-6, 7-8 and 9-11
    ids = [f"film{i}/{k}" for i in range(4) for k in (1, 2, 3)]
    places = [ids.index(row["id"]) for row in predictions("runs/limit", "video_holmes")]
    assert all(a <= place < b for place, (a, b) in zip(places, pairwise([0, 2, 4, 7, 9, 12]), strict=True))


def test_what_is_shown_can_be_limited_and_the_replies_tell():
    outputs = {}
    for modalities in ("both", "video", "audio", "none"):
        assert ask("omnibench", f"runs/{modalities}", f"--modalities {modalities}") == 0
        outputs[modalities] = [row["output"] for row in predictions(f"runs/{modalities}")]
        assert results(f"runs/{modalities}")["recipe"]["modalities"] == modalities
    assert outputs["both"] != outputs["video"] != outputs["none"]
    assert outputs["both"] != outputs["audio"]
    assert len(set(outputs["both"])) > 1  # no two clips are alike to it


def test_saved_replies_are_graded_again_by_another_rule_without_the_model(capsys):
    assert ask("omnibench", "runs/regrade") == 0
    said = results("runs/regrade")["other_scorings"]["official"]["accuracy"]
    path = file("runs/regrade", ".predictions.jsonl")
    rows = predictions("runs/regrade")
    rows[0]["output"] = f"({rows[0]['gold']}) it is"  # what the benchmark's own rule reads
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(f"test --regrade {path} --scoring official") == 0
    official = json.loads(next(test_folder("runs/regrade").glob("*-official.results.json")).read_text())
    assert official["scoring"] == "official"
    assert official["accuracy"] == pytest.approx(said + 1 / 12, abs=1e-5)
    assert official["recipe"] == results_of_ours("runs/regrade")["recipe"]
    assert run(f"test --regrade {path} --scoring nonsense") == 2
    assert run(f"test --regrade {path} --benchmark video_holmes") == 2
    assert run(f"test --regrade {path} --scorring official") == 2
    assert "--scoring" in capsys.readouterr().err


def results_of_ours(out: str) -> dict:
    paths = [p for p in test_folder(out).glob("*.results.json") if "-official" not in p.name]
    return json.loads(paths[0].read_text())


def test_all_asks_those_that_are_there_and_one_that_fails_stops_no_other(tmp_path, capsys):
    root = tmp_path / "several"
    write_omnibench(root / "omnibench")
    (write_video_holmes(root / "video_holmes") / "videos/film0.mp4").unlink()
    assert ask("all", "runs/all", f"--benchmark_root {root}") == 2
    err = capsys.readouterr().err
    assert results("runs/all", "omnibench")["num_scored"] == 12
    assert "1 of 2 benchmarks could not be asked: video_holmes" in err
    assert ask("omnibench,video_holmes", "runs/all", f"--benchmark_root {root} --allow_missing true") == 0
    table = capsys.readouterr().out
    assert "OmniBench" in table
    assert "Video-Holmes" in table
    assert "| OmniBench |" in Path("runs/all/test/overview.md").read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--benchmark omnibnch", "Did you mean 'omnibench'"),
        ("--benchmark omnibench --scoring offical", "--scoring must be avatar or official or authors"),
        ("--benchmark vsi_bench --scoring authors", "published no script"),
        ("--benchmark omnibench --modalities smell", "modalities must be one of both, video, audio, none"),
        ("--benchmark omnibench --limit 0", "limit must be at least 1"),
        ("--benchmark omnibench --recipe.wording loud", "wording must be one of"),
        ("--benchmark omnibench --recipe.max_fames 3", "max_fames"),
        ("--benchmark omnibench --benchmark_root nowhere", "no dataset/batch-5_1142_*.jsonl"),
        ("--benchmark omnibench --judge_model judge", "a judge needs --judge_endpoint and --judge_model"),
        ("--benchmark all --benchmark_root nowhere", "holds files of none of"),
        ("--benchmark lvbench", "It comes from"),
    ],
)
def test_what_is_asked_for_wrongly_is_told_before_the_model_is_loaded(command, said, capsys):
    missing = "--model.policy.path no/such/model"
    assert run(f"test {command} --trainer.default_root_dir runs/wrong {missing}") == 2
    assert said in capsys.readouterr().err


def test_replies_of_another_length_limit_or_number_type_are_not_taken_over(capsys):
    for more in ("--model.max_new_tokens 4", "--model.max_new_tokens 6", "--model.policy.dtype bfloat16"):
        model = MODEL.removesuffix("--recipe.max_new_tokens 12")
        assert run(f"test --benchmark micro --trainer.default_root_dir runs/lengths {model} {more}") == 0
    assert "answered before" not in capsys.readouterr().err
    assert results("runs/lengths", "micro")["recipe"]["max_new_tokens"] == 256
