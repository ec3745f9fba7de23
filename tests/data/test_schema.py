import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.data.schema import Record, parse_record, to_prompt
from avatar.errors import DataError

GOOD = {"question": "how many ?", "answer": "2", "problem_type": "number"}
WHERE = "data/00000.tar: clip/q0"


def raw(**fields):
    return json.dumps(GOOD | fields).encode()


def show(record, system=None, letter_options=True):
    return to_prompt(record, "k", (), system, letter_options)


def user_text(prompt):
    return prompt.messages[-1]["content"][-1]["text"]


@given(
    question=st.text(),
    answer=st.integers(-999, 999).map(str),
    chain=st.none() | st.text(),
    hint=st.none() | st.text(),
    show_hint=st.booleans(),
    use_audio_in_video=st.booleans(),
    media=st.sampled_from([{}, {"video": "mp4"}, {"video": "webm"}]),
    metadata=st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.booleans())),
)
def test_a_record_survives_the_way_to_json_and_back(**fields):
    record = Record(problem_type="number", **fields)
    assert parse_record(record.to_json(), WHERE) == record


def test_a_record_is_one_line_with_its_letters_unescaped():
    line = Record(question="wie\nviele Töne ? 几", answer="2").to_json()
    assert b"\n" not in line
    assert "Töne ? 几".encode() in line


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"{'question': 1}", "not JSON"),
        (b"", "not JSON"),
        (b'{"question": "q"', "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b"[1, 2]", "must be a JSON object, got list"),
        (b'"text"', "must be a JSON object, got str"),
        (b'{"answer": "2"}', "'question' is missing"),
        (b'{"question": "q"}', "'answer' is missing"),
        (raw(qestion="q"), "unknown field 'qestion'"),
        (raw(problem_type="mcq"), "'mcq' is none of number, choice, exact"),
        (raw(media={"image": "png"}), "'image' is not supported; known: video"),
    ],
)
def test_a_wrong_record_is_refused_by_place_and_reason(text, wanted):
    with pytest.raises(DataError) as error:
        parse_record(text, WHERE)
    assert str(error.value).startswith(WHERE)
    assert wanted in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("question", 3),
        ("question", None),
        ("answer", 2),
        ("problem_type", None),
        ("media", ["mp4"]),
        ("options", "a / b"),
        ("use_audio_in_video", 1),
        ("use_audio_in_video", "true"),
        ("chain", ["think"]),
        ("hint", False),
        ("show_hint", 0),
        ("metadata", None),
    ],
)
def test_a_field_of_the_wrong_type_is_named(name, value):
    with pytest.raises(DataError, match=f"{name!r} has the wrong type {type(value).__name__}"):
        parse_record(raw(**{name: value}), WHERE)


@pytest.mark.parametrize(
    "fields",
    [
        {"problem_type": "number", "answer": "many"},
        {"problem_type": "number", "answer": "2 or 3"},
        {"problem_type": "number", "answer": "nan"},
        {"problem_type": "exact", "answer": " "},
        {"problem_type": "choice", "answer": "A"},  # no options at all
        {"problem_type": "choice", "answer": "C", "options": ["red", "blue"]},
        {"problem_type": "choice", "answer": "green", "options": ["red", "blue"]},
        {"problem_type": "choice", "answer": "red", "options": ["red", "red"]},  # which of them?
    ],
)
def test_a_gold_answer_that_cannot_be_read_is_refused(fields):
    with pytest.raises(DataError, match=WHERE):
        parse_record(raw(**fields), WHERE)


@pytest.mark.parametrize("answer", ["B", "b", "blue", "B. blue", "(B)"])
def test_a_choice_may_be_named_by_letter_or_by_text(answer):
    record = parse_record(raw(problem_type="choice", answer=answer, options=["red", "blue"]), WHERE)
    assert record.answer == answer


@pytest.mark.parametrize(
    "fields",
    [
        {"problem_type": "choice", "answer": "A", "options": [1, 2]},
        {"problem_type": "choice", "answer": "A", "options": ["red", None]},
        {"media": {"video": ["mp4"]}},
        {"media": {"video": None}},
    ],
)
def test_what_lies_inside_options_and_media_must_be_text(fields):
    with pytest.raises(DataError, match=WHERE):
        parse_record(raw(**fields), WHERE)


def test_a_record_nested_a_hundred_thousand_deep_is_refused_like_any_other():
    with pytest.raises(DataError, match=WHERE):
        parse_record(b"[" * 100_000, WHERE)


def test_a_plain_question_is_one_user_turn_with_clips_before_text():
    prompt = show(Record("q ?", "2", "number", media={"video": "mp4"}))
    assert prompt.messages == [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "q ?"}]}]


def test_a_question_without_media_has_text_alone():
    assert show(Record("q ?", "2")).messages == [{"role": "user", "content": [{"type": "text", "text": "q ?"}]}]


@pytest.mark.parametrize(
    ("system", "hint", "show_hint", "content"),
    [
        ("think first", None, False, "think first"),
        ("think first", "look", False, "think first"),
        ("think first", "look", True, "think first\nHint: look"),
        (None, "look", True, "Hint: look"),
        (None, "look", False, None),
        (None, None, True, None),
    ],
)
def test_the_hint_is_the_last_line_of_the_system_message_and_only_if_shown(system, hint, show_hint, content):
    prompt = show(Record("q ?", "2", hint=hint, show_hint=show_hint), system)
    assert [m["content"] for m in prompt.messages if m["role"] == "system"] == ([] if content is None else [content])
    assert prompt.messages[-1]["role"] == "user"
    assert "look" not in user_text(prompt)


def test_options_are_shown_by_letter_or_on_one_line():
    record = Record("what color ?", "red", "choice", options=["red", "light blue"])
    assert user_text(show(record, letter_options=True)) == "what color ?\nA. red\nB. light blue"
    assert user_text(show(record, letter_options=False)) == "what color ? red / light blue"


def test_with_letters_every_option_is_shown_or_the_record_is_refused():
    options = [f"thing{i:02}" for i in range(27)]  # one more than there are letters
    fields = raw(problem_type="choice", answer="thing26", options=options)
    try:
        record = parse_record(fields, WHERE)
    except DataError:
        return
    assert [o for o in options if o not in user_text(show(record))] == []


def test_a_prompt_carries_what_judging_needs():
    record = Record("q ?", "red", "choice", options=["red", "blue"], chain="c", hint="h", metadata={"kind": "color"})
    prompt = show(record)
    assert (prompt.key, prompt.answer, prompt.problem_type, prompt.options) == ("k", "red", "choice", ("red", "blue"))
    assert (prompt.chain, prompt.hint, prompt.metadata) == ("c", "h", {"kind": "color"})


def test_neither_the_answer_nor_the_chain_nor_the_metadata_is_shown():
    record = Record("q ?", "secret-answer", chain="secret-chain", hint="secret-hint", metadata={"kind": "secret-kind"})
    assert "secret" not in json.dumps(show(record, "sys").messages)
    assert "secret-hint" in json.dumps(show(replace(record, show_hint=True), "sys").messages)
