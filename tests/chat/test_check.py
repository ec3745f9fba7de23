import socket

import pytest
from tests_chat_server import ChatServer, detail, page, slow, status

from avatar.chat import ChatClient
from avatar.errors import ConfigError


def client_of(server, model="judge", **settings):
    return ChatClient(server.endpoint, model, **{"timeout": 5.0, **settings})


def failure(client):
    """What ``check`` has to say."""
    with pytest.raises(ConfigError) as caught:
        client.check()
    return str(caught.value)


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_model_that_is_listed_is_not_bothered():
    with ChatServer(models=["other", "judge"]) as server:
        client_of(server).check()
    assert server.paths == ["GET /v1/models"]


@pytest.mark.parametrize("models", [["other"], [], None])
def test_a_model_that_is_not_listed_is_asked_and_will_do_if_it_answers(models):
    # `transformers serve` lists what lies in a cache and loads any folder when it is asked for it.
    with ChatServer(models=models, lists_all=False) as server:
        client_of(server).check()
    assert [request["model"] for request in server.requests] == ["judge"]
    assert server.requests[0]["max_tokens"] == 16


def test_a_model_that_is_not_served_is_named_with_those_that_are():
    with ChatServer(models=["a", "b"]) as server:
        words = failure(client_of(server))
    assert "does not answer as client.model 'judge': HTTP 404: The model `judge` does not exist." in words
    assert words.endswith("(it lists: a, b)")


def test_a_long_list_is_cut_and_no_terminal_is_sent_what_a_server_writes():
    models = ["\x1b[31mred", *(f"m{i}" for i in range(50))]
    with ChatServer(models=models, lists_all=False, then=detail(400, "Server is pinned to 'other'")) as server:
        words = failure(client_of(server))
    assert "Server is pinned to 'other'" in words
    assert "(it lists: [31mred, m0, m1, m2, m3, m4, m5, m6, m7, m8, ...)" in words
    assert words.isprintable()


def test_nobody_there_is_said_with_the_address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        words = failure(ChatClient(endpoint, "judge"))
    assert words.startswith(f"client.endpoint: no server answers at {endpoint} (")
    assert words.endswith("; start it, or give its address")


def test_a_server_that_hangs_is_not_waited_for_beyond_the_deadline():
    with ChatServer(models=None, then=slow(30)) as server:
        assert "no whole answer within 0.2 s" in failure(client_of(server, timeout=0.2))


def test_a_server_that_wants_a_key_says_so_by_the_name_of_its_variable():
    with ChatServer(models=None, then=status(401, "who are you?")) as server:
        words = failure(client_of(server))
    assert "who are you?; the environment variable OPENAI_API_KEY is not set" in words


def test_something_else_that_answers_there_is_recognised():
    with ChatServer(models=None, then=page) as server:
        assert "speaks no chat completions: HTTP 200: Welcome" in failure(client_of(server))


def test_a_wrong_path_is_said():
    with ChatServer() as server:
        wrong = server.endpoint.replace("/v1", "/api")
        assert "client.endpoint ends before /chat/completions" in failure(ChatClient(wrong, "judge"))
