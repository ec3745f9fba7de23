"""Where a client may be called, and how it ends."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
from tests_chat_server import ChatServer, slow

from avatar.chat import ChatClient, ChatRequest


def asked(*texts):
    return [ChatRequest([{"role": "user", "content": text}]) for text in texts]


def our_threads():
    return [thread for thread in threading.enumerate() if thread.name == "avatar-chat"]


def test_it_works_where_a_loop_runs_already_as_in_a_notebook():
    async def cell():
        return ChatClient(server.endpoint, "judge").ask(asked("a"))

    with ChatServer() as server:
        assert asyncio.run(cell())[0].text == "hello"


def test_it_works_in_many_threads_at_once_and_counts_right():
    with ChatServer() as server:
        client = ChatClient(server.endpoint, "judge")
        with ThreadPoolExecutor(8) as pool:
            texts = [[f"{i} {j}" for j in range(10)] for i in range(8)]
            replies = list(pool.map(lambda some: client.ask(asked(*some)), texts))
    assert {reply.text for some in replies for reply in some} == {"hello"}
    assert (client.usage.requests, client.usage.calls, client.usage.completion_tokens) == (80, 80, 400)


def test_on_reply_runs_in_the_callers_thread():
    seen = set()
    with ChatServer() as server:
        client = ChatClient(server.endpoint, "judge")
        client.ask(asked("a", "b"), on_reply=lambda i, reply: seen.add(threading.current_thread()))
    assert seen == {threading.current_thread()}


def test_no_thread_and_no_open_file_is_left():
    with ChatServer(then=slow(0.05)) as server:
        client = ChatClient(server.endpoint, "judge", timeout=0.02, attempts=1)
        client.ask(asked("warm"))
        before = psutil.Process().num_fds()
        for _ in range(5):
            client.ask(asked("a", "b", "c"))
        end = time.monotonic() + 5  # the server's own side of the connections, which is in this process too
        while psutil.Process().num_fds() > before and time.monotonic() < end:
            time.sleep(0.05)
        assert psutil.Process().num_fds() <= before
    assert our_threads() == []


SCRIPT = """
import sys
from avatar.chat import ChatClient, ChatRequest

client = ChatClient(sys.argv[1], "judge", cache=sys.argv[2])
requests = [ChatRequest([{"role": "user", "content": str(i)}]) for i in range(30)]
try:
    client.ask(requests, on_reply=lambda i, reply: print(i, flush=True))
except KeyboardInterrupt:
    import threading
    print("interrupted", [t.name for t in threading.enumerate() if t.name == "avatar-chat"], flush=True)
"""


def test_ctrl_c_ends_it_at_once_and_keeps_what_has_come(tmp_path):
    def answer(request):
        if int(request["messages"][0]["content"]) >= 8:  # the second eight hang
            server.gone.wait(60)
        return "hello"

    with ChatServer(answer) as server:
        command = [sys.executable, "-c", SCRIPT, server.endpoint, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        told = [process.stdout.readline() for _ in range(8)]
        time.sleep(0.2)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        seconds = time.perf_counter() - start
    assert sorted(int(line) for line in told) == list(range(8))
    assert (out, err, process.returncode) == ("interrupted []\n", "", 0)
    assert seconds < 5
    assert len(list(tmp_path.rglob("*.json"))) == 8
