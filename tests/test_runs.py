"""The real loop through the real command line, small: train, stop, resume, grade, and what is told when it is wrong."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests_benchmark_worlds import film, write_omnibench

from avatar.cli import main
from avatar.modules import RLModule

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def world(micro, tmp_path_factory):
    """A folder with data/micro, configs, and a short cold start under runs/micro/sft."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "data").mkdir()
    shutil.copytree(micro, folder / "data" / "micro")
    shutil.copytree(ROOT / "configs", folder / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("fit --config configs/micro/sft.yaml --trainer.max_steps 6 --model.perception.steps 2 --data.batch_size 8")
    return folder


@pytest.fixture(autouse=True)
def here(world, monkeypatch):
    monkeypatch.chdir(world)


def run(command: str) -> int:
    return main(shlex.split(command))


GRPO = (
    "fit --config configs/micro/grpo.yaml --model.num_generations 3 --model.max_new_tokens 8 --data.batch_size 2 "
    "--trainer.val_check_interval 2 --model.optimizer.lr 1e-3"
)


def grpo(folder: str, steps: int, more: str = "") -> int:
    return run(f"{GRPO} --trainer.default_root_dir {folder} --trainer.max_steps {steps} {more}")


def rows(folder: str) -> list[dict[str, str]]:
    with open(f"{folder}/metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def whole(world):
    """An uninterrupted run of six steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        assert grpo("runs/whole", 6) == 0
    return world / "runs" / "whole"


AVATAR = (
    "fit --config configs/micro/avatar.yaml --model.max_new_tokens 8 --data.batch_size 2 --data.train data/micro/pool "
    "--trainer.val_check_interval 4 --model.optimizer.lr 1e-3 --model.replay.minimum 4 --model.hints.visits 1 "
    "--model.part_norms_every 3"
)


def avatar(folder: str, steps: int, more: str = "") -> int:
    return run(f"{AVATAR} --trainer.default_root_dir {folder} --trainer.max_steps {steps} {more}")


@pytest.fixture(scope="session")
def whole_avatar(world):
    """An uninterrupted run of 16 steps with replay and hints; the pool of ten prompts comes round three times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        assert avatar("runs/whole_avatar", 16) == 0
    return world / "runs" / "whole_avatar"


def test_a_run_writes_what_the_readme_says(whole):
    for name in (
        "config.yaml",
        "metrics.csv",
        "timings.csv",
        "completions.jsonl",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "model/model.safetensors",
        "model/config.json",
    ):
        assert (whole / name).exists(), name


def test_the_metrics_have_a_row_a_step_and_every_documented_key(whole, whole_avatar):
    table = rows(str(whole))
    assert [int(r["step"]) for r in table] == list(range(7))  # 0 is the validation before the first
    page = (ROOT / "docs" / "metrics.md").read_text()
    firsts = [line.split("|")[1] for line in page.split("## Cold start")[0].splitlines() if line.startswith("| `")]
    documented = {key for cell in firsts for key in re.findall(r"`([^`]+)`", cell)}
    assert len(documented) > 40
    grpo_only = {key for key in documented if not re.match(r"replay/|hint/|.*replayed$|grad_norm/|reward/<name>", key)}
    for key in grpo_only:
        assert key in table[0], key
    for key in documented - {"reward/<name>", "reward/<name>/<part>"}:
        assert key in rows(str(whole_avatar))[0], key
    for key in (k for run in (whole, whole_avatar) for k in rows(str(run))[0]):
        assert f"`{key}`" in page or re.match(r"reward/|val/accuracy/|step$", key), f"not in docs/metrics.md: {key}"


def test_generated_completions_are_counted_and_all_kept(whole):
    table = rows(str(whole))
    assert [float(r["completions/generated"]) for r in table[1:]] == [6, 12, 18, 24, 30, 36]  # 2 prompts x 3 a step
    lines = [json.loads(line) for line in (whole / "completions.jsonl").read_text().splitlines()]
    assert len(lines) == 36
    assert {"prompt", "gold", "completion", "reward/format", "reward/accuracy", "reward", "advantage"} <= set(lines[0])


def test_audio_and_video_tokens_are_counted(whole):
    assert {(r["tokens/audio"], r["tokens/video"]) for r in rows(str(whole))[1:]} == {("25", "16")}


def test_the_reference_is_in_no_checkpoint(whole):
    checkpoint = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(k.startswith("policy.") for k in checkpoint["state_dict"])


def test_two_runs_of_one_seed_write_the_same_bytes(whole):
    assert grpo("runs/again", 6) == 0
    for name in ("metrics.csv", "completions.jsonl"):
        assert (whole / name).read_bytes() == Path("runs/again", name).read_bytes()


def test_another_seed_writes_others(whole):
    assert grpo("runs/other", 2, "--seed_everything 1") == 0
    assert rows("runs/other")[1] != rows(str(whole))[1]


def test_a_run_that_stops_and_goes_on_equals_one_that_does_not(whole):
    assert grpo("runs/halves", 3) == 0
    assert grpo("runs/halves", 6, "--ckpt_path last") == 0
    for name in ("metrics.csv", "completions.jsonl"):
        assert (whole / name).read_text() == Path("runs/halves", name).read_text()


def test_replay_and_hints_go_on_exactly_from_a_checkpoint(whole_avatar):
    table = rows(str(whole_avatar))
    assert any(float(r["replay/replayed"] or 0) > 0 for r in table)
    assert any(float(r["hint/share"] or 0) > 0 for r in table)
    for stop in (3, 9):
        assert avatar(f"runs/halves_avatar{stop}", stop) == 0
        assert avatar(f"runs/halves_avatar{stop}", 16, "--ckpt_path last") == 0
        for name in ("metrics.csv", "completions.jsonl"):
            assert (whole_avatar / name).read_text() == Path(f"runs/halves_avatar{stop}", name).read_text()


@pytest.mark.parametrize("name", ["avatar", "avatar_paper", "avatar_release"])
def test_each_reading_of_the_method_runs_as_it_stands_but_for_its_size(world, name):
    """The 7B's config on the tiny model: only paths, device, sizes and the length of the run are changed."""
    small = (
        "--model.policy.path runs/micro/sft/model --model.policy.dtype float32 --data.min_pixels 784 "
        "--data.max_pixels 3136 --trainer.accelerator cpu --data.train data/micro/pool "
        "--data.val data/micro/dev --data.num_workers 1 --data.letter_options false --model.max_new_tokens 8 "
        f"--model.replay.minimum 4 --trainer.max_steps 6 --trainer.default_root_dir runs/{name}"
    )
    assert run(f"fit --config configs/{name}.yaml {small}") == 0
    table = rows(f"runs/{name}")
    assert [float(r["completions/generated"]) for r in table] == [4, 8, 12, 16, 20, 24]
    assert any(float(r["replay/replayed"]) for r in table)
    saved = torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)
    assert all(".lora_" in k for k in saved["state_dict"])
    assert run(f"test --benchmark micro --ckpt_path runs/{name}/checkpoints/last.ckpt") == 0


def test_resuming_cuts_what_was_written_after_the_checkpoint(whole):
    """A crash leaves rows of steps that the checkpoint does not have, the last of them cut in the middle."""
    assert grpo("runs/crash", 4) == 0
    with open("runs/crash/metrics.csv", "a") as file:
        file.write("5,0.123\n6,0.4")
    with open("runs/crash/completions.jsonl", "a") as file:
        file.write('{"step": 5}\n{"step": 6, "te')
    assert grpo("runs/crash", 6, "--ckpt_path last") == 0
    for name in ("metrics.csv", "completions.jsonl"):
        assert (whole / name).read_text() == Path("runs/crash", name).read_text()


def test_a_checkpoint_cut_short_is_named_with_what_else_there_is(capsys):
    assert grpo("runs/short", 4) == 0
    last = Path("runs/short/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:20_000])
    assert grpo("runs/short", 6, "--ckpt_path last") == 2
    err = capsys.readouterr().err
    assert "runs/short/checkpoints/last.ckpt: not a readable checkpoint" in err
    assert "best.ckpt" in err
    assert grpo("runs/short", 6, "--ckpt_path best") == 0


def test_stored_logprobs_of_another_temperature_are_refused(capsys):
    assert avatar("runs/warm", 4) == 0
    assert avatar("runs/warm", 6, "--ckpt_path last --model.temperature 0.5") == 2
    assert "log-probs at model.temperature 1, not at 0.5" in capsys.readouterr().err


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step(capsys):
    assert grpo("runs/finite", 2) == 0
    good = Path("runs/finite/checkpoints/last.ckpt").read_bytes()
    assert grpo("runs/finite", 9, "--ckpt_path last --model.rewards [tests_rewards.Huge]") == 2
    assert "the norm of the gradient is" in capsys.readouterr().err
    assert Path("runs/finite/checkpoints/last.ckpt").read_bytes() == good


def test_a_new_run_in_the_folder_of_an_old_one_loses_no_metrics():
    assert grpo("runs/twice", 2) == 0
    first = Path("runs/twice/metrics.csv").read_bytes()
    assert grpo("runs/twice", 1) == 0
    assert Path("runs/twice/metrics.1.csv").read_bytes() == first


def test_a_checkpoint_rebuilds_its_model_without_config_or_base_folder(whole, capsys):
    moved = Path("elsewhere/checkpoints")
    moved.mkdir(parents=True, exist_ok=True)
    shutil.copy(whole / "checkpoints" / "best.ckpt", moved)
    away = Path("runs/micro/sft/model").rename("runs/micro/sft/model-away")
    try:
        assert run("test --benchmark micro --ckpt_path elsewhere/checkpoints/best.ckpt") == 0
    finally:
        away.rename("runs/micro/sft/model")
    results = json.loads(Path("elsewhere/test/micro-best.results.json").read_text())
    predictions = [json.loads(x) for x in Path("elsewhere/test/micro-best.predictions.jsonl").read_text().splitlines()]
    assert results["num_scored"] == len(predictions) == 20  # 4 clips x 5 questions
    assert results["accuracy"] == pytest.approx(sum(p["score"] for p in predictions) / 20)
    assert "sum" in capsys.readouterr().out


def test_last_without_a_config_is_the_newest_and_says_so(whole, capsys):
    assert run("test --benchmark micro --ckpt_path last") == 0
    assert "last.ckpt" in capsys.readouterr().err


def test_an_exported_model_answers_as_its_checkpoint_does(whole):
    policy = f"--model.policy Policy --model.policy.path {whole}/model --model.policy.dtype float32"
    assert run(f"test --benchmark micro --trainer.default_root_dir exported {policy} --model.max_new_tokens 8") == 0
    assert run(f"test --benchmark micro --ckpt_path {whole}/checkpoints/last.ckpt") == 0
    ours, theirs = (
        [json.loads(line)["output"] for line in path.read_text().splitlines()]
        for path in (
            Path(f"exported/test/micro-{whole.name}-model.predictions.jsonl"),
            whole / "test" / "micro-last.predictions.jsonl",
        )
    )
    assert ours == theirs


def test_validate_and_predict_take_a_checkpoint_too(whole):
    last = f"--ckpt_path {whole}/checkpoints/last.ckpt"
    assert run(f"validate --config configs/micro/grpo.yaml {last}") == 0
    assert run(f"predict --benchmark micro {last}") == 0


def test_a_corrupt_clip_is_skipped_counted_and_named(capfd):
    shutil.copytree("data/micro/train", "data/broken", dirs_exist_ok=True)
    shard = next(Path("data/broken").glob("*.tar"))
    raw = bytearray(shard.read_bytes())
    raw[512 + 2000 : 512 + 16000] = bytes(14000)  # inside the first clip
    shard.write_bytes(raw)
    assert grpo("runs/broken", 12, "--data.train data/broken --trainer.val_check_interval 12") == 0
    err = capfd.readouterr().err
    assert "5 records were skipped" in err
    assert "train-000000" in err
    assert grpo("runs/strict", 12, "--data.train data/broken --data.on_error raise") == 2
    assert "train-000000" in capfd.readouterr().err


WRONG = [
    (
        "fit --config configs/micro/grpo.yaml --model.advantage GRPPO",
        r"unknown advantage 'GRPPO'\. Did you mean 'GRPO'\?",
    ),
    (
        "fit --config configs/micro/grpo.yaml --model.rewards [Formatt]",
        r"unknown reward 'Formatt'\. Did you mean 'Format'",
    ),
    ("fit --config configs/micro/grpo.yaml --model.num_generation 4", r"Did you mean 'num_generations'"),
    ("fit --config configs/micro/grpo.yaml --trainer.max_stepz 4", r"Did you mean '--trainer.max_steps'"),
    ("fit --config configs/micro/grpo.yaml --model.num_generations 1", r"num_generations must be at least 2, got 1"),
    ("fit --config configs/micro/grpo.yaml --model.advantage.epss 1", r"Did you mean 'eps'"),
    ("fit --config configs/micro/grpo.yaml --model.advantage Mixed", r"Mixed scores replayed .* add a model.replay"),
    ("fit --config configs/micro/avatar.yaml --model.advantage GRPO", r"of other prompts: take Mixed or AVATAR"),
    (
        "fit --config configs/micro/avatar.yaml --model.advantage.shape Parabolic",
        r"unknown argument 'shape'.* TAS has it",
    ),
    ("fit --config configs/micro/avatar.yaml --model.replay 4", r"--model.replay is a section, got '4'"),
    ("fit --config configs/micro/avatar.yaml --model.max_grad_norm -1", r"max_grad_norm must be above 0"),
    ("fit --config configs/micro/grpo.yaml --trainer.gradient_clip_val 1", r"set model.max_grad_norm"),
    ("fit --config configs/micro/grpo.yaml --trainer.accumulate_grad_batches 2", r"set data.batch_size"),
    ("fit --config configs/micro/sft.yaml --trainer.gradient_clip_val 1", r"set model.max_grad_norm"),
    ("fit --config configs/micro/sft.yaml --trainer.accumulate_grad_batches 2", r"model.micro_batch_size"),
    (
        "fit --config configs/omni7b/grpo.yaml",
        r"data/train: no such shard"
        if torch.cuda.is_available()
        else r"There is no GPU here: --trainer.accelerator cpu",
    ),
    ("fit --config configs/micro/grpo.yaml --model.optimizer.lr -1", r"model.optimizer: Invalid learning rate"),
    ("fit --config configs/micro/grpo.yaml --model.lora.r 8", r"belongs to --model.policy.lora.r"),
    ("fit --config configs/micro/avatar.yaml --model.replay.max_staleness 0", r"nothing could ever be replayed"),
    ("fit --config configs/micro/grpo.yaml --model.num_replayed 4", r"belongs to --model.replay.num_replayed"),
    ("fit --config configs/micro/grpo.yaml --model.beta 0.1", r"belongs to --model.objective.beta"),
    ("fit --config configs/micro/avatar.yaml --model.replay.hard_share 0.5", r"sum to 1, their sum is 1.1"),
    ("fit --config configs/micro/avatar.yaml --model.advantage.strength -1", r"strength must be 0 or more, got -1"),
    ("fit --config configs/micro/avatar.yaml --model.replay.scope all", r"expected 'prompt' or 'any', got 'all'"),
    (
        "fit --config configs/micro/avatar.yaml --model.hints Zero",
        r"unknown hint trigger 'Zero'\. Did you mean 'ZeroStr",
    ),
    (
        "fit --config configs/micro/avatar.yaml --model.advantage TAS --model.advantage.shape Parabolik",
        r"unknown credit shape 'Parabolik'\. Did you mean 'Parabolic'",
    ),
    ("fit --config configs/micro/avatar.yaml --model.num_generations 2", r"num_generations must be at least 4 with"),
    ("fit --config configs/micro/grpo.yaml --data.batch_size many", r"--data.batch_size: expected int, got 'many'"),
    ("fit --config configs/micro/grpo.yaml --data.train nowhere", r"nowhere: no such shard folder"),
    ("fit --config configs/micro/grpo.yaml --data.train configs", r"configs: no shard"),
    ("fit --config configs/micro/grpo.yaml --model.policy.path nowhere", r"no model at 'nowhere'"),
    ("fit --config configs/micro/grpo.yaml --ckpt_path nowhere.ckpt", r"no such file: nowhere.ckpt"),
    (
        "fit --config configs/micro/grpo.yaml --trainer.default_root_dir runs/none --ckpt_path last",
        r"no last.ckpt in runs",
    ),
    ("fit --config nowhere.yaml", r"nowhere.yaml"),
    ("fit", r"--model is missing"),
    ("test --benchmark micro", r"--model.policy is missing"),
    ("fti", r"unknown command 'fti'\. Did you mean 'fit'\?"),
    ("test --benchmark mirco", r"unknown benchmark 'mirco'\. Did you mean 'micro'\?"),
    ("test --benchmark micro --benchmark_root nowhere --ckpt_path last", r"nowhere: no such shard folder"),
    ("test --benchmark micro --swap smell --ckpt_path last", r"--swap must be audio or video"),
    ("test --ckpt_path last", r"give --benchmark NAME"),
    ("test --benchmark micro --ckpt_path data/micro/manifest.json", r"not a readable checkpoint"),
    ("list advantagez", r"unknown group 'advantagez'\. Did you mean 'advantages'\?"),
    ("data synth --out configs", r"configs is not empty"),
]


@pytest.mark.parametrize(("command", "message"), WRONG, ids=[c for c, _ in WRONG])
def test_what_is_wrong_is_told_in_a_few_lines(command, message, whole, capsys):
    assert run(command) == 2
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert len(err.splitlines()) < 40


def test_an_empty_shard_is_named(capsys):
    Path("data/empty").mkdir(exist_ok=True)
    Path("data/empty/00000.tar").write_bytes(bytes(10240))
    assert grpo("runs/empty", 1, "--data.train data/empty") == 2
    assert "data/empty/00000.tar" in capsys.readouterr().err


def test_list_shows_every_group(capsys):
    assert run("list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("GRPO", "Format", "Accuracy", "HFEngine", "micro", "qwen2_5_omni"))


def test_the_demo_leaves_its_table_its_picture_and_its_figures(capsys):
    assert run("demo --out runs/demo --scale 0.03 --max_steps 4") == 0
    summary = json.loads(Path("runs/demo/summary.json").read_text())
    assert {name: arm["completions_generated"] for name, arm in summary["arms"].items()} == {
        "GRPO-8": 4 * 8, "GRPO-4": 4 * 4, "AVATAR": 4 * 4,
    }  # fmt: skip
    for arm in (*summary["arms"].values(), {"by_kind": summary["by_kind_before"]}):
        assert set(arm["by_kind"]) == {"beeps", "color", "flashes", "more", "sum"}
    assert {"accuracy_before", "seed", "seconds", "num_questions"} <= set(summary)
    for picture in ("learning_curve.png", "health.png"):
        assert Path("runs/demo", picture).read_bytes()[:4] == b"\x89PNG"
    assert "completions generated" in capsys.readouterr().out


def readme_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("avatar ")]


@pytest.mark.slow
def test_every_command_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch):
    """In order, in an empty folder with the configs, a benchmark and a clip; only shortened."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    write_omnibench(tmp_path / "data/benchmarks/omnibench", 4)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/lamp.mp4").write_bytes(film(0))
    commands = readme_commands()
    assert len(commands) >= 7
    for command in commands:
        short = " --scale 0.03" if " synth " in command else ""
        if command == "avatar bench step":
            short = " --prompt_tokens 96 --hidden_size 64 --num_layers 1 --completion_tokens 4 --steps 1 --warmup 1"
        if " rewards attack " in command:
            short = " --quick true"
        if command == "avatar bench rewards":
            short = " --completions 40 --words 10"
        if command == "avatar bench data":
            short = " --clips 2 --long_seconds 4 --rounds 1"
        if " sweep " in command:
            short = " --axis seed_everything=0 --set trainer.max_steps=2 --set trainer.val_check_interval=1"
        if " fit " in command:
            short = " --trainer.max_steps 3 --trainer.val_check_interval 3 --data.batch_size 4"
        assert run(command.removeprefix("avatar ") + short) == 0, command


@pytest.mark.parametrize("at", [3, 4])
def test_a_run_stopped_where_no_validation_is_due_makes_none(whole, at, monkeypatch):
    """And where one is due it is made once: stopped at either step and resumed, the metrics are those of one go."""
    taken = RLModule.training_step

    def step(self, *args):
        if self.global_step + 1 == at:
            os.kill(os.getpid(), signal.SIGINT)
        return taken(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(RLModule, "training_step", step)
        assert grpo(f"runs/stopped{at}", 6) == 130
    assert [int(r["step"]) for r in rows(f"runs/stopped{at}")] == list(range(at + 1))
    assert grpo(f"runs/stopped{at}", 6, "--ckpt_path last") == 0
    assert rows(f"runs/stopped{at}") == rows(str(whole))


@pytest.mark.slow
def test_ctrl_c_saves_and_the_run_goes_on_from_there(whole):
    command = [sys.executable, "-m", "avatar.cli", *shlex.split(GRPO), "--trainer.default_root_dir=runs/stopped"]
    command += ["--trainer.max_steps=400"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    metrics, deadline = Path("runs/stopped/metrics.csv"), time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) > 4):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    reached = int(rows("runs/stopped")[-1]["step"])
    saved = torch.load("runs/stopped/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert 0 < saved == reached < 400
    assert grpo("runs/stopped", reached + 2, "--ckpt_path last") == 0
    assert [int(r["step"]) for r in rows("runs/stopped")] == list(range(reached + 3))
    fresh = rows(str(whole))[1:4]
    assert rows("runs/stopped")[1:4] == fresh  # and what was written before is as it was


def test_an_interrupted_synth_is_simply_started_again(tmp_path):
    (tmp_path / "chains.partial").mkdir()
    (tmp_path / "chains.partial" / "00000.tar").write_bytes(b"half")
    assert run(f"data synth --out {tmp_path} --scale 0.001") == 0
    assert not (tmp_path / "chains.partial").exists()
    assert run(f"data synth --out {tmp_path} --scale 0.001 --seed 1") == 2  # another world lies there now


@pytest.mark.slow
def test_two_processes_share_one_memory_and_one_validation(world):
    """DDP over two CPU processes: what either of them visits is in the one buffer that the checkpoint holds."""
    command = [sys.executable, "-m", "avatar.cli", *shlex.split(AVATAR), "--trainer.default_root_dir=runs/two"]
    command += ["--trainer.max_steps=6", "--data.batch_size=1", "--data.eval_batch_size=4"]
    command += ["--trainer.strategy=ddp", "--trainer.devices=2"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    table = rows("runs/two")
    assert [float(r["completions/generated"]) for r in table[1:]] == [8, 16, 24, 32, 40, 48]  # 2 processes x 4
    saved = torch.load("runs/two/checkpoints/last.ckpt", weights_only=True)["rl"]["memory"]
    assert len(saved["buffer"]["rewards"]) == 48
    assert len(saved["tracker"]["keys"]) == 10  # 6 steps x 2 processes, over the ten prompts of the pool
    assert any(float(r["replay/replayed"] or 0) for r in table)
