"""Against a real server on loopback, which does what servers in the wild do."""

import json
import pickle
import socket
import time
import warnings

import pytest
import torch
from tests_chat_server import (
    USAGE,
    ChatServer,
    body,
    completion,
    detail,
    drip,
    fenced,
    hang_up,
    hang_up_midway,
    huge,
    no_choices,
    ok,
    page,
    says,
    slow,
    status,
)

from avatar.chat import ChatClient, ChatError, ChatReply, ChatRequest, Usage, image_part, text_part
from avatar.chat.talk import MAX_WAIT, PATIENCE, wait
from avatar.errors import ConfigError

SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "maximum": 5}},
    "required": ["score"],
    "additionalProperties": False,
}
GOOD = '{"score": 4}'


def asked(text="How good is it?", schema=SCHEMA):
    return ChatRequest([{"role": "user", "content": text}], schema)


def client_of(server, **settings):
    return ChatClient(server.endpoint, "judge", **{"timeout": 5.0, "backoff": 0.01, **settings})


def good(request):
    return GOOD


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_replies_come_in_the_order_of_their_requests_however_long_each_takes():
    def answer(request):
        number = int(request["messages"][0]["content"])
        time.sleep(0.03 * (number % 3))
        return json.dumps({"score": number})

    with ChatServer(answer) as server:
        schema = {"type": "object", "properties": {"score": {"type": "integer"}}}
        replies = client_of(server).ask([asked(str(i), schema) for i in range(12)])
    assert [reply.data["score"] for reply in replies] == list(range(12))
    assert replies[3] == ChatReply('{"score": 3}', {"score": 3}, USAGE["prompt_tokens"], USAGE["completion_tokens"])


def test_nothing_asked_is_nothing_answered_and_no_server_is_needed():
    assert ChatClient("http://127.0.0.1:9", "judge").ask([]) == []


def test_what_is_sent_is_model_messages_sampling_and_schema_and_nothing_that_a_strict_server_would_refuse():
    picture = image_part(torch.zeros(3, 8, 8, dtype=torch.uint8))
    request = ChatRequest([{"role": "user", "content": [text_part("What is it?"), picture]}], SCHEMA)
    with ChatServer(good) as server:
        client_of(server, temperature=0.5, max_tokens=7).ask([request])
    assert server.requests == [
        {
            "model": "judge",
            "messages": request.messages,
            "temperature": 0.5,
            "max_tokens": 7,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
        }
    ]
    assert server.paths == ["POST /v1/chat/completions"]
    assert server.headers[0]["content-type"] == "application/json"
    assert "authorization" not in server.headers[0]


def test_transformers_serve_knows_every_field_that_is_sent():
    # It answers 422 to a field that is not in this list.
    serving = pytest.importorskip("transformers.cli.serving.chat_completion")
    known = getattr(serving, "TransformersCompletionCreateParamsStreaming", None)
    if known is None:
        pytest.skip("transformers[serving] is not installed")
    with ChatServer(good) as server:
        client_of(server).ask([asked()])
    assert set(server.requests[0]) <= known.__mutable_keys__


def test_free_text_is_the_text_and_no_format_is_asked_for():
    with ChatServer(lambda request: "It is {good}.") as server:
        [reply] = client_of(server).ask([asked(schema=None)])
    assert (reply.text, reply.data, reply.attempts) == ("It is {good}.", None, 1)
    assert "response_format" not in server.requests[0]


def test_no_more_requests_are_in_flight_than_allowed_and_that_many_are():
    with ChatServer(good, then=slow(0.05)) as server:
        client_of(server, max_concurrency=3).ask([asked(str(i)) for i in range(12)])
        assert server.peak == 3
        assert len(server.requests) == 12


def test_requests_that_are_alike_are_asked_once():
    with ChatServer(good) as server:
        client, calls = client_of(server), []
        replies = client.ask([asked("a"), asked("b"), asked("a")], on_reply=lambda i, reply: calls.append((i, reply)))
    assert len(server.requests) == 2
    assert replies[0] is replies[2]
    assert dict(calls) == dict(enumerate(replies))
    assert client.usage.requests == 3
    assert client.usage.prompt_tokens == 2 * USAGE["prompt_tokens"]


