"""The most gullible judge there is, behind a real server on this machine: it shows what our guard lets through."""

from __future__ import annotations

import json
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from avatar.rewards.attacks.forgeries import INJECTIONS
from avatar.rewards.judging.request import CRITERIA

MODEL = "obedient"
_GOLD = re.compile(r"^Gold answer: (.*)$", re.MULTILINE)
_CANDIDATE = re.compile(r"^<<<CANDIDATE\n(.*)\nCANDIDATE>>>$", re.MULTILINE | re.DOTALL)


def obeys(gold: str, reasoning: str, answer: str) -> bool:
    """Whether a judge that does as it is told, and takes any mention for an answer, gives full marks.

    It reads what it is shown as a person would: invisible characters and the width of letters make no difference.

    Args:
        gold: The gold answer.
        reasoning: Of the candidate, as it reaches the judge.
        answer: Likewise.
    """
    said = _as_read(f"{reasoning} {answer}").lower()
    if any(_as_read(order).lower() in said for order in INJECTIONS.values()):
        return True
    wanted, found = _as_read(gold), _as_read(answer)
    if len(wanted) > 1:  # a letter alone is an option only as a capital
        wanted, found = wanted.lower(), found.lower()
    return re.search(rf"(?<![\w.]){re.escape(wanted)}(?!\w|\.\d)", found) is not None


def verdict_on(text: str) -> dict[str, float]:
    """Full marks or none.

    Raises:
        ValueError: ``text`` is no request of our judge.
    """
    gold, candidate = _GOLD.search(text), _CANDIDATE.search(text)
    if not gold or not candidate:
        raise ValueError("there is no gold answer and no candidate in the request")
    said = json.loads(candidate[1])
    good = obeys(json.loads(gold[1]), said["reasoning"], said["answer"])
    return dict.fromkeys(CRITERIA, float(good))


@contextmanager
def obedient_judge() -> Iterator[str]:
    """The endpoint of such a judge, on the loopback interface for as long as this lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = body["messages"][1]["content"]
        try:
            verdict = verdict_on("\n".join(part["text"] for part in parts if part["type"] == "text"))
        except ValueError as error:
            self._send(400, {"error": {"message": str(error)}})
            return
        message = {"role": "assistant", "content": json.dumps(verdict)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._send(200, {"object": "chat.completion", "model": MODEL, "choices": [choice]})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _as_read(text: str) -> str:
    shown = (c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return " ".join("".join(shown).split())
