"""What docs/benchmarks.md and CONTRIBUTING.md say of benchmarks is so: commands, keys, options, files, figures."""

import json
import re
import shlex
import shutil
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from tests_benchmark_worlds import WORLDS, film

from avatar.benchmarks import BENCHMARKS, files, grades, question, records
from avatar.benchmarks.files import FileBenchmark
from avatar.benchmarks.recipe import Recipe
from avatar.cli import main
from avatar.commands.evaluating import add_options, every_benchmark
from avatar.data.schema import Medium
from avatar.registry import Registry

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
COLUMNS = ("Qwen2.5-Omni-7B", "+ GRPO", "+ AVATAR", "Ola-7B", "Ola-7B + GRPO", "Ola-7B + AVATAR")
SIZES = {"omnibench": 4, "video_holmes": 2, "vsi_bench": 2}


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]


def cells(title: str) -> list[list[str]]:
    """The rows of the first table of a section, without its head."""
    rows = [line.strip("| ").split(" | ") for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def named(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


@pytest.fixture(scope="module")
def world(micro, tmp_path_factory):
    """A folder with a short cold start as runs/mine, three small benchmarks and the page's own questions."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(micro, folder / "data/micro")
    shutil.copytree(ROOT / "configs", folder / "configs")
    for name, write in WORLDS.items():
        write(folder / "data/benchmarks" / name, SIZES[name])
    clips = folder / "data/mine/clips"
    clips.mkdir(parents=True)
    (clips / "yard.mp4").write_bytes(film(1))
    shutil.copy(folder / "data/benchmarks/omnibench/mm_data/audio/0.mp3", clips / "call.mp3")
    (folder / "data/mine/questions.jsonl").write_text(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        short = "--trainer.max_steps 3 --trainer.val_check_interval 3 --model.perception.steps 1 --data.batch_size 4"
        place = "--trainer.default_root_dir runs/mine"
        assert main(shlex.split(f"fit --config configs/micro/sft.yaml {place} {short}")) == 0
    return folder


@pytest.mark.filterwarnings("ignore:.*records in:UserWarning")
def test_every_command_of_the_page_runs_and_every_key_that_it_writes_is_explained(world, monkeypatch):
    monkeypatch.chdir(world)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("avatar ")]
    assert len(commands) == 5
    for command in commands:
        assert main(shlex.split(command.removeprefix("avatar "))) == 0, command
    explained = named(section("Results"))
    for path in Path("runs/mine/test").glob("*.results.json"):
        results = json.loads(path.read_text())
        keys = {key for key in results if not key.startswith("accuracy/")} | set(results["rows"][0])
        assert keys <= explained, keys - explained
    for path in Path("runs/mine/test").glob("*.predictions.jsonl"):
        keys = {key for line in path.read_text().splitlines() for key in json.loads(line)}
        assert keys <= explained, keys - explained


def test_every_option_of_the_command_stands_on_the_page():
    parser = ArgumentParser()
    add_options(parser, test=True)
    options = [o for o in parser._option_string_actions if o.startswith("--") and not o.startswith("--no_")]
    for option in (o for o in options if o != "--help"):
        assert f"`{option}" in PAGE or f"{option} " in PAGE, option


def test_the_defaults_of_the_recipe_are_those_of_the_code():
    rows = {name: row[1] for row in cells("What is asked, and how") for name in named(row[0])}
    recipe = Recipe()
    for name in ("max_frames", "max_audio_seconds", "max_new_tokens", "wording", "letter_options"):
        value = getattr(recipe, name)
        shown = f"{value:g}" if isinstance(value, float) else str(value).lower()
        assert re.match(rf"{shown}\b", rows[f"--recipe.{name}"]), name
    assert f"{recipe.min_pixels:,} and {recipe.max_pixels:,}" in rows["--recipe.max_pixels"]
    assert (rows["--recipe.fps"], recipe.fps) == ("none", None)
    pinned = {name: BENCHMARKS[name].recipe.max_frames for name in BENCHMARKS}
    assert {name for name, most in pinned.items() if most != recipe.max_frames} == named(rows["--recipe.max_frames"])


def test_every_benchmark_in_files_has_its_annotation_and_licence_on_the_page():
    rows = {name: row for row in cells("Where the files go") for name in named(row[0])}
    assert set(rows) == {name for name in BENCHMARKS if issubclass(BENCHMARKS[name], FileBenchmark)}
    for name, (_, annotation, _, licence) in rows.items():
        first = BENCHMARKS[name].annotation[0]
        assert first in named(annotation), name
        assert name == "jsonl" or licence.startswith(BENCHMARKS[name].licence), name


def test_the_published_figures_are_those_of_the_registry():
    rows = {row[0]: row[1:] for row in cells("Published figures")}
    assert set(rows) == {BENCHMARKS[name].title for name in every_benchmark()}
    for name in every_benchmark():
        cls = BENCHMARKS[name]
        assert rows[cls.title][:6] == [f"{cls.published[of]:.1f}" if of in cls.published else "-" for of in COLUMNS]
        others = "; ".join(f"{of} {value:g}" for of, value in cls.elsewhere.items())
        assert rows[cls.title][6] == (others or "-")


def test_the_benchmark_that_contributing_shows_works(tmp_path):
    block = re.search(r"```python\n( +@BENCHMARKS.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[1]
    names = {"BENCHMARKS": Registry("benchmark", "test"), "Any": Any, "Path": Path, "Medium": Medium}
    for module in (files, grades, question, records):
        names |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
    exec(dedent(block), names)  # noqa: S102
    record = {"id": "q1", "question": "What rings?", "options": ["A. bell", "B. phone"], "answer": "B"}
    (tmp_path / "qa.json").write_text(json.dumps([{**record, "video": "yard", "place": "outside"}]))
    mine = names["BENCHMARKS"]["mine"]()
    (found,) = mine.questions(tmp_path)
    assert (found.gold, found.texts, found.media[0].name) == ("B", ("bell", "phone"), "videos/yard.mp4")
    assert found.groups == {"place": "outside"}
    assert (mine.grade("<answer>B</answer>", found).score, mine.grade("phone", found).score) == (1.0, 1.0)
    assert (mine.grade("B.", found, "official").score, mine.grade("<answer>B", found, "official").score) == (1.0, 0.0)
    assert mine.prompts(tmp_path, mine.recipe)  # its media are missed only when it is asked