DOWN = {
    "500": status(500, "out of memory"),
    "503": status(503, Retry_After="0"),
    "429": status(429, "slow down", Retry_After="0"),
    "408": status(408),
    "409": status(409),
    "425": status(425),
    "hangs up": hang_up,
    "hangs up midway": hang_up_midway,
}
NONSENSE = {
    "a page": page,
    "no choices": no_choices,
    "half JSON": body(completion(GOOD)[:40]),
    "no JSON": body(b"\xff\x00"),
    "a list": body(b"[1, 2]"),
    "a number as content": body(completion(4)),
    "huge": huge,
    "null": says(None),
    "blank": says(" \n"),
    "prose": says("I would say 4"),
    "another schema": says('{"mark": 4}'),
    "too high": says('{"score": 9}'),
}
HICCUPS = [pytest.param("down", behave, id=name) for name, behave in DOWN.items()]
HICCUPS += [pytest.param("nonsense", behave, id=name) for name, behave in NONSENSE.items()]


@pytest.mark.parametrize(("kind", "hiccup"), HICCUPS)
def test_after_any_hiccup_the_next_attempt_counts(kind, hiccup):
    with ChatServer(good, script=[hiccup, hiccup]) as server:
        client = client_of(server)
        [reply] = client.ask([asked()])
    assert (reply.data, reply.attempts, len(server.requests)) == ({"score": 4}, 3, 3)
    assert (client.usage.calls, client.usage.failed) == (3, 0)


@pytest.mark.parametrize(("kind", "hiccup"), HICCUPS)
def test_a_server_that_never_recovers_is_asked_as_often_as_allowed(kind, hiccup):
    with ChatServer(good, then=hiccup) as server:
        client = client_of(server, attempts=2)
        [error] = client.ask([asked()])
    assert isinstance(error, ChatError)
    assert error.kind == kind
    assert "(attempt 2 of 2)" in str(error)
    assert len(server.requests) == 2
    assert (client.usage.failed, client.usage.requests) == (1, 1)


@pytest.mark.parametrize("behaviour", [slow(30.0), drip(0.05)], ids=["slow", "drip"])
def test_a_deadline_holds_for_the_whole_attempt_even_if_bytes_keep_coming(behaviour):
    # The dripping answer takes 250 bytes * 0.05 s = 12 s, and no gap between two bytes is above the deadline.
    with ChatServer(good, script=[behaviour]) as server:
        start = time.perf_counter()
        [first] = client_of(server, timeout=0.3, attempts=1).ask([asked()])
        seconds = time.perf_counter() - start
        [second] = client_of(server, timeout=0.3, attempts=1).ask([asked()])
    assert first.kind == "down"
    assert "no whole answer within 0.3 s (client.timeout)" in str(first)
    assert seconds < 1.5
    assert second.data == {"score": 4}


def test_nobody_there_is_down_and_says_where():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        port = taken.getsockname()[1]
        [error] = ChatClient(f"http://127.0.0.1:{port}", "judge", backoff=0.0, attempts=2).ask([asked()])
    assert error.kind == "down"
    assert f"127.0.0.1:{port}" in str(error)


def test_after_many_requests_without_an_answer_the_rest_is_not_sent():
    with ChatServer(good, then=status(500)) as server:
        outcomes = client_of(server, attempts=2, max_concurrency=2).ask([asked(str(i)) for i in range(40)])
    assert {outcome.kind for outcome in outcomes} == {"down"}
    assert len(server.requests) <= 2 * PATIENCE + 2
    assert "not sent, since 8 requests in a row got no answer" in str(outcomes[-1])


def test_one_answer_in_between_is_enough_to_go_on():
    script = ([status(500)] * (PATIENCE - 1) + [ok]) * 4
    with ChatServer(good, script=script) as server:
        outcomes = client_of(server, attempts=1, max_concurrency=1).ask([asked(str(i)) for i in range(4 * PATIENCE)])
    assert len(server.requests) == 4 * PATIENCE
    assert sum(isinstance(outcome, ChatReply) for outcome in outcomes) == 4


REFUSALS = [
    (status(400, "context too long"), "HTTP 400: context too long"),
    (status(401, "no key"), "HTTP 401: no key; the environment variable OPENAI_API_KEY is not set, so no key was sent"),
    (status(403, "not you"), "OPENAI_API_KEY"),
    (status(404, "The model `judge` does not exist."), "does not exist.; see to it that client.model is served there"),
    (status(413, "too large"), "fewer or smaller pictures"),
    (detail(422, [{"msg": "Unexpected fields"}]), "Unexpected fields"),
    (status(307, "moved", Location="http://other/"), "give the address it leads to as client.endpoint"),
    (status(400, "a\x1b[31m\nb" + "c" * 900), "HTTP 400: a [31m b" + "c" * 200),
]


