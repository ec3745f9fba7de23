import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avatar.chat import ChatReply, ChatRequest
from avatar.chat.reply import MAX_CHARS, NoAnswerError, check_schema, complaint, extract, read

SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 5}, "why": {"type": "string"}},
    "required": ["score"],
    "additionalProperties": False,
}
ANY: dict = {}
OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 4}',
        ' \n{"score": 4}\n\n',
        '```json\n{"score": 4}\n```',
        '```\n{"score": 4}\n```',
        '```JSON {"score": 4}```',
        '```json\n{"score": 4}',  # never closed
        'Here it is:\n```json\n{"score": 4}\n```\nAnything else?',
        'The score is {"score": 4}.',
        'Scores run from {0} to {5} [1]; mine: {"score": 4} [see above]',
        'An example: {"mark": 1}. Mine: {"score": 4}',  # the other object does not keep the schema
        '{"score": 4} Again: {"score": 4}',  # the same twice
        '<think>{"score": 1}? No: {"score": 2}?</think>{"score": 4}',
        'thoughts without a start: {"score": 1}</think>\n\n```json\n{"score": 4}\n```',
    ],
)
def test_the_value_is_found_alone_in_fences_and_in_prose(text):
    assert extract(text, SCHEMA) == {"score": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no valid JSON"),
        ("four", "no valid JSON"),
        ('{"score": 4', "no valid JSON"),
        ("{'score': 4}", "no valid JSON"),
        ('{"score": 4,}', "no valid JSON"),
        ('{"score": 1, "score": 4}', "no valid JSON"),  # which of the two?
        ('{"score": NaN}', "no valid JSON"),
        ('{"score": Infinity}', "no valid JSON"),
        ('{"score": 1e999}', "no valid JSON"),
        ('{"score": ' + "1" * 5000 + "}", "no valid JSON"),  # python refuses to read it
        ('{"score": 9}', r"at \$\.score: 9 is greater than the maximum of 5"),
        ('{"score": "4"}', r"at \$\.score: '4' is not of type 'integer'"),
        ('{"score": true}', "True is not of type 'integer'"),
        ('{"why": "because"}', "'score' is a required property"),
        ('{"score": 4, "extra": 1}', "'extra' was unexpected"),
        ("4", "4 is not of type 'object'"),
        ('{"score": 4} or rather {"score": 5}', "different JSON values"),
        (
            'He wrote {"score": 5}. ```json\n{"score": 1}\n```',
            "different JSON values",
        ),  # what was quoted, or the verdict?
        ("<think>" + '{"score": 4}' + "</think>", "no valid JSON"),
        (" " * (MAX_CHARS + 1), "100,001 characters"),
    ],
)
def test_what_is_no_answer_says_why(text, words):
    with pytest.raises(NoAnswerError, match=words):
        extract(text, SCHEMA)


def test_a_plain_value_counts_alone_or_in_a_fence_but_not_in_prose():
    number = {"type": "number"}
    assert extract("4", number) == extract("```json\n4\n```", number) == 4
    with pytest.raises(NoAnswerError):
        extract("I give it 4", number)


def test_a_fence_within_a_string_is_text():
    assert extract('Mine: {"why": "```json\\n{}\\n```", "score": 2}', SCHEMA) == {"why": "```json\n{}\n```", "score": 2}


@pytest.mark.parametrize(
    "text", ["[" * 50_000, '{"a":' * 20_000, "[" * 900 + "]" * 900, "{" * MAX_CHARS, '["[",' * 20_000]
)
def test_brackets_without_end_are_no_answer_and_take_no_time(text):
    start = time.perf_counter()
    with pytest.raises(NoAnswerError):
        extract(text, SCHEMA)
    assert time.perf_counter() - start < 5


leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(leaves | st.text(), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3))
objects = st.dictionaries(st.text(), values, max_size=3)
frames = st.sampled_from(["{}", "\n```json\n{}\n```\n", "\n```\n{}\n```"])
prose = st.text(st.characters(exclude_characters="{}[]`", exclude_categories=["Cs"]), max_size=30).filter(
    lambda text: "</think>" not in text
)


@given(values, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_json_alone_is_itself(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    if "</think>" not in text:
        assert extract(text, ANY) == value


@given(prose, objects, prose, frames, st.sampled_from([None, 2]))
@settings(max_examples=200, deadline=None)
@example("", {"": "```"}, "", "{}", None)
def test_any_object_in_prose_or_in_a_fence_is_found(before, value, after, frame, indent):
    text = json.dumps(value, indent=indent)
    if "</think>" not in text and not ("```" in text and frame != "{}"):
        assert extract(before + frame.replace("{}", text) + after, OBJECT) == value


@given(prose, objects, prose, objects, prose)
@settings(max_examples=200, deadline=None)
def test_two_different_objects_are_never_guessed_between(a, one, b, other, c):
    text = f"{a} {json.dumps(one)} {b} {json.dumps(other)} {c}"
    if json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or "</think>" in text or "```" in text:
        return
    with pytest.raises(NoAnswerError, match="different"):
        extract(text, OBJECT)


@given(st.text() | st.text('{}[]"`:,1e-. \\ntruefals'))
@settings(max_examples=400, deadline=None)
def test_whatever_is_written_gives_a_value_of_the_schema_or_no_answer(text):
    try:
        value = extract(text, SCHEMA)
    except NoAnswerError:
        return
    assert 0 <= value["score"] <= 5
    assert set(value) <= {"score", "why"}


def test_a_reply_is_read_by_its_requests_schema_and_reviewed_with_its_data():
    seen = []
    reply = read(ChatReply('{"score": 3}'), ChatRequest([], SCHEMA), seen.append)
    assert reply.data == {"score": 3}
    assert seen == [reply]


def test_without_a_schema_any_text_will_do_but_none_or_blanks():
    assert read(ChatReply("hello"), ChatRequest([]), None).data is None
    for blank in ("", " \n"):
        with pytest.raises(NoAnswerError, match="empty"):
            read(ChatReply(blank), ChatRequest([]), None)


def test_a_review_that_complains_makes_it_no_answer():
    with pytest.raises(NoAnswerError, match=r"^too long$"):
        read(ChatReply("hello"), ChatRequest([]), lambda reply: "too long")


def test_a_complaint_names_the_fault_and_the_schema():
    told = complaint("The answer is empty.", SCHEMA)
    assert told.startswith("The answer is empty. Answer again with one JSON value of this schema")
    assert json.dumps(SCHEMA) in told
    assert complaint("The answer is empty.", None) == "The answer is empty. Answer again."


def test_a_schema_that_is_none_is_named():
    check_schema(SCHEMA)
    with pytest.raises(ValueError, match=r"schema is no JSON schema: at \$\.type: 'number of stars' is not valid"):
        check_schema({"type": "number of stars"})


def test_a_schema_of_another_place_is_never_fetched():
    with pytest.raises(Exception, match="Unresolvable"):
        extract("{}", {"$ref": "http://127.0.0.1:9/schema.json"})
