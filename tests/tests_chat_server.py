"""A real HTTP server on loopback that speaks chat completions, and misbehaves when it is told to.

    with ChatServer(answer=lambda request: '{"score": 4}', script=[status(503), says("no JSON"), ok]) as server:
        ...  # server.endpoint, server.requests, server.peak

Each chat request takes the next behaviour of the script, in order of arrival; once that is used up, ``then``. A
behaviour is any ``(Call) -> None``; the ones below cover what servers in the wild do. ``answer`` runs in many threads.
"""

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


class Call:
    """One chat request as a behaviour sees it: ``request`` is its JSON, ``text`` what ``answer`` says to it."""

    def __init__(self, handler: BaseHTTPRequestHandler, server: "ChatServer", request: dict[str, Any]) -> None:
        self.handler, self.server, self.request = handler, server, request

    @property
    def text(self) -> str:
        return self.server.answer(self.request)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than the server lives."""
        self.server.gone.wait(seconds)

    def send(self, code: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        """A whole answer; ``Retry_After="1"`` gives the header Retry-After."""
        self.start(code, len(body), content_type, **headers)
        self.handler.wfile.write(body)

    def start(self, code: int, length: int, content_type: str = "application/json", **headers: str) -> None:
        """The head of an answer of ``length`` bytes."""
        self.handler.send_response(code)
        self.handler.send_header("Content-Type", content_type)
        self.handler.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()

    def say(self, text: str | None) -> None:
        """A good answer."""
        self.send(200, completion(text))


Behaviour = Callable[[Call], None]


def completion(text: str | None, **changes: Any) -> bytes:
    """The body of a good answer, with ``changes``."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    whole = {"id": "1", "object": "chat.completion", "model": "judge", "choices": [choice], "usage": USAGE}
    return json.dumps({**whole, **changes}).encode()


def ok(call: Call) -> None:
    """What ``answer`` says."""
    call.say(call.text)


def says(text: str | None) -> Behaviour:
    """A good answer with this text, whatever ``answer`` would say; None is ``"content": null``."""
    return lambda call: call.say(text)


def fenced(call: Call) -> None:
    """What ``answer`` says, in a fence with prose around it."""
    call.say(f"Sure, here is my verdict:\n```json\n{call.text}\n```\nAnything else?")


def slow(seconds: float) -> Behaviour:
    """A good answer after a while."""

    def behave(call: Call) -> None:
        call.wait(seconds)
        call.say(call.text)

    return behave


def drip(seconds: float = 0.05) -> Behaviour:
    """A good answer, one byte in each so many seconds."""

    def behave(call: Call) -> None:
        body = completion(call.text)
        call.start(200, len(body))
        for byte in body:
            if call.server.gone.is_set():
                return
            call.handler.wfile.write(bytes([byte]))
            call.handler.wfile.flush()
            call.wait(seconds)

    return behave


def status(code: int, message: str = "no", **headers: str) -> Behaviour:
    """An error as OpenAI and vLLM write it; ``status(503, Retry_After="1")``."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
    return lambda call: call.send(code, body, **headers)


def detail(code: int, message: Any) -> Behaviour:
    """An error as FastAPI writes it, which is how `transformers serve` does."""
    return lambda call: call.send(code, json.dumps({"detail": message}).encode())


def unless(field: str, code: int = 400, message: str = "unknown parameter: {}") -> Behaviour:
    """An error that blames ``field`` where the request has it, else a good answer."""

    def behave(call: Call) -> None:
        (status(code, message.format(field)) if field in call.request else ok)(call)

    return behave


def body(content: bytes, content_type: str = "application/json") -> Behaviour:
    """Status 200 with just these bytes."""
    return lambda call: call.send(200, content, content_type)


def no_choices(call: Call) -> None:
    """A completion without a choice."""
    call.send(200, completion(None, choices=[]))


def page(call: Call) -> None:
    """The page of some proxy, with status 200."""
    call.send(200, b"<html><body>Welcome</body></html>", "text/html")


def huge(call: Call, size: int = 1 << 30) -> None:
    """A body without end."""
    call.start(200, size)
    block = b" " * (1 << 20)
    for _ in range(size >> 20):
        call.handler.wfile.write(block)


def hang_up(call: Call) -> None:
    """The connection ends before any answer."""
    call.handler.close_connection = True
    call.handler.connection.close()


def hang_up_midway(call: Call) -> None:
    """The connection ends within the answer."""
    whole = completion(call.text)
    call.start(200, len(whole))
    call.handler.wfile.write(whole[: len(whole) // 2])
    hang_up(call)


class ChatServer:
    """Serves while its ``with`` block runs.

    Args:
        answer: Gets the request's JSON, gives the text of the reply.
        script: Behaviours of the first requests, in order of arrival.
        then: Behaviour of those after the script.
        models: Ids at ``GET /v1/models``, and those that it answers as; None answers 404 there, and as any model.
        lists_all: False if it answers as models that it does not list too, as `transformers serve` does.

    Attributes:
        endpoint: ``http://127.0.0.1:port/v1``.
        requests: The JSON of every chat request, in order of arrival.
        headers: Likewise; names in lower case.
        paths: ``"GET /v1/models"`` and the like, of every request; whole addresses where it stands in as a proxy.
        peak: The most chat requests that were in flight at a time.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], str] = lambda request: "hello",
        script: Sequence[Behaviour] = (),
        then: Behaviour = ok,
        models: Sequence[str] | None = ("judge",),
        lists_all: bool = True,
    ) -> None:
        self.answer, self.script, self.then, self.models = answer, list(script), then, models
        self.lists_all = lists_all
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.peak = self._running = 0
        self.gone, self._lock = threading.Event(), threading.Lock()

    def __enter__(self) -> "ChatServer":
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From here on nothing answers; twice is fine."""
        if not self.gone.is_set():
            self.gone.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def serve(self, handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        """Answer one chat request."""
        with self._lock:
            self.requests.append(request)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            behave = self._next(request)
            self._running += 1
            self.peak = max(self.peak, self._running)
        try:
            behave(Call(handler, self, request))
        finally:
            with self._lock:
                self._running -= 1

    def _next(self, request: dict[str, Any]) -> Behaviour:
        model = request.get("model")
        if self.lists_all and self.models is not None and model not in self.models:
            return status(404, f"The model `{model}` does not exist.")
        return self.script.pop(0) if self.script else self.then


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news here."""


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.paths.append(f"GET {self.path}")
            if urlsplit(self.path).path != "/v1/models" or server.models is None:
                return status(404, "no such page")(Call(self, server, {}))
            listed = [{"id": name, "object": "model"} for name in server.models]
            return Call(self, server, {}).send(200, json.dumps({"object": "list", "data": listed}).encode())

        def do_POST(self) -> None:
            server.paths.append(f"POST {self.path}")
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if urlsplit(self.path).path != "/v1/chat/completions":
                return status(404, "no such page")(Call(self, server, request))
            return server.serve(self, request)

        def log_message(self, *words: Any) -> None:
            """Silent."""

    return Handler
