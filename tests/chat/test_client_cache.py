"""Replies that were paid for once."""

import pytest
from tests_chat_server import ChatServer, says, status

from avatar.chat import ChatClient, ChatReply, ChatRequest, Usage

SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}
ASKED = [ChatRequest([{"role": "user", "content": text}], SCHEMA) for text in ("a", "b", "c")]


def good(request):
    return '{"score": 4}'


def client_of(server, folder, **settings):
    return ChatClient(server.endpoint, "judge", backoff=0.01, cache=str(folder), **settings)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_answered_once_is_answered_with_the_server_down_and_by_any_client(tmp_path):
    with ChatServer(good) as server:
        first = client_of(server, tmp_path).ask(ASKED)
        client = client_of(server, tmp_path)
    told = []
    again = client.ask(ASKED + ASKED[:1], on_reply=lambda i, reply: told.append(i))
    assert len(server.requests) == 3
    assert [reply.data for reply in first] == [reply.data for reply in again[:3]]
    assert again[0] == ChatReply('{"score": 4}', {"score": 4}, 0, 0, cached=True, attempts=0)
    assert client.usage == Usage(requests=4, cached=4)
    assert sorted(told) == [0, 1, 2, 3]
    elsewhere = ChatClient("http://127.0.0.1:9/v1", "judge", cache=str(tmp_path))
    assert elsewhere.ask(ASKED) == again[:3]


def test_another_model_or_sampling_is_asked_anew(tmp_path):
    with ChatServer(good, models=["judge", "other"]) as server:
        client_of(server, tmp_path).ask(ASKED)
        assert not client_of(server, tmp_path, temperature=0.5).ask(ASKED)[0].cached
        assert not client_of(server, tmp_path, max_tokens=9).ask(ASKED)[0].cached
        assert not ChatClient(server.endpoint, "other", cache=str(tmp_path)).ask(ASKED)[0].cached
    assert len(files(tmp_path)) == 12


@pytest.mark.parametrize("behaviour", [says("four"), says('{"mark": 1}'), says(None), status(500), status(404)])
def test_only_good_replies_are_kept(tmp_path, behaviour):
    with ChatServer(good, then=behaviour) as server:
        client_of(server, tmp_path, attempts=2).ask(ASKED)
    assert files(tmp_path) == []


def test_a_reply_that_took_a_complaint_is_kept_under_the_request_as_it_was_given(tmp_path):
    with ChatServer(good, script=[says("four")]) as server:
        assert client_of(server, tmp_path).ask(ASKED[:1])[0].attempts == 2
        [again] = client_of(server, tmp_path).ask(ASKED[:1])
    assert (again.cached, again.text) == (True, '{"score": 4}')
    assert len(server.requests) == 2


def test_a_cached_reply_that_does_not_pass_todays_review_is_asked_anew_and_replaced(tmp_path):
    def review(reply):
        return "Above 4." if reply.data["score"] <= 4 else None

    with ChatServer(good) as server:
        client_of(server, tmp_path).ask(ASKED[:1])
        server.answer = lambda request: '{"score": 5}'
        client = client_of(server, tmp_path)
        assert client.ask(ASKED[:1])[0].data == {"score": 4}
        assert client.ask(ASKED[:1], review)[0].data == {"score": 5}
        assert client.ask(ASKED[:1], review)[0].cached
    assert len(server.requests) == 2
    assert server.requests[1]["messages"] == ASKED[0].messages


def test_a_broken_file_is_a_miss_that_is_counted_and_mended(tmp_path):
    with ChatServer(good) as server:
        client_of(server, tmp_path).ask(ASKED)
        files(tmp_path)[1].write_bytes(b'{"key')
        client = client_of(server, tmp_path)
        assert [reply.cached for reply in client.ask(ASKED)].count(False) == 1
        assert (client.usage.broken, client.usage.cached, client.usage.calls) == (1, 2, 1)
        assert all(reply.cached for reply in client.ask(ASKED))
        assert client.usage.broken == 1


def test_a_cached_text_that_is_none_of_the_schema_is_asked_anew(tmp_path):
    with ChatServer(good) as server:
        client_of(server, tmp_path).ask(ASKED[:1])
        [file] = files(tmp_path)
        file.write_text(file.read_text().replace("score", "mark"))
        assert client_of(server, tmp_path).ask(ASKED[:1])[0].data == {"score": 4}
    assert len(server.requests) == 2


def test_a_reply_that_cannot_be_kept_is_not_lost_and_that_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with ChatServer(good) as server:
        client = client_of(server, tmp_path / "file" / "cache")
        with pytest.warns(UserWarning, match=r"client\.cache: 3 replies could not be kept \(.*in the way|directory"):
            replies = client.ask(ASKED)
    assert [reply.data for reply in replies] == [{"score": 4}] * 3


def test_replies_that_came_before_an_error_of_the_callers_own_are_kept(tmp_path):
    def broken(place, outcome):
        raise KeyError

    with ChatServer(good) as server:
        with pytest.raises(KeyError):
            client_of(server, tmp_path, max_concurrency=1).ask(ASKED, on_reply=broken)
        assert 1 <= len(files(tmp_path)) >= len(server.requests) - 1  # one may have been under way


def test_without_a_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ChatServer(good) as server:
        client = ChatClient(server.endpoint, "judge")
        assert [client.ask(ASKED)[0].cached for _ in range(2)] == [False, False]
    assert list(tmp_path.iterdir()) == []
