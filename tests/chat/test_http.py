import asyncio
import email.utils
import gzip
import math
import socket
import threading
import time

import pytest
from tests_chat_server import ChatServer, completion, status

from avatar.chat import ChatClient, ChatRequest
from avatar.chat.http import MAX_BYTES, NoConnectionError, fetch, open_session

HELLO = [ChatRequest([{"role": "user", "content": "hello"}])]


def fetched(url, timeout=5.0, body=None):
    async def run():
        async with open_session(None, 1) as session:
            return await fetch(session, url, timeout, body)

    return asyncio.run(run())


def raw_server(answer):
    """The address of a server that reads once and writes these bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with listener, connection:
            connection.recv(65536)
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x00\x00",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    ],
    ids=range(8),
)
def test_what_is_no_whole_http_is_no_connection(answer):
    with pytest.raises(NoConnectionError):
        fetched(raw_server(answer))


def test_an_answer_is_read_up_to_the_bound_also_if_it_is_packed_small():
    bomb = gzip.compress(bytes(100 << 20))  # 100 MB in 100 kB
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    answer = fetched(raw_server(head.encode() + bomb))
    assert (len(answer.body), answer.whole, answer.json()) == (MAX_BYTES, False, None)


def test_a_body_of_exactly_the_bound_is_whole():
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BYTES}\r\n\r\n"
    answer = fetched(raw_server(head.encode() + b"4" + b" " * (MAX_BYTES - 1)))
    assert (answer.whole, answer.json()) == (True, 4)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("-3", None),
        ("1e9", None),
        ("soon", None),
        ("", None),
        ("9" * 400, math.inf),
    ],
)
def test_retry_after_is_a_number_of_seconds(header, seconds):
    with ChatServer(then=status(503, Retry_After=header)) as server:
        answer = fetched(f"{server.endpoint}/chat/completions", body={"model": "judge"})
    assert (answer.status, answer.retry_after) == (503, seconds)


def test_retry_after_is_a_date_and_one_that_is_past_means_now():
    for ahead, least, most in ((100, 95, 100), (-100, 0, 0)):
        date = email.utils.formatdate(time.time() + ahead, usegmt=True)
        with ChatServer(then=status(503, Retry_After=date)) as server:
            answer = fetched(f"{server.endpoint}/chat/completions", body={"model": "judge"})
        assert least <= answer.retry_after <= most


def test_another_machine_is_reached_by_the_proxy_of_the_environment_and_this_one_without(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with ChatServer() as proxy, ChatServer() as server:
        monkeypatch.setenv("http_proxy", proxy.endpoint.removesuffix("/v1"))
        assert ChatClient("http://judge.invalid/v1", "judge").ask(HELLO)[0].text == "hello"
        assert ChatClient(server.endpoint, "judge").ask(HELLO)[0].text == "hello"
        monkeypatch.setenv("no_proxy", "judge.invalid")
        assert ChatClient("http://judge.invalid/v1", "judge", attempts=1).ask(HELLO)[0].kind == "down"
    assert proxy.paths == ["POST http://judge.invalid/v1/chat/completions"]
    assert server.paths == ["POST /v1/chat/completions"]


def test_connections_are_used_again():
    ports = set()

    def answer(call):
        ports.add(call.handler.client_address[1])
        call.send(200, completion("hello"))

    with ChatServer(then=answer) as server:
        requests = [ChatRequest([{"role": "user", "content": str(i)}]) for i in range(6)]
        ChatClient(server.endpoint, "judge", max_concurrency=2).ask(requests)
    assert len(ports) <= 2
