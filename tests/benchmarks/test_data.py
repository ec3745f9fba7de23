import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_benchmark_worlds import write_video_holmes

from avatar.benchmarks.data import BenchmarkData, spread
from avatar.benchmarks.recipe import Recipe
from avatar.errors import ConfigError, DataError

quick = settings(max_examples=100, deadline=None)


@given(total=st.integers(0, 500), limit=st.integers(1, 600))
@quick
def test_a_limit_takes_so_many_different_ones_in_order_from_the_first_on(total, limit):
    taken = spread(total, limit)
    assert len(taken) == min(total, limit)
    assert taken == sorted(set(taken))
    assert set(taken) <= set(range(total))


@given(total=st.integers(1, 500), limit=st.integers(1, 500))
@quick
def test_a_limit_takes_one_of_each_stretch_and_always_the_same(total, limit):
    taken = spread(total, limit)
    ends = [i * total // len(taken) for i in range(len(taken) + 1)]
    assert all(a <= place < b for place, (a, b) in zip(taken, pairwise(ends), strict=True))
    assert taken == spread(total, limit)


def test_a_limit_is_not_in_step_with_questions_that_come_in_turns():
    kinds = {place % 3 for place in spread(1200, 400)}  # three about each clip
    assert kinds == {0, 1, 2}


def test_no_limit_takes_all():
    assert spread(3, None) == [0, 1, 2]


def write(root, sizes=(5, 9, 5, 9, 1, 0)):
    """Two questions about each of so many files of so many bytes, the second half of the questions behind the first."""
    lines = []
    for i, size in enumerate(sizes):
        (root / f"{i}.mp4").write_bytes(b"x" * size)
    for key in "ab":
        for i in range(len(sizes)):
            line = {"id": f"{i}{key}", "question": "how many ?", "answer": 1, "media": [{"video": f"{i}.mp4"}]}
            lines.append(json.dumps(line) + "\n")
    (root / "questions.jsonl").write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    found = BenchmarkData("jsonl", str(write(tmp_path_factory.mktemp("clips"))), batch_size=5)
    found.setup("test")
    yield found
    found.teardown("test")


def keys(data, batches):
    return [[data.keys[position] for position in batch] for batch in batches]


def test_questions_about_a_clip_stand_together_and_the_largest_come_first(data):
    # files 1 and 3 have 9 bytes, 0 and 2 have 5, 4 has 1, 5 none
    assert keys(data, data.batches(set())) == [
        ["1a", "1b", "3a", "3b", "0a"],
        ["0b", "2a", "2b", "4a", "4b"],
        ["5a", "5b"],
    ]


@given(answered=st.sets(st.sampled_from([f"{i}{key}" for i in range(6) for key in "ab"])))
@quick
def test_the_batches_are_the_same_whatever_was_answered_less_what_was(data, answered):
    whole = keys(data, data.batches(set()))
    left = [[key for key in batch if key not in answered] for batch in whole]
    assert keys(data, data.batches(answered)) == [batch for batch in left if batch]


def test_what_another_run_answered_plays_no_part(data):
    assert data.batches({"unknown", ""}) == data.batches(set())


def test_missing_questions_are_in_no_batch_and_move_no_other(tmp_path):
    root = write(tmp_path)
    whole = BenchmarkData("jsonl", str(root), batch_size=5)
    whole.setup("test")
    whole.teardown("test")
    assert whole.missing == {}
    (root / "5.mp4").unlink()  # the smallest: the order of the others stays
    with pytest.raises(DataError, match=r"1 of 6 media files are missing.*5\.mp4"):
        BenchmarkData("jsonl", str(root)).setup("test")
    some = BenchmarkData("jsonl", str(root), batch_size=5, allow_missing=True)
    some.setup("test")
    some.teardown("test")
    assert list(some.missing) == ["5a", "5b"]
    assert keys(some, some.batches(set())) == keys(whole, whole.batches(set()))[:2]


def test_media_of_questions_that_are_not_asked_are_not_missed(tmp_path):
    root = write(tmp_path)
    (root / "5.mp4").unlink()
    some = BenchmarkData("jsonl", str(root), limit=2)
    some.setup("test")
    some.teardown("test")
    assert (len(some.keys), some.positions) == (12, [2, 8])  # neither is about film 5
    assert keys(some, some.batches(set())) == [["2a", "2b"]]


@pytest.mark.parametrize("name", ["batch_size", "limit", "num_workers"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_number_below_one_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got {value}"):
        BenchmarkData("jsonl", **{name: value})


def test_what_is_not_said_is_as_the_benchmark_has_it():
    plain = BenchmarkData("video_mmmu")
    assert (plain.recipe, plain.batch_size, plain.root) == (plain.benchmark.recipe, plain.benchmark.batch_size, None)
    told = BenchmarkData("video_mmmu", root="here", batch_size=3, recipe=Recipe(max_frames=2))
    assert (told.recipe, told.batch_size, str(told.root)) == (Recipe(max_frames=2), 3, "here")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_a_file_without_questions_is_told(tmp_path, content):
    (tmp_path / "questions.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="jsonl: there are no questions in"):
        BenchmarkData("jsonl", str(tmp_path)).setup("test")


def test_fewer_records_than_there_should_be_are_told(tmp_path):
    few = BenchmarkData("video_holmes", str(write_video_holmes(tmp_path, films=1)))
    with pytest.warns(UserWarning, match=f"video_holmes: 3 of 1837 records in {tmp_path}"):
        few.setup("test")
    few.teardown("test")
