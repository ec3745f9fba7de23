"""What `avatar test --benchmark` makes of its options, where test_benchmark_runs does not show it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from jsonargparse import Namespace
from tests_benchmark_worlds import write_omnibench, write_video_holmes

from avatar.benchmarks import BENCHMARKS, places
from avatar.benchmarks.data import BenchmarkData
from avatar.benchmarks.recipe import Recipe
from avatar.commands.evaluating import benchmark_names, every_benchmark, output_name, recipe_of, root_of
from avatar.errors import AvatarError, DataError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Neither the folder of the tests nor a cache of this machine plays a part."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "HF_HUB_CACHE", str(tmp_path / "own cache"))
    return tmp_path


def holmes_in_cache(cache: Path) -> None:
    """Video-Holmes as the hub's client keeps it: each file a link into a store of contents."""
    home = cache / f"datasets--{BENCHMARKS['video_holmes'].hub.replace('/', '--')}"
    written = write_video_holmes(home / "blobs", films=1)
    for file in [path for path in written.rglob("*") if path.is_file()]:
        link = home / "snapshots/abc" / file.relative_to(written)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(file, link.parent))


# -- which benchmarks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("omnibench", ["omnibench"]),
        ("OmniBench, video-mme", ["omnibench", "video_mme"]),
        ("cg-av-counting", ["av_counting"]),
        ("mmvu,omnibench,MMVU", ["mmvu", "omnibench"]),  # each once
    ],
)
def test_names_may_be_written_as_people_write_them(asked, names):
    assert benchmark_names(asked, None) == names


@pytest.mark.parametrize("asked", ["omnibench,", "", "all,omnibench", "omnibench mmvu"])
def test_a_name_of_none_is_refused(asked):
    with pytest.raises(AvatarError):
        benchmark_names(asked, None)


def test_all_are_those_of_the_paper_whose_files_are_there(here):
    write_omnibench(here / "some/omnibench", num=1)
    write_video_holmes(here / "some/video_holmes", films=1)
    (here / "some/mmvu").mkdir()  # nothing in it
    (here / "some/jsonl").mkdir()
    (here / "some/jsonl/questions.jsonl").touch()  # no published one
    found = benchmark_names("all", "some")
    assert sorted(found) == ["omnibench", "video_holmes"]
    assert found == [name for name in every_benchmark() if name in found]  # in the order of the registry
    assert "jsonl" not in every_benchmark()
    assert len(every_benchmark()) >= 15


def test_all_may_lie_in_a_hub_cache_or_in_the_own_one(here):
    holmes_in_cache(here / "cache")
    assert benchmark_names("all", "cache") == ["video_holmes"]
    holmes_in_cache(here / "own cache")
    assert benchmark_names("all", None) == ["video_holmes"]


def test_where_there_are_files_of_none_the_message_says_where_they_go(here):
    with pytest.raises(DataError, match=r"nowhere holds files of none of .*omnibench.* into nowhere/NAME"):
        benchmark_names("all", "nowhere")
    with pytest.raises(DataError, match="data/benchmarks/NAME"):
        benchmark_names("all", None)


def test_of_several_each_has_a_folder_of_its_own_below_the_root_if_it_is_there(here):
    (here / "some/omnibench").mkdir(parents=True)
    assert root_of("omnibench", "some", several=True) == Path("some/omnibench")
    assert root_of("mmvu", "some", several=True) == Path("some")
    assert root_of("omnibench", "some", several=False) == Path("some")
    assert root_of("omnibench", None, several=True) is None


def test_media_of_a_hub_cache_are_found_through_its_links(here):
    holmes_in_cache(here / "cache")
    data = BenchmarkData("video_holmes", str(here / "cache"))
    with pytest.warns(UserWarning, match="video_holmes: 3 of"):
        data.setup("test")
    data.teardown("test")
    assert data.missing == {}
    assert all(entry.members for entry in data.entries)


# -- how they are asked ------------------------------------------------------------------------------------------------


def test_options_change_what_the_benchmark_pins_and_nothing_else():
    pinned = BENCHMARKS["video_mmmu"].recipe
    assert recipe_of("video_mmmu", Namespace()) == pinned
    assert recipe_of("video_mmmu", Namespace(recipe=Namespace(max_frames=None), modalities=None)) == pinned
    chosen = Namespace(recipe=Namespace(max_frames=3, letter_options=False, fps=None), modalities="audio")
    wanted = replace(pinned, max_frames=3, letter_options=False, modalities="audio")
    assert recipe_of("video_mmmu", chosen) == wanted


def test_files_are_named_by_what_is_asked_otherwise_than_the_benchmark_pins_it():
    pinned = BENCHMARKS["mmvu"].recipe
    assert output_name(BenchmarkData("mmvu"), "qwen2.5") == "mmvu-qwen2.5"
    assert output_name(BenchmarkData("mmvu", recipe=replace(pinned)), "qwen2.5") == "mmvu-qwen2.5"
    other = BenchmarkData("mmvu", swap="audio", limit=5, recipe=replace(pinned, fps=0.5, modalities="audio"))
    assert output_name(other, "best") == "mmvu-best-swap_audio-fps_0.5-modalities_audio-limit_5"


def test_no_two_ways_of_asking_share_their_files():
    changes = [{}, {"limit": 5}, {"limit": 50}, {"swap": "audio"}, {"swap": "video"}]
    recipes = [{}, {"max_frames": 3}, {"fps": 3.0}, {"modalities": "none"}, {"wording": "plain"}, {"min_pixels": 3}]
    pinned = Recipe()
    assert BENCHMARKS["omnibench"].recipe == pinned
    names = [
        output_name(BenchmarkData("omnibench", recipe=replace(pinned, **recipe), **change), "m")
        for change in changes
        for recipe in recipes
    ]
    assert len(set(names)) == len(names) == 30


def test_a_name_that_says_too_much_is_cut_to_a_hash_that_tells_it_apart():
    long = [
        BenchmarkData("omnibench", recipe=Recipe(8, 1.5, 784, 7840, 12.5, tokens, "video", "direct", False), limit=3)
        for tokens in (12, 13)
    ]
    names = [output_name(data, "m" * 300) for data in long]
    assert len(set(names)) == 2
    assert max(map(len, names)) <= 150
    assert output_name(BenchmarkData("omnibench"), "best") == "omnibench-best"
