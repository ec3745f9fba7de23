"""`avatar ask` through the command line: what is printed, and what is told when something is wrong."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data import media_files
from rich.console import Console

from avatar import cli
from avatar.commands.ask import show_reply
from avatar.data.micro import SPLITS, draw_split, render_mp4
from avatar.modules.asking import read_reply
from avatar.types import Completion

ROOT = Path(__file__).parent.parent
LAMP = "runs/micro/avatar --video clips/lamp.mp4"
PAGE = (ROOT / "docs" / "ask.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def world(micro, tmp_path_factory):
    """A folder with two steps of a cold start and a few clips."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "data").mkdir()
    shutil.copytree(micro, folder / "data" / "micro")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "clips").mkdir()
    for name, content in {"lamp.mp4": media_files.good(), "mute.mp4": media_files.mute()}.items():
        (folder / "clips" / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit = "fit --config configs/micro/sft.yaml --trainer.max_steps 2 --model.perception.steps 1 --data.batch_size 4"
        assert cli.main([*fit.split(), "--trainer.default_root_dir", "runs/micro/avatar"]) == 0
    return folder


@pytest.fixture
def ask(world, monkeypatch, capsys):
    """The exit status, and what is printed to either stream."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("COLUMNS", "200")

    def run(command):
        capsys.readouterr()
        status = cli.main(["ask", *shlex.split(command)])
        return status, *capsys.readouterr()

    return run


def test_it_answers_what_avatar_test_answers(ask, world):
    graded = shlex.split("test --benchmark micro --ckpt_path last --benchmark_root data/micro/test")
    assert cli.main(graded) == 0
    (file,) = world.glob("runs/micro/avatar/test/*.predictions.jsonl")
    rows = {row["id"]: row for row in map(json.loads, file.read_text().splitlines())}
    clips = round(SPLITS["test"] * 0.03)
    asked = {
        f"{key}/q{i}": (scene, r) for key, scene, records in draw_split("test", clips, 0) for i, r in enumerate(records)
    }
    assert set(asked) == set(rows)
    for key in sorted(rows)[:3]:
        scene, record = asked[key]
        (world / "clips" / "scene.mp4").write_bytes(render_mp4(scene))
        text = " ".join([record.question, " / ".join(record.options)]).strip()  # as the micro-world shows options
        command = f'last --video clips/scene.mp4 --wording plain --max_new_tokens 32 --json true "{text}"'
        status, printed, told = ask(command)
        assert status == 0
        assert json.loads(printed)["output"] == rows[key]["output"]
        assert "last is runs/micro/avatar/checkpoints/last.ckpt" in told


def test_json_goes_to_standard_output_and_nothing_else_does(ask):
    several = f"{LAMP} --temperature 1 --num 2 --json true"
    status, printed, told = ask(f'{several} --options red,green "what color ?"')
    assert status == 0
    rows = [json.loads(line) for line in printed.splitlines()]
    assert len(rows) == 2
    assert list(rows[0]) == ["output", "reasoning", "answer", "parsed", "how", "finished", "num_tokens", "seconds"]
    assert "clips/lamp.mp4: 16 frames of 56 x 56 from 0.0 to 1.9 s, 2.0 s of sound" in told
    again = ask(f'{several} --options red --options green "what color ?"')[1]
    assert [json.loads(line)["output"] for line in again.splitlines()] == [row["output"] for row in rows]


def test_people_see_what_was_seen_and_whether_the_reply_is_whole(ask):
    short = "runs/micro/avatar/model --max_new_tokens 3 what"
    printed = ask(f"{short} --video clips/mute.mp4 --audio clips/lamp.mp4 --start 0.5 --end 1")[1]
    assert "clips/mute.mp4: 4 frames of 56 x 56 from 0.5 to 0.9 s, no sound track\n" in printed
    assert "clips/lamp.mp4: 0.5 s of sound\n" in printed
    assert "cut off after 3 tokens; --max_new_tokens 6 lets it go on" in printed
    assert "nothing is shown" in ask(short)[1]
    assert "s, no sound\n" in ask(f"{short} --video clips/lamp.mp4 --sound false")[1]


def test_the_question_may_come_from_standard_input(ask, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(" what color ?\n"))
    piped = ask(f"{LAMP} --max_new_tokens 8 -")[1]
    assert piped == ask(f'{LAMP} --max_new_tokens 8 "what color ?"')[1]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", r"CKPT and question missing: avatar ask CKPT --video"),
        ("last", r"question missing: avatar ask CKPT --video"),
        ('last " "', r"the question is empty"),
        ("last --video clips/lamp.mp4 what color", r"too many words: 'color'\. Put the question in quotes"),
        ("last --vidio clips/lamp.mp4 what", r"unknown argument --vidio\. Did you mean '--video'"),
        ("last --video clips/lap.mp4 what", r"no such file: clips/lap\.mp4\. Did you mean 'lamp\.mp4'"),
        ("best what", r"best: no best\.ckpt under runs/; give the file"),
        ("runs/micro/avata what", r"no such checkpoint.*Did you mean 'avatar'"),
        ("last --image clips/lamp.mp4 what", r"clips/lamp\.mp4 is a video \(MP4\) and no image"),
        ("last --audio clips/mute.mp4 what", r"clips/mute\.mp4: there is no sound track to hear"),
        ("last --start 1 what", r"--start and --end crop videos and sounds"),
        ("last --options red what", r"--options must name two or more.*'red'"),
        ("last --options red,,blue what", r"--options must name two or more, none of them empty"),
        ("last --num 2 what", r"num must be 1 where the temperature is 0"),
        ("last --wording aloud what", r"wording must be one of think, direct, plain, got 'aloud'"),
        ("last --device gpu what", r"device 'gpu' cannot be used here"),
        ("last --sound loud what", r"--sound: expected bool, got 'loud'"),
        ("last --max_frames 0 what", r"max_frames must be at least 1, got 0"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(command, message, ask):
    status, printed, told = ask(command)
    assert status == 2
    assert re.search(f"error: .*{message}", told)
    assert not printed


def shown(text: str, options: tuple[str, ...] = (), finished: bool = True) -> str:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    show_reply(console, read_reply(Completion(torch.arange(4), torch.zeros(4), text, finished), options))
    return re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())


def test_a_reply_is_shown_by_its_parts():
    whole = shown("<think>it is [bold]green</think><answer>B</answer>", ("red", "green"))
    assert "reasoning" in whole
    assert "it is [bold]green" in whole  # what a model writes is no markup
    assert whole.endswith("\nB\nread as: green (strict)\n")
    assert shown("No tags, \x1b[31mno panel.") == "No tags, [31mno panel.\n"
    assert "read as: none of the options, or several" in shown("maybe", ("red", "green"))
    assert shown("<think>it", finished=False).endswith("cut off after 4 tokens; --max_new_tokens 8 lets it go on\n")


def test_every_command_of_the_page_runs(ask):
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        assert ask(command.removeprefix("avatar ask "))[0] == 0, command


@pytest.mark.slow
def test_the_python_example_of_the_page_runs(world):
    (code,) = blocks("python")
    (world / "example.py").write_text(code)
    done = subprocess.run([sys.executable, "example.py"], cwd=world, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(\w+|None) (strict|lenient|unparsed)\n$", done.stdout)
