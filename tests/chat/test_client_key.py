"""The key comes from the environment and goes into one header, and nowhere else."""

import logging

import pytest
from tests_chat_server import ChatServer, status

from avatar.chat import ChatClient, ChatRequest
from avatar.errors import ConfigError

KEY = "sk-3141592653"
ASKED = [ChatRequest([{"role": "user", "content": "hello"}])]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)


def client_of(server, **settings):
    return ChatClient(server.endpoint, "judge", "JUDGE_KEY", backoff=0.01, attempts=2, **settings)


def test_it_is_sent_as_a_bearer():
    with ChatServer() as server:
        client_of(server).ask(ASKED)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_it_is_read_when_it_is_needed_so_that_a_client_can_be_stored(monkeypatch):
    with ChatServer() as server:
        client = client_of(server)
        assert KEY not in repr(vars(client))
        monkeypatch.setenv("JUDGE_KEY", "another")
        client.ask(ASKED)
        monkeypatch.delenv("JUDGE_KEY")
        client.ask(ASKED)
    assert [headers.get("authorization") for headers in server.headers] == ["Bearer another", None]


@pytest.mark.parametrize("code", [400, 401, 404, 500, 200])
def test_a_server_that_quotes_it_does_not_get_it_into_errors(code, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with ChatServer(then=status(code, f"wrong key: {KEY}!")) as server:
        client = client_of(server, cache=str(tmp_path))
        [error] = client.ask(ASKED)
    assert "wrong key: ***!" in str(error)
    for seen in (str(error), repr(error), repr(client), repr(vars(client)), caplog.text):
        assert KEY not in seen


def test_not_even_a_part_of_it_where_the_servers_words_are_cut():
    for length in range(250, 320):
        with ChatServer(then=status(401, "x" * length + KEY)) as server:
            [error] = client_of(server).ask(ASKED)
        assert "sk" not in str(error).replace("holds a key", "")


def test_it_is_not_in_the_cache(tmp_path):
    with ChatServer() as server:
        client_of(server, cache=str(tmp_path)).ask(ASKED)
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert KEY not in file.read_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("JUDGE_KEY", "the environment variable JUDGE_KEY holds a key that the server does not take"),
        ("NO_SUCH_KEY", "the environment variable NO_SUCH_KEY is not set, so no key was sent"),
        ("", "name the environment variable that holds it in client.api_key_env"),
    ],
)
def test_a_server_that_wants_another_is_told_by_the_name_of_the_variable(name, words):
    with ChatServer(then=status(401, "no")) as server:
        [error] = ChatClient(server.endpoint, "judge", name).ask(ASKED)
    assert error.kind == "refused"
    assert words in str(error)


def test_it_never_goes_unencrypted_to_another_machine_not_even_if_it_is_set_later(monkeypatch):
    with pytest.raises(ConfigError, match="not encrypted"):
        ChatClient("http://judge.invalid/v1", "judge", "JUDGE_KEY")
    monkeypatch.delenv("JUDGE_KEY")
    client = ChatClient("http://judge.invalid/v1", "judge", "JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    for call in (lambda: client.ask(ASKED), client.check):
        with pytest.raises(ConfigError, match="not encrypted"):
            call()


def test_a_redirection_takes_it_nowhere():
    with ChatServer() as other, ChatServer(then=status(308, Location=other.endpoint + "/chat/completions")) as server:
        [error] = client_of(server).ask(ASKED)
    assert error.kind == "refused"
    assert other.requests == []
