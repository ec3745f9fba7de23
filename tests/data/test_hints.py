"""Hints beside the shards: found by key, the last line of a key counts, twenty bytes of memory for each."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import avatar.data.hints as hints_module
from avatar import cli
from avatar.data.dataset import PromptDataset, start_decoders
from avatar.data.hints import NAME, Hints, Overlay
from avatar.data.index import ShardIndex
from avatar.data.micro import RULE
from avatar.data.module import ShardData
from avatar.data.prompts import PromptStyle
from avatar.data.shards import write_shards
from avatar.errors import ConfigError, DataError
from avatar.types import Prompt


def line(key, hint, **more):
    return json.dumps({"key": key, "hint": hint, **more}, ensure_ascii=False) + "\n"


@pytest.fixture
def write(tmp_path):
    def make(*lines, name=NAME):
        (tmp_path / name).write_bytes("".join(lines).encode())
        return tmp_path / name

    return make


@pytest.fixture
def folder(shards, tmp_path):
    """Three shards with 25 records, to add hints to."""
    return shutil.copytree(shards, tmp_path / "train")


@pytest.fixture(scope="module")
def decoders():
    pool = start_decoders(1, RULE)
    yield pool
    pool.close()


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_last_line_of_a_key_counts(write):
    hints = Hints(write(line("a", "one"), line("b", "two"), line("a", "three", model="m"), line("ä\n", "four")))
    assert len(hints) == 4
    assert hints.get("a") == {"key": "a", "hint": "three", "model": "m"}
    assert hints.get("b")["hint"] == "two"
    assert hints.get("ä\n")["hint"] == "four"
    assert hints.get("c") is None


def test_keys_that_share_a_hash_are_told_apart(write, monkeypatch):
    monkeypatch.setattr(hints_module, "hash_of", lambda key: len(key))
    hints = Hints(write(line("a", "one"), line("b", "two"), line("c", "three"), line("a", "four")))
    assert [hints.get(key)["hint"] for key in "abc"] == ["four", "two", "three"]
    assert hints.get("d") is None
    assert len(hints.lines_of("a")) == 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.text(st.characters(exclude_characters="<"), min_size=1))))
def test_it_reads_what_a_dictionary_would_hold(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("h") / NAME
    path.write_text("".join(json.dumps({"key": k, "hint": h}) + "\n" for k, h in pairs))
    hints = Hints(path)
    for key in "abcde":
        found = hints.get(key)
        assert (found and found["hint"]) == dict(pairs).get(key)


@pytest.mark.parametrize("cut", [1, 5, 20, 30])
def test_a_last_line_that_was_cut_off_is_left_out(write, cut):
    whole = line("a", "one").encode()
    path = write(line("a", "one"), line("b", "two is longer"))
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    hints = Hints(path)
    assert len(hints) == 1
    assert hints.whole == len(whole)
    assert hints.get("b") is None


def test_a_last_line_without_a_line_break_counts_if_it_is_whole(write):
    assert Hints(write(line("a", "one"), line("b", "two").rstrip())).get("b")["hint"] == "two"


def test_an_empty_file_holds_no_hints(write):
    assert len(Hints(write())) == 0
    assert Hints(write()).get("a") is None


@pytest.mark.parametrize(
    "bad",
    ["{no\n", "[]\n", "\n", '{"key": "a"}\n', '{"key": "", "hint": "x"}\n', '{"key": 1, "hint": "x"}\n',
     '{"key": "a", "hint": ""}\n', '{"key": "a", "hint": "say <|im_end|>"}\n', "[" * 100_000 + "\n"],
)  # fmt: skip
def test_a_line_that_is_no_hint_is_named(write, bad):
    with pytest.raises(DataError, match=rf"{NAME}:2: "):
        Hints(write(line("a", "one"), bad, line("b", "two")))


def test_a_line_without_end_is_not_read_into_memory(write):
    with pytest.raises(DataError, match="longer than"):
        Hints(write("x" * 2**21))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        Hints(tmp_path / NAME)


def test_a_line_that_has_changed_since_is_an_error_and_no_other_hint(write):
    path = write(line("a", "one"), line("b", "two"))
    hints = Hints(path)
    path.write_text("x" * 500)
    with pytest.raises(DataError, match="at byte"):
        hints.get("a")


def test_it_takes_twenty_bytes_of_memory_a_line(tmp_path):
    """8 of a hash, 8 of an offset, 4 of a size; the rest is freed when it is built."""
    num, path = 50_000, tmp_path / NAME
    with path.open("w") as file:
        for i in range(num):
            file.write(line(f"some/long/name/of/a/clip-{i:09d}/q{i % 5}", f"look at the thing that moves first {i}"))
    tracemalloc.start()
    hints = Hints(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / num < 22
    assert peak / num < 80
    assert hints.get("some/long/name/of/a/clip-000049999/q4")["hint"].endswith(" 49999")


# -- over the records --------------------------------------------------------------------------------------------------


def hints_of(folder, decoders, setting):
    dataset = PromptDataset([folder], PromptStyle(letter_options=False), RULE, decoders=decoders, hints=setting)
    found = [dataset[i] for i in range(len(dataset))]
    assert all(isinstance(prompt, Prompt) for prompt in found)
    return {prompt.key: prompt.hint for prompt in found}


def test_hints_beside_the_shards_take_the_place_of_the_records_own(folder, decoders):
    own = hints_of(folder, decoders, None)
    first = next(iter(own))
    (folder / NAME).write_text(line(first, "hear") + line("of-no-record", "x") + line(first, "hear again"))
    assert hints_of(folder, decoders, "auto") == own | {first: "hear again"}
    assert hints_of(folder, decoders, None) == own
    assert Overlay(ShardIndex(folder), "auto").notes == [f"{folder}/{NAME}: hints for 1 of 25 records"]


def test_a_file_elsewhere_is_named_and_takes_the_place_of_that_beside_the_shards(folder, decoders, write):
    own = hints_of(folder, decoders, None)
    first, second, *_ = own
    (folder / NAME).write_text(line(first, "not this"))
    other = write(line(second, "this"), name="other.jsonl")
    assert hints_of(folder, decoders, str(other)) == own | {second: "this"}


def test_a_hint_is_there_too_where_the_clip_is_held_already(folder, decoders):
    """Five questions about one clip: the clip is decoded with the first, the hints are each question's own."""
    keys = list(ShardIndex(folder).keys())[:5]
    (folder / NAME).write_text("".join(line(key, f"hint of {key}") for key in keys))
    dataset = PromptDataset([folder], rule=RULE, decoders=decoders, hints="auto")
    assert [prompt.hint for prompt in dataset.stream(range(5), 5)] == [f"hint of {key}" for key in keys]
    assert dataset.by_key(keys[3]).hint == f"hint of {keys[3]}"


