import hashlib
import json
import multiprocessing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.chat import ChatReply, ChatRequest
from avatar.chat.body import Sampling
from avatar.chat.cache import BrokenFileError, ReplyCache

KEY, OTHER = "ab" * 32, "abcd" + "0" * 60


def test_a_reply_comes_back_as_a_cached_one_that_cost_nothing(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.put(KEY, ChatReply('{"score": 4}\udcff é', {"score": 4}, 11, 5, attempts=3, finished=False))
    assert cache.get(KEY) == ChatReply('{"score": 4}\udcff é', None, 0, 0, cached=True, attempts=0, finished=False)
    assert cache.get(OTHER) is None


def test_it_is_one_small_file_in_a_folder_by_its_first_digits_and_nothing_else(tmp_path):
    cache = ReplyCache(tmp_path / "not" / "there" / "yet")
    assert cache.get(KEY) is None
    assert not cache.folder.exists()
    cache.put(KEY, ChatReply("hello"))
    cache.put(KEY, ChatReply("hello again"))
    assert [p for p in cache.folder.rglob("*") if p.is_file()] == [cache.folder / "ab" / f"{KEY}.json"]
    assert json.loads((cache.folder / "ab" / f"{KEY}.json").read_text())["text"] == "hello again"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"key"',
        b"[]",
        b"null",
        b"4",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"key": "KEY", "text": 4, "finished": true}',
        b'{"key": "KEY", "text": "x", "finished": 1}',
        b'{"key": "KEY", "text": "x"}',
        b'{"key": "of another", "text": "x", "finished": true}',
    ],
)
def test_a_file_that_holds_no_reply_to_this_request_is_broken_and_can_be_put_anew(tmp_path, content):
    cache = ReplyCache(tmp_path)
    cache.put(KEY, ChatReply("hello"))
    cache.path(KEY).write_bytes(content.replace(b"KEY", KEY.encode()))
    with pytest.raises(BrokenFileError):
        cache.get(KEY)
    cache.put(KEY, ChatReply("anew"))
    assert cache.get(KEY).text == "anew"


def test_every_cut_of_a_file_is_broken(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.put(KEY, ChatReply("hello"))
    whole = cache.path(KEY).read_bytes()
    for length in range(len(whole)):
        cache.path(KEY).write_bytes(whole[:length])
        with pytest.raises(BrokenFileError):
            cache.get(KEY)


def test_a_file_that_cannot_be_put_leaves_nothing_behind(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.path(KEY).mkdir(parents=True)  # in its place
    with pytest.raises(OSError, match="directory"):
        cache.put(KEY, ChatReply("hello"))
    assert list((tmp_path / "ab").iterdir()) == [cache.path(KEY)]


def fill(folder, writer, broken):
    """Put and get the same twenty keys over and over."""
    cache = ReplyCache(folder)
    for i in range(200):
        key = f"{i % 20:064x}"
        cache.put(key, ChatReply(str(writer) * 5_000))
        try:
            text = cache.get(key).text
        except BrokenFileError:
            broken.put(key)
            continue
        if len(set(text)) != 1 or len(text) != 5_000:
            broken.put(key)


def test_processes_that_share_a_folder_see_whole_files_alone(tmp_path):
    context = multiprocessing.get_context("fork")
    broken = context.Queue()
    writers = [context.Process(target=fill, args=(tmp_path, i, broken)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert broken.empty()
    assert len(list(tmp_path.rglob("*.json"))) == len([p for p in tmp_path.rglob("*") if p.is_file()]) == 20


SAMPLING = Sampling("judge", 0.0, 512)
text = st.text(max_size=10)
parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": text}), max_size=2)
messages = st.lists(st.fixed_dictionaries({"role": text, "content": text | parts}), max_size=3)
requests = st.builds(ChatRequest, messages, st.none() | st.fixed_dictionaries({"type": text}))
samplings = st.builds(Sampling, text, st.floats(0, 2), st.integers(1, 9))


def shuffled(value):
    """The same content, its names in another order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(samplings, requests, samplings, requests)
@settings(max_examples=300, deadline=None)
def test_keys_are_equal_where_the_content_is_and_only_there(sampling, request, other_sampling, other):
    assert sampling.key(request) == sampling.key(ChatRequest(shuffled(request.messages), shuffled(request.schema)))
    same = (sampling, request) == (other_sampling, other)
    assert (sampling.key(request) == other_sampling.key(other)) is same
    assert len(sampling.key(request)) == 64


def test_every_part_of_the_content_counts():
    base = ChatRequest([{"role": "user", "content": "hello"}], {"type": "object"})
    keys = {
        SAMPLING.key(base),
        SAMPLING.key(ChatRequest([{"role": "user", "content": "hello!"}], {"type": "object"})),
        SAMPLING.key(ChatRequest([{"role": "system", "content": "hello"}], {"type": "object"})),
        SAMPLING.key(ChatRequest(base.messages, {"type": "array"})),
        SAMPLING.key(ChatRequest(base.messages)),
        SAMPLING.key(ChatRequest([*base.messages, *base.messages], {"type": "object"})),
        Sampling("other", 0.0, 512).key(base),
        Sampling("judge", 0.5, 512).key(base),
        Sampling("judge", 0.0, 513).key(base),
    }
    assert len(keys) == 9


def test_a_temperature_is_a_number_however_it_is_written():
    request = ChatRequest([{"role": "user", "content": "hello"}])
    assert Sampling("judge", 0, 512).key(request) == SAMPLING.key(request)


def test_the_key_is_the_same_in_another_process_and_another_year():
    # What is in a cache today must be found tomorrow: change this text only together with VERSION.
    request = ChatRequest([{"role": "user", "content": "hello"}], {"type": "object"})
    content = b'[1,"judge",[{"content":"hello","role":"user"}],{"type":"object"},0.0,512]'
    assert SAMPLING.key(request) == hashlib.sha256(content).hexdigest()