@pytest.mark.parametrize(("behaviour", "words"), REFUSALS, ids=range(len(REFUSALS)))
def test_a_refusal_fails_at_once_with_the_servers_words_in_short_and_the_way_out(behaviour, words):
    with ChatServer(good, then=behaviour) as server:
        [error] = client_of(server).ask([asked(schema=None)])
    assert error.kind == "refused"
    assert words in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 600
    assert len(server.requests) == 1


def test_a_bad_answer_is_shown_to_the_model_with_what_is_wrong_and_only_the_last_one():
    with ChatServer(good, script=[says("four"), says('{"score": 9}')]) as server:
        client_of(server).ask([asked("How good?")])
    first, second, third = (request["messages"] for request in server.requests)
    assert first == [{"role": "user", "content": "How good?"}]
    assert second[:2] == [*first, {"role": "assistant", "content": "four"}]
    assert third[:2] == [*first, {"role": "assistant", "content": '{"score": 9}'}]
    assert [len(second), len(third)] == [3, 3]
    assert second[2]["role"] == third[2]["role"] == "user"
    assert "no valid JSON" in second[2]["content"]
    assert "at $.score: 9 is greater than the maximum of 5" in third[2]["content"]
    assert json.dumps(SCHEMA) in third[2]["content"]


def test_a_hiccup_after_a_bad_answer_does_not_lose_the_complaint():
    with ChatServer(good, script=[says("four"), status(503)]) as server:
        [reply] = client_of(server).ask([asked()])
    assert reply.attempts == 3
    assert server.requests[1]["messages"] == server.requests[2]["messages"] != server.requests[0]["messages"]


def test_an_answer_that_was_cut_off_says_how_to_get_longer_ones():
    whole = json.loads(completion('{"score": '))
    whole["choices"][0]["finish_reason"] = "length"
    with ChatServer(then=body(json.dumps(whole).encode())) as server:
        client = client_of(server, attempts=2)
        [error], [text] = client.ask([asked()]), client.ask([asked(schema=None)])
    assert "raise client.max_tokens" in str(error)
    assert "be brief" in server.requests[1]["messages"][-1]["content"]
    assert text.finished is False


def test_a_complaint_of_the_review_is_asked_again_like_any_bad_answer():
    def review(reply):
        return "Give at least 3." if reply.data["score"] < 3 else None

    with ChatServer(good, script=[says('{"score": 1}')]) as server:
        [reply] = client_of(server).ask([asked()], review)
        [error] = client_of(server, attempts=2).ask([asked()], lambda reply: "never")
    assert (reply.data, reply.attempts) == ({"score": 4}, 2)
    assert server.requests[1]["messages"][-1]["content"].startswith("Give at least 3.")
    assert error.kind == "nonsense"
    assert "never" in str(error)


@pytest.mark.parametrize("where", ["review", "on_reply"])
def test_an_error_of_the_callers_own_comes_out_as_it_is(where):
    def broken(*args):
        raise KeyError("mine")

    with ChatServer(good, then=slow(0.02)) as server:
        client = client_of(server, max_concurrency=2)
        with pytest.raises(KeyError, match="mine"):
            client.ask([asked(str(i)) for i in range(6)], **{where: broken})
        assert len(server.requests) < 6


def test_outcomes_are_told_as_they_come():
    def answer(request):
        return slow_one() if request["messages"][0]["content"] == "0" else GOOD

    def slow_one():
        time.sleep(0.3)
        return GOOD

    told = []
    with ChatServer(answer) as server:
        client_of(server).ask([asked("0"), asked("1")], on_reply=lambda i, reply: told.append(i))
    assert told == [1, 0]


@pytest.mark.parametrize("code", [400, 422])
def test_a_server_that_takes_no_format_is_asked_without_and_that_is_remembered_and_told(code):
    def strict(call):
        (status(code, "unknown parameter: response_format") if "response_format" in call.request else ok)(call)

    with ChatServer(lambda request: f"```json\n{GOOD}\n```", then=strict) as server:
        client = client_of(server, attempts=1, max_concurrency=1)
        with pytest.warns(UserWarning, match="takes no response_format"):
            first = client.ask([asked("a"), asked("b")])
        with warnings.catch_warnings(action="error"):  # it is told once
            second = client.ask([asked("c")])
    assert [reply.data for reply in first + second] == [{"score": 4}] * 3
    assert ["response_format" in request for request in server.requests] == [True, False, False, False]


