"""Whether a server is there and serves the model that is wanted."""

from __future__ import annotations

from avatar.chat.completion import opened
from avatar.chat.http import NoConnectionError, fetch
from avatar.chat.request import ChatRequest
from avatar.chat.talk import AttemptError, Talk
from avatar.chat.words import advice, one_line, server_says
from avatar.errors import ConfigError

_MOST = 10  # models that are named
_HELLO = ChatRequest([{"role": "user", "content": "Say hello."}])


async def probe(talk: Talk, base: str) -> None:
    """Look the model up in the server's list; where it is not listed, ask it.

    Raises:
        ConfigError: There is no server, it refuses, or the model is not served.
    """
    model, served = talk.sampling.model, await _served(talk, base)
    if model in served:
        return
    listed = ", ".join(one_line(name, 100) for name in served[:_MOST]) + (", ..." if len(served) > _MOST else "")
    try:
        answer = await talk.post(_HELLO, [])
    except AttemptError as failed:
        known = f" (it lists: {listed})" if served else ""
        raise ConfigError(talk.hidden(f"{base} does not answer as client.model {model!r}: {failed}{known}")) from None
    if opened(answer) is None:
        raise ConfigError(
            talk.hidden(f"what answers at {base} speaks no chat completions: {server_says(answer, talk.key)}")
        )


async def _served(talk: Talk, base: str) -> list[str]:
    """The models that the server lists; [] if it lists none."""
    try:
        answer = await fetch(talk.session, f"{base}/models", talk.timeout)
    except NoConnectionError as error:
        words = f"client.endpoint: no server answers at {base} ({one_line(str(error))}); start it, or give its address"
        raise ConfigError(talk.hidden(words)) from None
    if answer.status in (401, 403, 429) or 300 <= answer.status < 400 or answer.status >= 500:
        words = server_says(answer, talk.key) + advice(answer.status, talk.key_name, talk.key is not None)
        raise ConfigError(talk.hidden(f"client.endpoint: {base}/models: {words}"))
    found = answer.json()
    entries = found.get("data") if isinstance(found, dict) else None
    return [e["id"] for e in entries if _is_model(e)] if isinstance(entries, list) else []


def _is_model(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), str)
