"""Keys in shards: valid whatever the source calls a record, one for each record, and as they were where they can be."""

import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.data.members import split_name
from avatar.data.pack.names import MAX_KEY, Names, clean_key

VALID = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
KEYS = st.text() | st.text(string.ascii_letters + string.digits + "_-/. ", max_size=12)
GOOD_KEYS = st.from_regex(VALID, fullmatch=True).filter(lambda key: len(key) <= MAX_KEY)


@given(KEYS)
def test_a_clean_key_is_a_name_without_dots_or_is_empty(key):
    cleaned = clean_key(key)
    assert cleaned == "" or (split_name(f"{cleaned}.json", "shard") == (cleaned, "json"))
    assert cleaned == "" or (VALID.fullmatch(cleaned) and len(cleaned) <= MAX_KEY)
    assert clean_key(cleaned) == cleaned


@given(GOOD_KEYS)
def test_a_good_key_stays_as_it_is(key):
    assert clean_key(key) == key


def test_what_a_key_becomes():
    assert clean_key("__MACOSX/a") == "MACOSX/a"  # readers of shards pass that folder over
    assert clean_key("../../etc/passwd.txt") == "etc/passwd_txt"
    assert clean_key("/a//b c/./d") == "a/b_c/d"
    assert clean_key("..") == clean_key("") == clean_key("問") == ""
    long = clean_key("x" * 500)
    assert len(long) == MAX_KEY
    assert long != clean_key("x" * 501)  # the hash is of the whole


@settings(max_examples=200)
@given(st.lists(st.tuples(st.lists(KEYS, min_size=1, max_size=4), KEYS), max_size=12))
def test_no_two_records_get_one_key_and_no_two_samples_one_name(groups):
    names, keys, samples = Names(), [], []
    for members, shown in groups:
        if len(members) == 1:
            samples.append(names.one(members[0]))
            keys.append(samples[-1])
            continue
        sample, given_names = names.several(members, shown)
        assert len(given_names) == len(members)
        assert all(VALID.fullmatch(name) and "/" not in name and name == name.lower() for name in given_names)
        samples.append(sample)
        keys += [f"{sample}/{name}" for name in given_names]
    assert all(VALID.fullmatch(sample) for sample in samples)
    assert len(set(keys)) == len(keys)
    assert len(set(samples)) == len(samples)
    singles = [names for names, _ in groups if len(names) == 1]
    assert len(set(keys) & set(samples)) == len(singles)  # a sample with several records is no record's key


def test_records_of_one_clip_keep_their_keys_where_they_share_a_folder():
    assert Names().several(["clip-1/q0", "clip-1/q1"], "x.mp4") == ("clip-1", ["q0", "q1"])


def test_else_they_are_called_by_their_clip():
    assert Names().several(["17", "18"], "videos/abc.x.mp4") == ("videos/abc_x", ["17", "18"])
    assert Names().several(["17", "18"], "/home/someone/abc.mp4") == ("abc", ["17", "18"])  # not where it lies here
    assert Names().several(["17", "a/18"], "") == ("17", ["17", "a_18"])


def test_a_record_of_several_does_not_take_the_key_of_one_alone():
    names = Names()
    assert names.reserve("clip/q0")
    assert names.several(["clip/q0", "clip/q1"], "x.mp4") == ("clip-2", ["q0", "q1"])  # clip/q0 is that of another


def test_a_name_that_is_taken_gets_a_number():
    names = Names()
    assert names.reserve("a-2")
    assert not names.reserve("a-2")
    assert not names.reserve("a.b")
    assert [names.one("a"), names.one("a"), names.one("a")] == ["a", "a-3", "a-4"]
    assert names.several(["q", "Q", "q-2"], "a.mp4") == ("a-5", ["q", "q-3", "q-2"])


def test_many_records_of_one_key_take_no_time_each():
    _, names = Names().several(["same"] * 20_000, "x.mp4")
    assert len(set(names)) == 20_000