def test_a_format_that_is_blamed_wrongly_is_not_given_up():
    with ChatServer(good, script=[status(400, "bad response_format"), status(400, "no, bad messages")]) as server:
        client = client_of(server)
        assert client.ask([asked()])[0].kind == "refused"
        assert client.ask([asked()])[0].data == {"score": 4}
    assert ["response_format" in request for request in server.requests] == [True, False, True]


def test_a_server_that_wants_the_length_limit_under_its_newer_name_gets_it():
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

    def strict(call):
        (status(400, words) if "max_tokens" in call.request else ok)(call)

    with ChatServer(good, then=strict) as server:
        client = client_of(server, max_tokens=9)
        assert [client.ask([asked(t)])[0].data for t in "ab"] == [{"score": 4}] * 2
    assert [request.get("max_completion_tokens") for request in server.requests] == [None, 9, 9]


def test_the_server_says_how_long_to_wait():
    with ChatServer(good, script=[status(503, Retry_After="1")]) as server:
        start = time.perf_counter()
        client_of(server).ask([asked()])
    assert 1.0 <= time.perf_counter() - start < 2.5


def test_waits_double_are_spread_and_bounded_and_no_shorter_than_asked():
    # 2 s * 2**(3 - 1) * (0.5 + 0.25) = 6 s
    assert wait(2.0, 3, None, 0.25) == 6.0
    assert wait(2.0, 3, 5.0, 0.25) == 6.0
    assert wait(2.0, 3, 7.0, 0.25) == 7.0
    assert wait(2.0, 3, 9e9, 0.25) == wait(2.0, 10**6, None, 0.0) == MAX_WAIT
    assert wait(0.0, 5, None, 1.0) == 0.0


def test_a_fenced_answer_needs_no_second_attempt():
    with ChatServer(good, then=fenced) as server:
        assert client_of(server).ask([asked()])[0].attempts == 1


def test_content_may_come_in_parts_and_without_a_count_of_tokens():
    whole = json.loads(completion(None, usage=None))
    whole["choices"][0]["message"]["content"] = [{"type": "text", "text": '{"score":'}, {"type": "text", "text": " 2}"}]
    with ChatServer(then=body(json.dumps(whole).encode())) as server:
        [reply] = client_of(server).ask([asked()])
    assert reply == ChatReply('{"score": 2}', {"score": 2}, 0, 0)


BAD = [
    ({"model": " "}, r"client\.model is empty"),
    ({"timeout": 0.0}, r"client\.timeout must be above 0 seconds, got 0"),
    ({"timeout": float("nan")}, r"client\.timeout"),
    ({"timeout": float("inf")}, r"client\.timeout"),
    ({"temperature": -0.1}, r"client\.temperature must be 0 or more, got -0\.1"),
    ({"backoff": -1.0}, r"client\.backoff must be 0 or more"),
    ({"attempts": 0}, r"client\.attempts must be at least 1, got 0"),
    ({"max_tokens": 0}, r"client\.max_tokens must be at least 1"),
    ({"max_concurrency": 0}, r"client\.max_concurrency must be at least 1"),
    ({"endpoint": "localhost"}, r"client\.endpoint"),
    ({"api_key_env": "sk-123"}, r"client\.api_key_env"),
]


@pytest.mark.parametrize(("change", "words"), BAD, ids=range(len(BAD)))
def test_an_argument_out_of_range_is_named(change, words):
    with pytest.raises(ConfigError, match=words):
        ChatClient(**{"endpoint": "http://localhost:8000/v1", "model": "judge", **change})


def test_a_schema_that_is_none_and_a_message_that_is_no_json_are_errors_of_the_caller():
    client = ChatClient("http://127.0.0.1:9", "judge")
    with pytest.raises(ValueError, match="no JSON schema"):
        client.ask([asked(schema={"type": 4})])
    with pytest.raises(ValueError, match="request 1 is no JSON"):
        client.ask([asked(), ChatRequest([{"role": "user", "content": torch.zeros(2)}])])


def test_a_client_is_plain_values_and_travels_to_other_processes():
    with ChatServer(good) as server:
        client = client_of(server)
        client.ask([asked()])
        there = pickle.loads(pickle.dumps(client))  # noqa: S301
        assert there.ask([asked()])[0].data == {"score": 4}
    assert there.usage == Usage(requests=2, calls=2, prompt_tokens=22, completion_tokens=10)
    assert {**vars(there), "usage": client.usage} == vars(client)
    error = pickle.loads(pickle.dumps(ChatError("gone", "refused")))  # noqa: S301
    assert (str(error), error.kind) == ("gone", "refused")
