import os

import pytest

from avatar.benchmarks import places
from avatar.benchmarks.places import find_home, snapshots
from avatar.errors import DataError

ANNOTATION = ("data/test-*.json", "test.json")


def find(root=None, default="data/benchmarks/pets", hub="org/pets", annotation=ANNOTATION):
    return find_home("Pets", "hf.co/datasets/org/pets", annotation, hub, default, root)


def put(folder, name="test.json"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("[]")
    return folder


def put_in_cache(cache, revision="abc", time=1000, hub="org/pets", name="data/test-0.json"):
    """As the hub's own client lays it out: files are links into a store of contents."""
    home = cache / f"datasets--{hub.replace('/', '--')}"
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    (home / f"blobs/{revision}-content").write_text("[]")
    link = home / "snapshots" / revision / name
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(home / f"blobs/{revision}-content", link.parent))
    os.utime(home / "snapshots" / revision, (time, time))
    return home / "snapshots" / revision


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Neither the folder of the tests nor a cache of this machine plays a part."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "HF_HUB_CACHE", str(tmp_path / "own cache"))
    return tmp_path


def test_a_root_is_the_folder_itself_or_the_one_that_holds_it(here):
    home = put(here / "all/pets")
    assert find(home) == home
    assert find(here / "all") == home


@pytest.mark.parametrize("name", ["test.json", "data/test-00000-of-00001.json"])
def test_any_of_the_patterns_will_do(here, name):
    assert find(put(here / "a folder", name)) == here / "a folder"


def test_the_folder_itself_comes_before_one_within_it(here):
    put(here / "all/pets")
    assert find(put(here / "all")) == here / "all"


def test_a_root_may_be_a_hub_cache_whose_files_are_links(here):
    assert find(here / "cache" if put_in_cache(here / "cache") else None) == (
        here / "cache/datasets--org--pets/snapshots/abc"
    )


def test_without_a_root_the_default_folder_comes_before_the_own_cache(here):
    cached = put_in_cache(here / "own cache")
    assert find() == cached
    put(here / "data/benchmarks/pets")
    assert find().resolve() == here / "data/benchmarks/pets"


def test_a_root_that_is_given_keeps_the_own_cache_out(here):
    put_in_cache(here / "own cache")
    (here / "empty").mkdir()
    with pytest.raises(DataError):
        find(here / "empty")


def test_of_several_revisions_the_newest_with_the_annotation_is_taken(here):
    cache = here / "cache"
    old, new = put_in_cache(cache, "zzz", time=1000), put_in_cache(cache, "aaa", time=2000)
    newest = put_in_cache(cache, "half", time=3000, name="README.md")  # not downloaded to the end
    (cache / "datasets--org--pets/snapshots/stray.txt").write_text("no folder")
    assert list(snapshots(cache, "org/pets")) == [newest, new, old]
    assert find(cache) == new


def test_a_benchmark_that_is_not_on_the_hub_is_not_looked_for_in_a_cache(here):
    (here / "cache/datasets--/snapshots/abc").mkdir(parents=True)
    assert list(snapshots(here / "cache", "")) == []
    assert list(snapshots(here / "nowhere", "org/pets")) == []


def test_another_dataset_of_the_cache_is_not_taken(here):
    put_in_cache(here / "cache", hub="org/pets-2")
    with pytest.raises(DataError):
        find(here / "cache")


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_where_it_is_not_the_message_says_what_was_looked_for_and_where(here, kind):
    root = here / "root"
    if kind == "empty":
        root.mkdir()
    if kind == "file":
        root.write_text("no folder")
    with pytest.raises(DataError) as found:
        find(root)
    said = str(found.value)
    for words in (*ANNOTATION, f"in {root}", f"{root / 'pets'}", "org/pets in the hub cache", "--benchmark_root"):
        assert words in said
    with pytest.raises(DataError) as found:
        find(root, hub="")
    assert "hub cache" not in str(found.value)


def test_without_a_root_the_message_names_the_own_cache(here):
    with pytest.raises(DataError, match=f"hub cache {here / 'own cache'}"):
        find()