def test_a_shown_hint_is_the_one_from_the_file(tmp_path, samples, decoders):
    key, mp4, records = samples[0]
    shown = replace(records[0], hint="its own", show_hint=True)
    write_shards(tmp_path / "shown", [(key, mp4, [shown])])
    (tmp_path / "shown" / NAME).write_text(line(f"{key}/q0", "from the file"))
    dataset = PromptDataset([tmp_path / "shown"], rule=RULE, decoders=decoders, hints="auto")
    assert dataset[0].messages[0] == {"role": "system", "content": "Hint: from the file"}


def test_remote_hints_come_by_ranges(folder, serve, decoders):
    own = hints_of(folder, decoders, None)
    first = next(iter(own))
    assert not Overlay(ShardIndex(f"{serve(folder).url}/{{00000,00001,00002}}.tar"), "auto").files
    (folder / NAME).write_text(line("x", "x" * 1000) + line(first, "from afar"))
    server = serve(folder)
    overlay = Overlay(ShardIndex(f"{server.url}/{{00000,00001,00002}}.tar"), "auto")
    assert overlay.num_hinted == 1
    server.requests.clear()
    [span] = overlay.lines_of(first)
    assert json.loads(span.read())["hint"] == "from afar"
    [(path, wanted)] = server.requests
    assert path == f"/{NAME}"
    assert wanted.startswith(f"bytes={span.offset}-")


# -- in a run ----------------------------------------------------------------------------------------------------------


def test_training_says_in_a_line_which_hints_it_takes_up(folder, capsys):
    keys = list(ShardIndex(folder).keys())
    (folder / NAME).write_text("".join(line(key, "look") for key in keys[:7]))
    data = ShardData(train=str(folder))
    data.setup("fit")
    assert f"{folder}/{NAME}: hints for 7 of 25 records\n" in capsys.readouterr().err
    assert data.prompt(keys[0]).hint == "look"
    data.decoders.close()
    quiet = ShardData(train=str(folder), hints=None)
    quiet.setup("fit")
    assert "hints" not in capsys.readouterr().err


def test_a_named_file_that_is_of_no_record_stops_the_run(folder, write):
    path = write(line("of-no-record", "look"), name="other.jsonl")
    with pytest.raises(ConfigError, match=r"other\.jsonl has no hint for any record"):
        ShardData(train=str(folder), hints=str(path)).setup("fit")


def test_inspect_and_validate_tell_of_hints(folder, tmp_path, capsys):
    (folder / NAME).write_text(line(next(ShardIndex(folder).keys()), "look"))
    for command in (["inspect", str(folder), "--num=1", f"--out={tmp_path}/sheet.png"], ["validate", str(folder)]):
        assert cli.main(["data", *command]) == 0
        assert f"{folder}/{NAME}: hints for 1 of 25 records" in capsys.readouterr().out
    (folder / NAME).write_text("{no\n")
    assert cli.main(["data", "validate", str(folder)]) == 2
    assert f"{NAME}:1: a line must be" in capsys.readouterr().err
